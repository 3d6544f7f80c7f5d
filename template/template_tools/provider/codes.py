"""Authorization requests and the codes that answer them (RFC 6749 §4.1, RFC 7636)."""

import base64
import hashlib
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from template_tools.provider.clients import same
from template_tools.provider.config import LOOPBACK_ORIGIN, ProviderConfig
from template_tools.provider.forms import OAuthError, Parameters

REDIRECT_URI = re.compile(LOOPBACK_ORIGIN + r"/docs/oauth2-redirect")
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_CODE_SECONDS = 60


@dataclass(frozen=True)
class AuthorizationRequest:
    """What a client asked the authorization endpoint for, checked."""

    client_id: str
    redirect_uri: str
    state: str | None
    scope: str
    nonce: str | None
    challenge: str | None
    resources: Sequence[str]
    login_hint: str


@dataclass(frozen=True)
class AuthorizationCode:
    """A code and the login behind it; `grant` ties the tokens of this login together."""

    request: AuthorizationRequest
    username: str
    scope: str
    value: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    grant: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    created_at: float = field(default_factory=time.time)

    def check(self, client_id: str, redirect_uri: str | None, verifier: str | None) -> None:
        """Raise OAuthError unless this client may redeem the code now (RFC 6749 §4.1.3)."""
        if time.time() > self.created_at + _CODE_SECONDS:
            raise OAuthError("invalid_grant", "The code has expired.")
        if not (
            same(self.request.client_id, client_id) and self.request.redirect_uri == redirect_uri
        ):
            raise OAuthError("invalid_grant", "The code belongs to another client or redirect_uri.")
        if not _proves(verifier, self.request.challenge):
            raise OAuthError("invalid_grant", "The code_verifier does not fit the code_challenge.")


def check_redirect(parameters: Parameters, config: ProviderConfig) -> str:
    """Return the redirect URI; raise OAuthError when nothing may be sent to it (§4.1.2.1)."""
    redirect_uri = parameters.require("redirect_uri")
    if not REDIRECT_URI.fullmatch(redirect_uri):
        raise OAuthError(
            "invalid_request",
            "The redirect_uri must be /docs/oauth2-redirect of a service on this machine, "
            "such as http://127.0.0.1:8000/docs/oauth2-redirect.",
        )
    if parameters.require("client_id") not in (config.client_id, config.docs_client_id):
        raise OAuthError("invalid_request", "The client_id is not registered here.")
    return redirect_uri


def check_request(parameters: Parameters, config: ProviderConfig) -> AuthorizationRequest:
    """Return the checked request; raise OAuthError for what the client must be told."""
    if parameters.require("response_type") != "code":
        raise OAuthError("unsupported_response_type", "The response_type must be code.")
    if parameters.get("response_mode") not in (None, "query"):
        raise OAuthError("invalid_request", "The response_mode must be query.")
    for name in ("request", "request_uri"):
        if parameters.get(name) is not None:
            raise OAuthError(f"{name}_not_supported", f"The parameter {name} is not supported.")
    if "none" in (parameters.get("prompt") or "").split():
        raise OAuthError("login_required", "Nobody stays logged in here, so prompt=none fails.")
    client_id = parameters.require("client_id")
    scope = parameters.scope()
    return AuthorizationRequest(
        client_id=client_id,
        redirect_uri=parameters.require("redirect_uri"),
        state=parameters.get("state"),
        scope=config.default_scope if scope is None else scope,
        nonce=parameters.get("nonce"),
        challenge=_challenge(parameters, required=client_id == config.docs_client_id),
        resources=parameters.resources(),
        login_hint=parameters.get("login_hint") or "dev",
    )


def _challenge(parameters: Parameters, *, required: bool) -> str | None:
    challenge = parameters.get("code_challenge")
    if challenge is None and not required:
        return None
    # Without a method the default is "plain" (RFC 7636 §4.3), which protects nothing.
    if challenge is None or parameters.get("code_challenge_method") != "S256":
        raise OAuthError("invalid_request", "PKCE with code_challenge_method=S256 is required.")
    if not _CHALLENGE.fullmatch(challenge):
        raise OAuthError("invalid_request", "The code_challenge must be 43 base64url characters.")
    return challenge


def _proves(verifier: str | None, challenge: str | None) -> bool:
    if verifier is None or challenge is None:
        # A verifier without a challenge is a downgrade attack (RFC 9700 §4.8.2).
        return verifier is None and challenge is None
    digest = hashlib.sha256(verifier.encode()).digest()
    expected = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return _VERIFIER.fullmatch(verifier) is not None and same(expected, challenge)
