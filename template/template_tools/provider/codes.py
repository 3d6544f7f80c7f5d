"""Authorization requests and codes (RFC 6749 §4.1), always with PKCE (RFC 7636)."""

import base64
import hashlib
import re
import secrets
import time
from dataclasses import dataclass, field

from template_tools.provider.config import LOOPBACK_ORIGIN, ProviderConfig
from template_tools.provider.forms import OAuthError, Parameters

REDIRECT_URI = re.compile(LOOPBACK_ORIGIN + r"/docs/oauth2-redirect")
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_CODE_SECONDS = 60


@dataclass(frozen=True)
class AuthorizationRequest:
    """A validated request to the authorization endpoint."""

    client_id: str
    redirect_uri: str
    state: str | None
    scope: str
    nonce: str | None
    challenge: str
    login_hint: str


@dataclass(frozen=True)
class AuthorizationCode:
    """An authorization code, and the login that it stands for."""

    request: AuthorizationRequest
    username: str
    scope: str
    value: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    created_at: float = field(default_factory=time.time)

    def check(self, client_id: str, redirect_uri: str | None, verifier: str | None) -> None:
        """Raise OAuthError unless this client may redeem the code now (RFC 6749 §4.1.3)."""
        if time.time() > self.created_at + _CODE_SECONDS:
            raise OAuthError("invalid_grant", "The code has expired.")
        if (client_id, redirect_uri) != (self.request.client_id, self.request.redirect_uri):
            raise OAuthError("invalid_grant", "The code belongs to another client or redirect_uri.")
        verifier = verifier or ""
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
        matches = digest.rstrip(b"=").decode() == self.request.challenge
        if not (_VERIFIER.fullmatch(verifier) and matches):
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
    """Return the validated request; raise OAuthError for what the client must be told."""
    if parameters.require("response_type") != "code":
        raise OAuthError("unsupported_response_type", "The response_type must be code.")
    if parameters.get("response_mode") not in (None, "query"):
        raise OAuthError("invalid_request", "The response_mode must be query.")
    if "none" in (parameters.get("prompt") or "").split():
        raise OAuthError("login_required", "There are no sessions here, so prompt=none fails.")
    challenge = parameters.get("code_challenge") or ""
    # Without a method the default is "plain" (RFC 7636 §4.3), which protects nothing.
    if parameters.get("code_challenge_method") != "S256" or not _CHALLENGE.fullmatch(challenge):
        raise OAuthError("invalid_request", "PKCE with code_challenge_method=S256 is required.")
    return AuthorizationRequest(
        client_id=parameters.require("client_id"),
        redirect_uri=parameters.require("redirect_uri"),
        state=parameters.get("state"),
        scope=parameters.scope() or config.default_scope,
        nonce=parameters.get("nonce"),
        challenge=challenge,
        login_hint=parameters.get("login_hint") or "dev",
    )
