"""The token endpoint and its three grants (RFC 6749 §4.1, §4.4 and §6)."""

import time
from collections.abc import Sequence

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from template_tools.provider.clients import Client
from template_tools.provider.codes import AuthorizationCode
from template_tools.provider.forms import NO_STORE, OAuthError, Parameters, read_form
from template_tools.provider.keys import Claims
from template_tools.provider.state import CurrentState, ProviderState
from template_tools.provider.tokens import Token, TokenRequest, subject_of

router = APIRouter()


@router.post("/token")
async def token(request: Request, state: CurrentState) -> JSONResponse:
    """Answer a token request; errors are those of RFC 6749 §5.2."""
    form = await read_form(request)
    client = state.clients.authenticate(request, form)
    match form.require("grant_type"):
        case "client_credentials":
            body = _client_credentials(client, form, state)
        case "authorization_code":
            body = _authorization_code(client, form, state)
        case "refresh_token":
            body = _refresh_token(client, form, state)
        case _:
            raise OAuthError("unsupported_grant_type", "This grant_type is not supported.")
    return JSONResponse(body, headers=NO_STORE)


def token_response(access: Token) -> Claims:
    """Return the members of RFC 6749 §5.1 for an access token."""
    body: Claims = {
        "access_token": access.value,
        "token_type": access.token_type,
        "expires_in": max(0, round(access.expires_at - time.time())),
        "scope": access.claims.get("scope"),
    }
    return {name: value for name, value in body.items() if value is not None}


def _client_credentials(client: Client, form: Parameters, state: ProviderState) -> Claims:
    if client.public:
        raise OAuthError("unauthorized_client", "A public client has no credentials of its own.")
    # Without a user the subject is the client itself (RFC 9068 §2.2).
    wish = _wish(client.id, None, client.id, form.scope(), form.resources(), state)
    return token_response(state.tokens.mint(wish))


def _authorization_code(client: Client, form: Parameters, state: ProviderState) -> Claims:
    value = form.require("code")
    code = state.codes.get(value)
    if code is None:
        # A code that comes back was stolen or replayed: its tokens die (RFC 6749 §4.1.2).
        state.tokens.revoke_grant(state.spent_codes.get(value, ""))
        raise OAuthError("invalid_grant", "The code is unknown or was used before.")
    code.check(client.id, form.get("redirect_uri"), form.get("code_verifier"))
    granted = code.request.resources
    resources = _narrowed(form.resources(), granted)
    del state.codes[value]
    state.spent_codes[value] = code.grant
    sub = subject_of(code.username)
    wish = _wish(sub, code.username, client.id, code.scope, resources, state)
    access = state.tokens.mint(wish, code.grant, granted)
    body = token_response(access)
    body["refresh_token"] = state.tokens.mint_refresh(access, code.scope).value
    if "openid" in code.scope.split():
        body["id_token"] = _id_token(code, access, state)
    return body


def _refresh_token(client: Client, form: Parameters, state: ProviderState) -> Claims:
    old = state.tokens.get(form.require("refresh_token"))
    if old is None or old.kind != "refresh" or old.client_id != client.id:
        raise OAuthError("invalid_grant", "The refresh token is unknown.")
    if not old.active:
        # Each refresh token works once; a second use means that it leaked (RFC 9700 §4.14.2).
        state.tokens.revoke_grant(old.grant)
        raise OAuthError("invalid_grant", "The refresh token has expired, or was used or revoked.")
    granted = str(old.claims["scope"])
    scope = form.scope() or granted
    if not set(scope.split()) <= set(granted.split()):
        raise OAuthError("invalid_scope", "The scope is wider than the one that was granted.")
    resources = _narrowed(form.resources(), old.resources)
    username = str(old.claims["username"])
    wish = _wish(subject_of(username), username, client.id, scope, resources, state)
    access = state.tokens.mint(wish, old.grant, old.resources)
    state.tokens.retire(old)
    body = token_response(access)
    body["refresh_token"] = state.tokens.mint_refresh(access, granted).value
    return body


def _narrowed(wanted: Sequence[str], granted: Sequence[str]) -> Sequence[str]:
    """Return the audiences to use: a later request may only choose among the first ones."""
    if granted and not set(wanted) <= set(granted):
        raise OAuthError("invalid_target", "The resource was not part of the authorization.")
    return wanted or granted


def _wish(
    sub: str,
    username: str | None,
    client_id: str,
    scope: str | None,
    resources: Sequence[str],
    state: ProviderState,
) -> TokenRequest:
    audience = list(resources) if len(resources) > 1 else next(iter(resources), None)
    return TokenRequest(
        sub=sub,
        username=username,
        client_id=client_id,
        scope=scope,
        audience=audience or state.config.audience,
        expires_in=state.config.access_token_lifetime,
    )


def _id_token(code: AuthorizationCode, access: Token, state: ProviderState) -> str:
    """Sign an ID token (OpenID Connect Core §2); its audience is the client, never the API."""
    claims: Claims = {
        "iss": state.config.issuer,
        "sub": access.claims["sub"],
        "aud": code.request.client_id,
        "iat": access.claims["iat"],
        "exp": access.claims["exp"],
        "auth_time": int(code.created_at),
        "preferred_username": code.username,
    }
    if code.request.nonce is not None:
        claims["nonce"] = code.request.nonce
    return state.tokens.keys.sign(claims)
