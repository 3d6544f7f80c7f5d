"""django-oauth-toolkit: the OAuth2 provider that a Django project builds in.

What it does differently, and why it is here (measured with 3.4.1):

- Mounted under ``/o/``, as its tutorial has it, the issuer has a path. The OpenID Connect document
  names no ``introspection_endpoint``; RFC 8414's does, but it stands only where RFC 8414 §3.1 does
  not look for it, at ``ISSUER/.well-known/oauth-authorization-server``. The inserted place answers
  404 with HTML.
- The reply to introspection has ``active``, ``scope``, ``exp`` and ``client_id``; ``username``
  where a user stands behind the token; and ``aud``, always a list, where the token was asked for
  with ``resource`` (RFC 8707). There is no ``sub``, ``iss``, ``iat``, ``token_type`` or ``jti``.
- Its response has no ``sub``, so SSO_SUBJECT_CLAIM=username is what tells users apart.
- ``resource`` must be an absolute URI with a host, so SSO_AUDIENCE has to be one.
- A wrong client secret is answered with 403, an empty body and ``text/html``. So is a missing one.
- Any client may introspect any token, and only the client that a token was issued to may revoke it;
  another one's attempt is answered with 200 and changes nothing.
- The client secret is stored as a password's hash, and every call checks it, which takes a third
  of a second of processor time and more on a busy machine.
- Both the id and the secret are form-decoded, as RFC 6749 §2.3.1 says: the secret here has all the
  characters that need it.
- A refresh token is inactive, a JWT of somebody else too, and both are answered with 200.
- Access tokens are opaque. ACCESS_TOKEN_GENERATOR can be oauthlib's signed one instead, but such a
  token has no ``sub``, ``aud``, ``iat`` or ``kid``, only ``scope``, ``exp`` and what never changes.
"""

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
    RunningIdentityProvider,
)
from tests.identity_providers.python_packages import install_packages
from tests.identity_providers.serving import environment, served
from tests.processes import free_ports
from tests.projects import succeed

_PROJECT = Path(__file__).with_name("django_project")
_AUDIENCE = "https://service.example/api"
_CALLER = ("frontend", "the caller's secret")
_SERVICE = ("service", "s3cret: +/%&=?#")
_USER = ("alice", "correct horse battery staple")


@dataclass(frozen=True)
class _Running(RunningIdentityProvider):
    issuer: str

    @property
    @override
    def settings(self) -> Mapping[str, str]:
        client_id, client_secret = _SERVICE
        return {
            "SSO_ISSUER": self.issuer,
            "SSO_AUDIENCE": _AUDIENCE,
            "SSO_SUBJECT_CLAIM": "username",
            "CLIENT_ID": client_id,
            "CLIENT_SECRET": client_secret,
        }

    @override
    def token(self, mode: Mode) -> str:
        return self._token(_AUDIENCE)

    @override
    def token_for_another_audience(self, mode: Mode) -> str:
        return self._token("https://another.example/api")

    def _token(self, resource: str) -> str:
        """Get a token for a user, because one for a client alone has no ``username``."""
        username, password = _USER
        reply = self._post(
            "token",
            grant_type="password",
            username=username,
            password=password,
            scope="read",
            resource=resource,
        )
        return str(reply.json()["access_token"])

    @override
    def revoke(self, token: str) -> None:
        self._post("revoke_token", token=token, token_type_hint="access_token")

    def _post(self, endpoint: str, **form: str) -> httpx2.Response:
        client_id, client_secret = _CALLER
        form |= {"client_id": client_id, "client_secret": client_secret}
        url = f"{self.issuer}/{endpoint}/"
        # A password and a secret are hashed in the meantime.
        reply = httpx2.post(url, data=form, timeout=30, trust_env=False)
        return reply.raise_for_status()


class DjangoOAuthToolkit(IdentityProvider):
    """The provider inside the smallest Django project, on SQLite."""

    name = "django-oauth-toolkit"
    signs_responses = False
    source = "PyPI 3.4.1"
    modes: Mapping[Mode, str] = {
        "introspect": "",
        "jwt": "its access tokens are opaque",
        "both": "its access tokens are opaque",
    }
    claims: Mapping[str, object] = {
        "username": "alice",
        "client_id": "frontend",
        "scope": "read",
        "aud": [_AUDIENCE],
    }

    @override
    def install(self, folder: Path) -> None:
        install_packages(folder, "django-oauth-toolkit==3.4.1", "django==6.1.3")

    @override
    @contextmanager
    def start(self, folder: Path) -> Iterator[_Running]:
        django = folder.resolve() / "venv" / "bin" / "django-admin"
        [port] = free_ports(1)
        with TemporaryDirectory() as state:
            env = environment(
                STATE_FOLDER=state,
                PYTHONPATH=str(_PROJECT),
                DJANGO_SETTINGS_MODULE="settings",
                DJANGO_SUPERUSER_PASSWORD=_USER[1],
            )
            _fill_database(django, Path(state), env)
            issuer = f"http://127.0.0.1:{port}/o"
            with served(
                *(django, "runserver", "--noreload", f"127.0.0.1:{port}"),
                folder=Path(state),
                env=env,
                until=f"{issuer}/.well-known/openid-configuration",
            ):
                yield _Running(issuer)


def _fill_database(django: Path, state: Path, env: Mapping[str, str]) -> None:
    """Make the tables, the user, a client that gets tokens and the client of the service."""
    user = ["--username", _USER[0], "--email", "alice@example.com"]
    succeed(django, "migrate", "--verbosity=0", cwd=state, env=env)
    succeed(django, "createsuperuser", "--noinput", *user, cwd=state, env=env)
    for grant, (client_id, client_secret) in {
        "password": _CALLER,
        "client-credentials": _SERVICE,
    }.items():
        client = ["--client-id", client_id, "--client-secret", client_secret]
        created = succeed(
            *(django, "createapplication", "confidential", grant), *client, cwd=state, env=env
        )
        # The command reports a mistake and then ends with success.
        assert "created successfully" in created, created


PROVIDER: IdentityProvider = DjangoOAuthToolkit()
