"""Canaille: a small identity provider on Flask and Authlib.

What it does differently, and why it is here (measured with 0.3.6):

- ``exp`` and ``iat`` in the reply to introspection are floats. ``aud`` is a list of client ids, the
  one of the service among them: who is not in it sees ``{"active": false}``, and so does the client
  that the token was issued to. SSO_AUDIENCE is therefore the service's CLIENT_ID.
- ``username`` is the user's full name; the name to log in with is in ``sub``. A token for a client
  alone is opaque and has neither.
- A user's access token is a JWT made like an ID token: ``typ`` is ``JWT``, and it has ``auth_time``
  and the user's name, but neither ``client_id`` nor ``scope``. A local check cannot know the
  scopes, and needs SSO_JWT_TYPE=any.
- An ID token has the same issuer, type, key and ``aud`` as the access token, the service's id and
  not that of the client that logs in. Only ``nonce``, ``at_hash`` and ``amr`` tell it apart, and
  ``nonce`` may be left out where REQUIRE_NONCE is off. Introspection says that it is inactive.
- It is signed with RS512. The keys in the JWKS have no ``alg`` and no ``use``, and an Ed25519 key
  stands before the RSA key.
- There is no ``jti`` and times are whole seconds, so that two tokens of one second are the same
  token, and the second request for it is answered with 500.
- The introspection endpoint takes ``client_secret_basic`` only. A wrong secret is answered with
  401 and JSON, and so is the right one in the form.
- Authlib decodes the secret from percent-encoding but leaves ``+`` alone, where RFC 6749 §2.3.1
  writes a space: a secret with a space cannot work, one with the other characters does.
- Only the client that a token was issued to may revoke it; another one's attempt is answered with
  400 ``invalid_grant``.
- A refresh token is active too, with the same members, unless ``token_type_hint`` says that an
  access token is meant.
- The issuer has no path. Without SERVER_NAME it ends with a slash and follows the Host header.
"""

import json
import subprocess
import time
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

_SERVICE = ("service", "s3cret:+/%&=?#")
_CALLER = ("frontend", "the caller's secret")
_CALLER_ELSEWHERE = ("another-frontend", "another caller's secret")
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
            "SSO_AUDIENCE": client_id,
            "SSO_JWT_TYPE": "any",
            "CLIENT_ID": client_id,
            "CLIENT_SECRET": client_secret,
        }

    @override
    def token(self, mode: Mode) -> str:
        return self._token(_CALLER)

    @override
    def token_for_another_audience(self, mode: Mode) -> str:
        return self._token(_CALLER_ELSEWHERE)

    def _token(self, client: tuple[str, str]) -> str:
        """Get a token for a user, because only such a one is a JWT."""
        username, password = _USER
        form = {
            "grant_type": "password",
            "username": username,
            "password": password,
            "scope": "openid profile",
        }
        reply = self._post("token", client, form)
        if reply.status_code == 500:
            # The client has got this second's token already.
            time.sleep(1)
            reply = self._post("token", client, form)
        return str(reply.raise_for_status().json()["access_token"])

    @override
    def revoke(self, token: str) -> None:
        form = {"token": token, "token_type_hint": "access_token"}
        self._post("revoke", _CALLER, form).raise_for_status()

    def _post(
        self, endpoint: str, client: tuple[str, str], form: Mapping[str, str]
    ) -> httpx2.Response:
        # The secrets of these clients need no encoding.
        url = f"{self.issuer}/oauth/{endpoint}"
        return httpx2.post(url, data=form, auth=client, timeout=30, trust_env=False)


class Canaille(IdentityProvider):
    """The provider on SQLite, with the signing keys that it makes at its start."""

    name = "canaille"
    signs_responses = False
    source = "PyPI 0.3.6"
    modes: Mapping[Mode, str] = {"introspect": "", "jwt": "", "both": ""}
    claims: Mapping[str, object] = {"sub": "alice", "aud": ["service"]}

    @override
    def install(self, folder: Path) -> None:
        install_packages(folder, "canaille[oidc,server,sqlite]==0.3.6")

    @override
    @contextmanager
    def start(self, folder: Path) -> Iterator[_Running]:
        canaille = folder.resolve() / "venv" / "bin" / "canaille"
        [port] = free_ports(1)
        with TemporaryDirectory() as state:
            env = environment(
                SECRET_KEY="only for tests",
                SERVER_NAME=f"127.0.0.1:{port}",
                PREFERRED_URL_SCHEME="http",
                CANAILLE_SQL__DATABASE_URI=f"sqlite:///{state}/canaille.sqlite",
            )
            _canaille(canaille, "db", "upgrade", cwd=state, env=env)
            _canaille(canaille, "restore", cwd=state, env=env, given=json.dumps(_objects()))
            issuer = f"http://127.0.0.1:{port}"
            with served(
                # Without workers it is one process, which makes one set of keys.
                *(canaille, "run", "--workers", "0", "--bind", f"127.0.0.1:{port}"),
                folder=Path(state),
                env=env,
                until=f"{issuer}/.well-known/openid-configuration",
            ):
                yield _Running(issuer)


def _canaille(
    program: Path, *arguments: str, cwd: str, env: Mapping[str, str], given: str = ""
) -> None:
    """Run a command of Canaille that must succeed, with this on its standard input."""
    done = subprocess.run(
        [program, *arguments],
        cwd=cwd,
        env=env,
        input=given,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"canaille {arguments}:\n{done.stdout}{done.stderr}"


def _objects() -> dict[str, list[dict[str, object]]]:
    """Return the user, the two services and a client for each, as ``canaille dump`` writes them."""
    username, password = _USER
    user: dict[str, object] = {
        "id": "user",
        "user_name": username,
        "password": password,
        "formatted_name": "Alice Liddell",
        "family_name": "Liddell",
        "emails": ["alice@example.com"],
    }
    return {
        "user": [user],
        "client": [
            _client(_SERVICE),
            _client(("another-service", "another secret")),
            _client(_CALLER, grant_types=["password"], audience=["service"]),
            _client(_CALLER_ELSEWHERE, grant_types=["password"], audience=["another-service"]),
        ],
    }


def _client(client: tuple[str, str], **attributes: object) -> dict[str, object]:
    client_id, client_secret = client
    return {
        # Other objects name it by this, and its own requests by client_id.
        "id": client_id,
        "client_id": client_id,
        "client_secret": client_secret,
        "client_name": client_id,
        "token_endpoint_auth_method": "client_secret_basic",
        "scope": ["openid", "profile"],
        **attributes,
    }


PROVIDER: IdentityProvider = Canaille()
