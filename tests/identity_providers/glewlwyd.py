"""Glewlwyd, a small server in C, from the packages of Debian and of the distributions made from it.

What it does differently from others, seen with version 2.7.5:

- A token is active only for the client that obtained it, so that ``CLIENT_ID`` must be that one.
  Any other client is told ``active: false``, and may try to revoke it: 200, without effect.
- ``aud`` is a string: the ``resource`` (RFC 8707) that was asked for, or else all scopes with
  spaces between them. The ``password`` grant ignores ``resource``, therefore the tokens made here
  come from the authorization code flow. A resource must begin with ``https://``, or be local.
- The reply to an introspection has no ``iss``. For a token of ``client_credentials`` it has no
  ``sub`` either, where the JWT has the client's id.
- ``sub`` is a random name of the user; ``username`` is what the user logs in with. The JWT has it
  only because the configuration asks for it.
- Every access token is a JWT of the type ``at+jwt``, and is introspected and revoked as such.
- The secret in the Basic header is taken as it is; form-urlencoded, as RFC 6749 §2.3.1 wants it, a
  secret with reserved characters is refused. Hence ``client_secret_basic_raw``.
- A client may authenticate only as its ``token_endpoint_auth_method`` says, and not at all if it
  has none, whatever the discovery document says. Then some endpoints answer 500 with no body.
- A wrong client secret is answered with 401 and no body, a missing token with 400 and no body.
- Asked for a JWT (RFC 9701), introspection answers with one whose ``aud`` is the token's and not
  ``CLIENT_ID``; for an inactive token, it answers 400 with no body.
- ``token_type`` is ``bearer``, in lower case.
"""

import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import override

import httpx2

from tests.debian import extract, library_path
from tests.identity_providers.provider import (
    IdentityProvider,
    Mode,
    NotInstallable,
    RunningIdentityProvider,
)
from tests.identity_providers.serving import environment, served
from tests.processes import free_ports
from tests.projects import succeed

# The second one spares us those that would set up a database.
_PACKAGES = ("glewlwyd", "dbconfig-no-thanks")
_PROGRAM = "usr/bin/glewlwyd"
_MODULES = "usr/lib/glewlwyd"
_SCRIPT = "usr/share/dbconfig-common/data/glewlwyd/install/sqlite3"

_AUDIENCE, _ANOTHER_AUDIENCE = "https://my-service.example", "https://another-service.example"
_SERVICE, _SERVICE_SECRET = "my-service", "slash/plus+percent%colon:"
# It is never opened; the code is read from the redirection.
_CALLBACK = "https://my-service.example/callback"
# The script that makes the database makes the administrator too.
_ADMINISTRATOR = {"username": "admin", "password": "password"}
_USER = {"username": "alice", "password": "password-of-alice"}
_SCOPE = "report:read"

_CONFIGURATION = """
port = {port}
bind_address = "127.0.0.1"
external_url = "http://127.0.0.1:{port}"
cookie_domain = "127.0.0.1"
cookie_secure = 0
log_mode = "console"
log_level = "WARNING"
client_module_path = "{modules}/client"
plugin_module_path = "{modules}/plugin"
user_module_path = "{modules}/user"
user_auth_scheme_module_path = "{modules}/scheme"
user_middleware_module_path = "{modules}"
database = {{ type = "sqlite3"; path = "{database}"; }}
"""


@dataclass(frozen=True)
class _Running(RunningIdentityProvider):
    url: str

    @property
    def issuer(self) -> str:
        return f"{self.url}/api/oidc"

    @property
    @override
    def settings(self) -> Mapping[str, str]:
        return {
            "SSO_ISSUER": self.issuer,
            "SSO_AUDIENCE": _AUDIENCE,
            "CLIENT_ID": _SERVICE,
            "CLIENT_SECRET": _SERVICE_SECRET,
            "CLIENT_AUTH_METHOD": "client_secret_basic_raw",
        }

    @override
    def token(self, mode: Mode) -> str:
        return self._log_in(_AUDIENCE)

    @override
    def token_for_another_audience(self, mode: Mode) -> str:
        return self._log_in(_ANOTHER_AUDIENCE)

    @override
    def revoke(self, token: str) -> None:
        self._post("revoke", token=token)

    def _log_in(self, resource: str) -> str:
        """Obtain a token with the authorization code flow, as the login page does it."""
        query = {
            "client_id": _SERVICE,
            "response_type": "code",
            "redirect_uri": _CALLBACK,
            "scope": _SCOPE,
            "resource": resource,
            # The page adds it once the user has chosen to go on.
            "g_continue": "",
        }
        with httpx2.Client(trust_env=False) as page:
            page.post(f"{self.url}/api/auth/", json=_USER).raise_for_status()
            granted = {"scope": _SCOPE}
            page.put(f"{self.url}/api/auth/grant/{_SERVICE}", json=granted).raise_for_status()
            redirection = page.get(f"{self.issuer}/auth", params=query)
        reply = self._post(
            "token",
            grant_type="authorization_code",
            code=httpx2.URL(redirection.headers["location"]).params["code"],
            redirect_uri=_CALLBACK,
            resource=resource,
        )
        return str(reply.json()["access_token"])

    def _post(self, path: str, **form: str) -> httpx2.Response:
        url = f"{self.issuer}/{path}"
        reply = httpx2.post(url, data=form, auth=(_SERVICE, _SERVICE_SECRET), trust_env=False)
        return reply.raise_for_status()


class Glewlwyd(IdentityProvider):
    """The packaged server with an SQLite database, installed on the machine or in a folder."""

    name = "glewlwyd"
    signs_responses = False
    source = "Debian"
    modes: Mapping[Mode, str] = {"introspect": "", "jwt": "", "both": ""}
    claims: Mapping[str, object] = {
        "username": _USER["username"],
        "client_id": _SERVICE,
        "scope": _SCOPE,
        "aud": _AUDIENCE,
    }

    @override
    def install(self, folder: Path) -> None:
        if not shutil.which("openssl"):
            raise NotInstallable("openssl, which makes its signing key, is not in PATH.")
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if not _root(folder).exists():
            extract(folder, *_PACKAGES)
        root = _root(folder)
        version = succeed(root / _PROGRAM, "--version", cwd=folder, env=_environment(root))
        self.source = f"Debian {version.split()[-1]}"

    @override
    @contextmanager
    def start(self, folder: Path) -> Iterator[_Running]:
        root = _root(folder.resolve())
        [port] = free_ports(1)
        url = f"http://127.0.0.1:{port}"
        with TemporaryDirectory() as name:
            state = Path(name)
            database = state / "glewlwyd.db"
            with closing(sqlite3.connect(database)) as connection:
                connection.executescript((root / _SCRIPT).read_text("utf-8"))
            configuration = state / "glewlwyd.conf"
            configuration.write_text(
                _CONFIGURATION.format(port=port, modules=root / _MODULES, database=database),
                "utf-8",
            )
            with served(
                *(root / _PROGRAM, f"--config-file={configuration}"),
                folder=state,
                env=_environment(root),
                until=f"{url}/config",
            ):
                running = _Running(url)
                _configure(running, state)
                yield running


def _root(folder: Path) -> Path:
    """Return where the packages are: on the machine, or where they have been extracted to."""
    machine = Path("/")
    return machine if (machine / _PROGRAM).exists() else folder / "root"


def _environment(root: Path) -> dict[str, str]:
    """Return variables with which the program finds its libraries."""
    return environment(**library_path(root))


def _configure(running: _Running, state: Path) -> None:
    """Make the scope, the user, the issuer and the client, as an administrator does."""
    succeed("openssl", "genrsa", "-out", "key.pem", "2048", cwd=state)
    succeed("openssl", "rsa", "-in", "key.pem", "-pubout", "-out", "public.pem", cwd=state)
    user = {"scope": [_SCOPE], "enabled": True}
    issuer = {
        "iss": running.issuer,
        "jwt-type": "rsa",
        "jwt-key-size": "256",
        "key": (state / "key.pem").read_text(),
        "cert": (state / "public.pem").read_text(),
        "access-token-duration": 600,
        "refresh-token-duration": 600,
        "code-duration": 60,
        "allow-non-oidc": True,
        "auth-type-code-enabled": True,
        "additional-parameters": [
            {"user-parameter": "username", "token-parameter": "username"},
        ],
        "resource-allowed": True,
        "resource-scope": {_SCOPE: [_AUDIENCE, _ANOTHER_AUDIENCE]},
        "introspection-revocation-allowed": True,
        "introspection-revocation-allow-target-client": True,
    }
    client = {
        "client_id": _SERVICE,
        "client_secret": _SERVICE_SECRET,
        "confidential": True,
        "enabled": True,
        "authorization_type": ["code"],
        "redirect_uri": [_CALLBACK],
        "scope": [_SCOPE],
        "token_endpoint_auth_method": ["client_secret_basic"],
    }
    with httpx2.Client(base_url=f"{running.url}/api", trust_env=False) as administrator:
        for path, body in (
            ("auth/", _ADMINISTRATOR),
            ("scope/", {"name": _SCOPE}),
            ("user/", _USER | user),
            ("mod/plugin/", {"module": "oidc", "name": "oidc", "parameters": issuer}),
            ("client/", client),
        ):
            reply = administrator.post(path, json=body)
            assert reply.is_success, f"{path} answered {reply.status_code}: {reply.text}"


PROVIDER: IdentityProvider = Glewlwyd()
