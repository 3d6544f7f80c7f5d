"""The authorization endpoint and its login page (RFC 6749 §4.1, OpenID Connect Core §3.1.2)."""

import base64
import hashlib
import secrets
from html import escape
from string import Template
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from template_tools.provider.codes import (
    AuthorizationCode,
    AuthorizationRequest,
    check_redirect,
    check_request,
)
from template_tools.provider.forms import NO_STORE, OAuthError, Parameters, read_form
from template_tools.provider.state import CurrentState, ProviderState

router = APIRouter()

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 26rem; margin: 12vh auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin-bottom: 0.5rem; }
.notice { border-left: 4px solid #c77700; padding: 0.25rem 0.75rem; }
.error { border-left: 4px solid #c62828; padding: 0.25rem 0.75rem; }
label { display: block; margin-top: 1rem; }
input { display: block; width: 100%; box-sizing: border-box; padding: 0.5rem; font: inherit; }
button { margin: 1.25rem 0.5rem 0 0; padding: 0.5rem 1.25rem; font: inherit; }
code { overflow-wrap: anywhere; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
<h1>$title</h1>
$content
</main>
</body>
</html>
""")

_FORM = Template("""<p class="notice">This is the development identity provider.
There is no password: anyone can log in as anyone.</p>
$error
<p><code>$client</code> on <code>$origin</code> asks for <code>$scope</code>.</p>
<form method="post" action="$action">
<input type="hidden" name="login" value="$login">
<label>Username
<input name="username" value="$username" maxlength="100" autocomplete="username" autofocus required>
</label>
<label>Extra scopes, separated by spaces
<input name="extra_scopes" value="$extra_scopes" maxlength="1000" autocomplete="off">
</label>
<button name="action" value="login">Log in</button>
<button name="action" value="cancel" formnovalidate>Cancel</button>
</form>""")


@router.get("/authorize")
async def authorize(request: Request, state: CurrentState) -> Response:
    """Show the login page for an authorization request."""
    try:
        parameters = Parameters.parse(request.url.query.encode())
        redirect_uri = check_redirect(parameters, state.config)
    except OAuthError as error:
        return _error_page(error)
    try:
        asked = check_request(parameters, state.config)
    except OAuthError as error:
        return _send_back(redirect_uri, _error_answer(error, parameters.get("state")), state)
    # The login continues under a random name, which no other website can read or guess.
    login = secrets.token_urlsafe(32)
    state.logins[login] = asked
    return _login_page(login, asked, state, (asked.login_hint, "", ""))


@router.post("/login")
async def log_in(request: Request, state: CurrentState) -> Response:
    """Accept the login form, and redirect to the client with a code or an error."""
    try:
        _refuse_other_origins(request)
        form = await read_form(request)
        login = form.require("login")
    except OAuthError as error:
        return _error_page(error)
    asked = state.logins.get(login)
    if asked is None:
        expired = "This login was used or has expired: press Authorize on the docs page again."
        return _error_page(OAuthError("invalid_request", expired))
    if form.get("action") == "cancel":
        del state.logins[login]
        denied = OAuthError("access_denied", "The login was cancelled.")
        return _send_back(asked.redirect_uri, _error_answer(denied, asked.state), state)
    username, extra = (form.get("username") or "").strip(), form.get("extra_scopes") or ""
    try:
        scope = _widened(asked.scope, extra)
        _check_username(username)
    except OAuthError as error:
        return _login_page(login, asked, state, (username, extra, error.description))
    del state.logins[login]
    code = AuthorizationCode(request=asked, username=username, scope=scope)
    state.codes[code.value] = code
    return _send_back(asked.redirect_uri, {"code": code.value, "state": asked.state}, state)


def _login_page(
    login: str, asked: AuthorizationRequest, state: ProviderState, typed: tuple[str, str, str]
) -> HTMLResponse:
    username, extra_scopes, error = typed
    origin = "http://" + urlsplit(asked.redirect_uri).netloc
    content = _FORM.substitute(
        error=f'<p class="error">{escape(error)}</p>' if error else "",
        client=escape(asked.client_id),
        origin=escape(origin),
        scope=escape(asked.scope),
        action=escape(f"{state.config.issuer_path}/login"),
        login=login,
        username=escape(username),
        extra_scopes=escape(extra_scopes),
    )
    return _page("Development login", content, 400 if error else 200, f"'self' {origin}")


def _error_page(error: OAuthError) -> HTMLResponse:
    content = f'<p class="error">{escape(error.description)}</p>'
    return _page("This login cannot start", content, error.status, "'none'")


def _page(title: str, content: str, status: int, form_action: str) -> HTMLResponse:
    """Build a page that loads nothing, and whose form can only be sent to here and to the client.

    Browsers apply `form-action` to the redirect that follows a form too.
    """
    policy = (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action {form_action}; "
        "frame-ancestors 'none'; base-uri 'none'"
    )
    headers = {
        **NO_STORE,
        "Content-Security-Policy": policy,
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
    page = _PAGE.substitute(title=title, style=_STYLE, content=content)
    return HTMLResponse(page, status, headers)


def _send_back(
    redirect_uri: str, answer: dict[str, str | None], state: ProviderState
) -> RedirectResponse:
    """Redirect with an answer and the issuer (RFC 9207), by 303 (RFC 9700 §4.12)."""
    answer["iss"] = state.config.issuer
    query = urlencode({name: value for name, value in answer.items() if value is not None})
    return RedirectResponse(f"{redirect_uri}?{query}", 303, NO_STORE)


def _error_answer(error: OAuthError, state: str | None) -> dict[str, str | None]:
    return {"error": error.error, "error_description": error.description, "state": state}


def _refuse_other_origins(request: Request) -> None:
    """Refuse a form that another website's page sent (cross-site request forgery)."""
    own = f"{request.url.scheme}://{request.headers.get('host')}"
    if request.headers.get("origin", own) != own:
        raise OAuthError("access_denied", "Log in on the provider's own page.", 403)


def _check_username(username: str) -> None:
    if not username.isprintable() or not 1 <= len(username) <= 100:
        raise OAuthError("invalid_request", "Type a username of 1 to 100 printable characters.")


def _widened(scope: str, extra: str) -> str:
    words = dict.fromkeys([*scope.split(), *extra.split()])
    widened = " ".join(words)
    Parameters({"scope": [widened]}).scope()
    return widened
