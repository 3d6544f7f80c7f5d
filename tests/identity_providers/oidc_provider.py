"""oidc-provider, the OpenID-certified server of the Node.js world, as its users configure it.

What it does differently from others, seen with version 9.13.3:

- A token has an ``aud`` only if it was asked for with a ``resource`` (RFC 8707); it is then a
  string. The resource decides too whether the token is opaque or a JWT.
- Introspection answers 400 ``unsupported_token_type`` to everything that looks like a JWT, its own
  included, and so does revocation. ``SSO_MODE=both`` can therefore not work with it.
- A token of ``client_credentials`` has no ``sub`` when it is introspected; as a JWT it has the
  client's id there. The tokens made here are a user's.
- The reply to an introspection has no ``username``, unless ``extraTokenClaims`` adds it.
- A refresh token is active too, whatever ``token_type_hint`` says. It has no ``token_type``.
- The id and the secret in the Basic header must be form-urlencoded (RFC 6749 §2.3.1). The secret
  here has the characters that make a difference: sent as it is, it is answered with 400.
- The introspection reply is a JWT (RFC 9701) for whoever prefers that in ``Accept``, with
  ``CLIENT_ID`` as its ``aud``. A mistake is answered with JSON all the same.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import override

import httpx2

from tests.identity_providers.provider import (
    IdentityProvider,
    Mode,
    NotInstallable,
    RunningIdentityProvider,
)
from tests.identity_providers.serving import environment, served
from tests.processes import free_ports
from tests.projects import output, run

_FILES = Path(__file__).with_suffix("")
_PACKAGE = json.loads((_FILES / "package.json").read_text("utf-8"))
_VERSION = _PACKAGE["dependencies"]["oidc-provider"]
_OLDEST_NODE = 20

_AUDIENCE, _ANOTHER_AUDIENCE = "https://my-service.example", "https://another-service.example"
_SERVICE, _SERVICE_SECRET = "my-service", "slash/plus+percent%colon:"
_WEB, _WEB_SECRET = "web", "secret-of-the-web-client"
_USER = "alice"
_SCOPE = "report:read"
_FORMATS: Mapping[Mode, str] = {"introspect": "opaque", "jwt": "jwt", "both": "jwt"}


@dataclass(frozen=True)
class _Running(RunningIdentityProvider):
    issuer: str

    @property
    @override
    def settings(self) -> Mapping[str, str]:
        return {
            "SSO_ISSUER": self.issuer,
            "SSO_AUDIENCE": _AUDIENCE,
            "CLIENT_ID": _SERVICE,
            "CLIENT_SECRET": _SERVICE_SECRET,
        }

    @override
    def token(self, mode: Mode) -> str:
        return self._log_in(_resource(_AUDIENCE, mode))

    @override
    def token_for_another_audience(self, mode: Mode) -> str:
        return self._log_in(_resource(_ANOTHER_AUDIENCE, mode))

    @override
    def revoke(self, token: str) -> None:
        self._post("token/revocation", token=token)

    def _log_in(self, resource: str) -> str:
        """Obtain a token with the authorization code flow, through the pages of the server."""
        query = {
            "client_id": _WEB,
            "response_type": "code",
            "redirect_uri": _callback(self.issuer),
            "scope": f"openid {_SCOPE}",
            "resource": resource,
        }
        with httpx2.Client(follow_redirects=True, trust_env=False) as browser:
            login = browser.get(f"{self.issuer}/auth", params=query).raise_for_status()
            form = {"prompt": "login", "login": _USER, "password": "any"}
            consent = browser.post(login.url, data=form).raise_for_status()
            callback = browser.post(consent.url, data={"prompt": "consent"})
        granted = self._post(
            "token",
            grant_type="authorization_code",
            code=callback.url.params["code"],
            redirect_uri=_callback(self.issuer),
            resource=resource,
        )
        return str(granted.json()["access_token"])

    def _post(self, path: str, **form: str) -> httpx2.Response:
        url = f"{self.issuer}/{path}"
        reply = httpx2.post(url, data=form, auth=(_WEB, _WEB_SECRET), trust_env=False)
        return reply.raise_for_status()


class OidcProvider(IdentityProvider):
    """The package behind ``server.mjs``, which configures it with little more than clients."""

    name = "oidc-provider"
    signs_responses = True
    source = f"npm {_VERSION}"
    modes: Mapping[Mode, str] = {
        "introspect": "",
        "jwt": "",
        "both": "it refuses to introspect a JWT",
    }
    claims: Mapping[str, object] = {
        "sub": _USER,
        "username": _USER,
        "client_id": _WEB,
        "scope": _SCOPE,
        "aud": _AUDIENCE,
    }

    @override
    def install(self, folder: Path) -> None:
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        _require_node(folder)
        for file in _FILES.iterdir():
            shutil.copy2(file, folder)
        receipt = folder / f"installed-{_VERSION}"
        if receipt.exists():
            return
        # A cache of our own, because not everybody who runs the tests has a home folder.
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
        # What it depends on is as of the day that our own packages are as of.
        options += ["--no-package-lock", f"--before={os.environ['UV_EXCLUDE_NEWER']}"]
        done = run("npm", "install", *options, f"--cache={folder / 'cache'}", cwd=folder)
        if done.returncode:
            lines = output(done).splitlines()
            errors = [line for line in lines if line.startswith("npm error") and "log" not in line]
            problem = " ".join(errors).replace("npm error ", "")[:300]
            raise NotInstallable(f"npm could not install oidc-provider {_VERSION} ({problem}).")
        receipt.touch()

    @override
    @contextmanager
    def start(self, folder: Path) -> Iterator[_Running]:
        [port] = free_ports(1)
        issuer = f"http://127.0.0.1:{port}"
        with TemporaryDirectory() as state:
            configuration = Path(state) / "configuration.json"
            configuration.write_text(json.dumps(_configuration(port, issuer)), "utf-8")
            with served(
                *("node", folder.resolve() / "server.mjs", configuration),
                folder=Path(state),
                env=environment(),
                until=f"{issuer}/.well-known/openid-configuration",
            ):
                yield _Running(issuer)


def _require_node(folder: Path) -> None:
    """Raise ``NotInstallable`` if Node.js or npm is missing, or too old for the package."""
    if not shutil.which("node") or not shutil.which("npm"):
        raise NotInstallable("Node.js and npm are not in PATH.")
    version = run("node", "--version", cwd=folder).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < _OLDEST_NODE:
        raise NotInstallable(f"It needs Node.js {_OLDEST_NODE} or later, and this is {version}.")


def _configuration(port: int, issuer: str) -> Mapping[str, object]:
    """Return what ``server.mjs`` reads."""
    web = {
        "client_id": _WEB,
        "client_secret": _WEB_SECRET,
        "redirect_uris": [_callback(issuer)],
    }
    service = {
        "client_id": _SERVICE,
        "client_secret": _SERVICE_SECRET,
        "grant_types": [],
        "redirect_uris": [],
        "response_types": [],
    }
    resources = {
        _resource(audience, mode): {
            "audience": audience,
            "scope": _SCOPE,
            "accessTokenFormat": _FORMATS[mode],
        }
        for audience in (_AUDIENCE, _ANOTHER_AUDIENCE)
        for mode in _FORMATS
    }
    return {"port": port, "issuer": issuer, "clients": [web, service], "resources": resources}


def _resource(audience: str, mode: Mode) -> str:
    """Return the resource to ask for; it must be a URL, though nothing is fetched there."""
    return f"{audience}/{_FORMATS[mode]}"


def _callback(issuer: str) -> str:
    """Return where the server sends the browser with the code; it answers 404 there itself."""
    return f"{issuer}/callback"


PROVIDER: IdentityProvider = OidcProvider()
