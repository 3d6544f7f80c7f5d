"""The token endpoint and its two grants (RFC 6749 §4.1 and §4.4)."""

import time

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from template_tools.provider.authorization import AuthorizationCode
from template_tools.provider.clients import Client
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
        case _:
            raise OAuthError("unsupported_grant_type", "This grant_type is not supported.")
    return JSONResponse(body, headers=NO_STORE)


def token_response(access: Token) -> Claims:
    """Return the members of RFC 6749 §5.1 for an access token."""
    body: Claims = {
        "access_token": access.value,
        "token_type": "Bearer",
        "expires_in": max(0, round(access.expires_at - time.time())),
    }
    if "scope" in access.claims:
        body["scope"] = access.claims["scope"]
    return body


def _client_credentials(client: Client, form: Parameters, state: ProviderState) -> Claims:
    if client.public:
        raise OAuthError("unauthorized_client", "A public client has no credentials of its own.")
    # Without a user the subject is the client itself (RFC 9068 §2.2).
    request = TokenRequest(
        sub=client.id,
        username=None,
        client_id=client.id,
        scope=form.scope(),
        expires_in=state.config.access_token_lifetime,
    )
    return token_response(state.tokens.mint(request))


def _authorization_code(client: Client, form: Parameters, state: ProviderState) -> Claims:
    # A code works once, even where this attempt fails.
    code = state.codes.pop(form.require("code"), None)
    if code is None:
        raise OAuthError("invalid_grant", "The code is unknown or was used before.")
    code.check(client.id, form.get("redirect_uri"), form.get("code_verifier"))
    claims = code.person.claims(code.scope) | {
        "client_id": client.id,
        "expires_in": state.config.access_token_lifetime,
    }
    access = state.tokens.mint(TokenRequest.model_validate(claims))
    body = token_response(access)
    if "openid" in code.scope.split():
        body["id_token"] = _id_token(code, access, state)
    return body


def _id_token(code: AuthorizationCode, access: Token, state: ProviderState) -> str:
    """Sign an ID token (OpenID Connect Core §2); its audience is the client, never the API."""
    claims: Claims = {
        "iss": state.config.issuer,
        "sub": subject_of(code.person.name),
        "aud": code.request.client_id,
        "iat": access.claims["iat"],
        "exp": access.claims["exp"],
        "auth_time": int(code.created_at),
        "preferred_username": code.person.name,
    }
    if code.request.nonce is not None:
        claims["nonce"] = code.request.nonce
    return state.tokens.key.sign(claims)
