"""The authorization endpoint, its login page, and codes (RFC 6749 §4.1), with PKCE (RFC 7636)."""

import base64
import hashlib
import re
import secrets
import time
from dataclasses import dataclass, field
from html import escape
from string import Template
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from template_tools.provider.config import LOOPBACK_ORIGIN, ProviderConfig
from template_tools.provider.forms import (
    NO_STORE,
    OAuthError,
    Parameters,
    checked_scope,
    read_form,
)
from template_tools.provider.state import CurrentState, ProviderState

router = APIRouter()

_REDIRECT_URI = re.compile(LOOPBACK_ORIGIN + r"/docs/oauth2-redirect")
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_CODE_SECONDS = 60
_PAGE_HEADERS = NO_STORE | {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Referrer-Policy": "same-origin",
}
_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 26rem; margin: 12vh auto; padding: 0 1rem; }
.notice { border-left: 4px solid #c77700; padding: 0.25rem 0.75rem; }
label, input { display: block; width: 100%; box-sizing: border-box; font: inherit; }
label, button { margin: 1rem 0.5rem 0 0; }
input, button { padding: 0.5rem; font: inherit; }
code { overflow-wrap: anywhere; }
</style>
</head>
<body>
<h1>$title</h1>
$content
</body>
</html>
""")
_FORM = Template("""<p class="notice">This is the development identity provider.
There is no password: anyone can log in as anyone.</p>
<p><code>$client</code> on <code>$origin</code> asks for <code>$scope</code>.</p>
<form method="post" action="$action">
<input type="hidden" name="login" value="$login">
<label>Username
<input name="username" value="$username" maxlength="100" autocomplete="username" autofocus required>
</label>
<label>Extra scopes, separated by spaces
<input name="extra_scopes" maxlength="1000" autocomplete="off">
</label>
<button name="action" value="login">Log in</button>
<button name="action" value="cancel" formnovalidate>Cancel</button>
</form>""")


@dataclass(frozen=True)
class AuthorizationRequest:
    """A validated request to the authorization endpoint."""

    client_id: str
    redirect_uri: str
    state: str | None
    scope: str
    nonce: str | None
    challenge: str


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


@router.get("/authorize")
async def authorize(request: Request, state: CurrentState) -> Response:
    """Show the login page for an authorization request."""
    try:
        parameters = Parameters(request.url.query.encode())
        redirect_uri = _check_redirect(parameters, state.config)
    except OAuthError as error:
        return _error_page(error)
    try:
        asked = _check_request(parameters, redirect_uri, state.config)
    except OAuthError as error:
        return _send_back(redirect_uri, _error_answer(error, parameters.get("state")), state)
    # The login continues under a random name, which no other website can read or guess.
    login = secrets.token_urlsafe(32)
    state.logins[login] = asked
    content = _FORM.substitute(
        client=escape(asked.client_id),
        origin=escape("http://" + urlsplit(asked.redirect_uri).netloc),
        scope=escape(asked.scope),
        action=escape(f"{state.config.issuer_path}/login"),
        login=login,
        username=escape(parameters.get("login_hint") or "dev"),
    )
    return HTMLResponse(
        _PAGE.substitute(title="Development login", content=content), 200, _PAGE_HEADERS
    )


@router.post("/login")
async def log_in(request: Request, state: CurrentState) -> Response:
    """Accept the login form, and redirect to the client with a code or an error."""
    try:
        form = await read_form(request)
        asked = state.logins.pop(form.require("login"), None)
        if asked is None:
            raise OAuthError("invalid_request", "This login was used or has expired.")
    except OAuthError as error:
        return _error_page(error)
    try:
        if form.get("action") == "cancel":
            raise OAuthError("access_denied", "The login was cancelled.")
        username = (form.get("username") or "").strip()
        if not username.isprintable() or not 1 <= len(username) <= 100:
            raise OAuthError("access_denied", "A username has 1 to 100 printable characters.")
        words = [*asked.scope.split(), *(form.get("extra_scopes") or "").split()]
        scope = checked_scope(" ".join(dict.fromkeys(words)))
    except OAuthError as error:
        return _send_back(asked.redirect_uri, _error_answer(error, asked.state), state)
    code = AuthorizationCode(request=asked, username=username, scope=scope)
    state.codes[code.value] = code
    return _send_back(asked.redirect_uri, {"code": code.value, "state": asked.state}, state)


def _check_redirect(parameters: Parameters, config: ProviderConfig) -> str:
    """Return the redirect URI; raise OAuthError when nothing may be sent to it (§4.1.2.1)."""
    redirect_uri = parameters.require("redirect_uri")
    if not _REDIRECT_URI.fullmatch(redirect_uri):
        raise OAuthError(
            "invalid_request",
            "The redirect_uri must be /docs/oauth2-redirect of a service on this machine, "
            "such as http://127.0.0.1:8000/docs/oauth2-redirect.",
        )
    if parameters.require("client_id") not in (config.client_id, config.docs_client_id):
        raise OAuthError("invalid_request", "The client_id is not registered here.")
    return redirect_uri


def _check_request(
    parameters: Parameters, redirect_uri: str, config: ProviderConfig
) -> AuthorizationRequest:
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
        redirect_uri=redirect_uri,
        state=parameters.get("state"),
        scope=parameters.scope() or config.default_scope,
        nonce=parameters.get("nonce"),
        challenge=challenge,
    )


def _error_page(error: OAuthError) -> HTMLResponse:
    content = f"<p>{escape(error.description)}</p>"
    page = _PAGE.substitute(title="This login cannot continue", content=content)
    return HTMLResponse(page, error.status, _PAGE_HEADERS)


def _send_back(
    redirect_uri: str, answer: dict[str, str | None], state: ProviderState
) -> RedirectResponse:
    """Redirect with an answer and the issuer (RFC 9207), by 303 (RFC 9700 §4.12)."""
    members = answer | {"iss": state.config.issuer}
    query = urlencode({name: value for name, value in members.items() if value is not None})
    return RedirectResponse(f"{redirect_uri}?{query}", 303, NO_STORE)


def _error_answer(error: OAuthError, state: str | None) -> dict[str, str | None]:
    return {"error": error.error, "error_description": error.description, "state": state}
