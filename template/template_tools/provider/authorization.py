"""The authorization endpoint, its login page, and codes (RFC 6749 §4.1), with PKCE (RFC 7636)."""

import base64
import hashlib
import re
import secrets
import time
from dataclasses import dataclass, field
from string import Template
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from template_tools.messages import _
from template_tools.provider.config import LOOPBACK_ORIGIN, ProviderConfig
from template_tools.provider.forms import (
    NO_STORE,
    OAuthError,
    Parameters,
    checked_scope,
    read_form,
)
from template_tools.provider.pages import Html, error_page, fill, page, template
from template_tools.provider.people import EVERYBODY, Person, person
from template_tools.provider.state import CurrentState, ProviderState

router = APIRouter()

_REDIRECT_URI = re.compile(LOOPBACK_ORIGIN + r"/docs/oauth2-redirect")
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_CODE_SECONDS = 60
_FORM = template("login.html")
_PERSON = Template('<button name="person" value="$name" title="$about">$name</button>')


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
    person: Person
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
    hint = parameters.get("login_hint") or "dev"
    # The development page has asked already who it is.
    if chosen := state.tickets.pop(hint, None):
        return _log_in(asked, chosen, "", state)
    # The login continues under a random name, which no other website can read or guess.
    login = secrets.token_urlsafe(32)
    state.logins[login] = asked
    origin = "http://" + urlsplit(asked.redirect_uri).netloc
    content = fill(
        _FORM,
        client=asked.client_id,
        origin=origin,
        scope=asked.scope,
        action=f"{state.config.issuer_path}/login",
        login=login,
        username=hint,
        people=Html(
            "\n".join(
                fill(_PERSON, name=it.name, about=it.about)
                for it in EVERYBODY.values()
                if not it.is_machine
            )
        ),
    )
    return page(_("Development login"), content, form_action=f"'self' {origin}")


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
        name = form.get("person") or (form.get("username") or "").strip()
        somebody = person(name, "access_denied")
    except OAuthError as error:
        return _send_back(asked.redirect_uri, _error_answer(error, asked.state), state)
    return _log_in(asked, somebody, form.get("extra_scopes") or "", state)


def _log_in(
    asked: AuthorizationRequest, somebody: Person, extra_scopes: str, state: ProviderState
) -> Response:
    """Send a code back, for what was asked for and this person may have, and the extra scopes."""
    granted = [scope for scope in asked.scope.split() if somebody.may_have(scope)]
    words = dict.fromkeys([*granted, *extra_scopes.split()])
    try:
        if not words:
            raise OAuthError("access_denied", "This user may have none of the scopes.")
        scope = checked_scope(" ".join(words))
    except OAuthError as error:
        return _send_back(asked.redirect_uri, _error_answer(error, asked.state), state)
    code = AuthorizationCode(request=asked, person=somebody, scope=scope)
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
    return error_page(_("This login cannot continue"), error.sentence, error.status)


def _send_back(
    redirect_uri: str, answer: dict[str, str | None], state: ProviderState
) -> RedirectResponse:
    """Redirect with an answer and the issuer (RFC 9207), by 303 (RFC 9700 §4.12)."""
    members = answer | {"iss": state.config.issuer}
    query = urlencode({name: value for name, value in members.items() if value is not None})
    return RedirectResponse(f"{redirect_uri}?{query}", 303, NO_STORE)


def _error_answer(error: OAuthError, state: str | None) -> dict[str, str | None]:
    return {"error": error.error, "error_description": error.description, "state": state}
