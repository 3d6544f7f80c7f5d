"""The endpoints of a small OAuth 2.0 and OpenID Connect server for one machine.

Anyone can log in here as anyone, so it listens on the loopback interface only and refuses to start
in production. Apart from that it follows the standards, which each endpoint names.
"""

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import JsonValue, ValidationError
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import Receive, Scope, Send

from template_tools.messages import _
from template_tools.provider import authorization, development_page, token_endpoint
from template_tools.provider.clients import basic_credentials
from template_tools.provider.config import (
    LOOPBACK_HOSTS,
    LOOPBACK_ORIGIN,
    ProviderConfig,
    refuse_production,
)
from template_tools.provider.forms import NO_STORE, OAuthError, read_form
from template_tools.provider.keys import Claims
from template_tools.provider.people import EVERYBODY, person
from template_tools.provider.state import CurrentState, ProviderState
from template_tools.provider.tokens import TokenRequest

router = APIRouter()
_OPENID_PATH = "/.well-known/openid-configuration"
_OAUTH_PATH = "/.well-known/oauth-authorization-server"
_PAGES = ("/", "/dev/introspections", "/authorize", "/login")


def create_provider(config: ProviderConfig) -> FastAPI:
    """Build the provider's application; `provider_state` returns its state.

    Raises:
        ProviderError: ENVIRONMENT is production.
    """
    refuse_production()
    app = FastAPI(title="Development identity provider", openapi_url=None, redirect_slashes=False)
    app.state.provider = ProviderState(config)
    path = config.issuer_path
    for part in (router, token_endpoint.router, authorization.router):
        app.include_router(part, prefix=path)
    # RFC 8414 §3.1 puts the well-known part in front of the issuer's path, OpenID behind it.
    app.add_api_route(_OAUTH_PATH + path, metadata)
    app.include_router(development_page.router)
    # Pages of this machine, such as a docs page, may send requests.
    app.add_middleware(
        _CrossOrigin,
        allow_origin_regex=LOOPBACK_ORIGIN,
        allow_methods=("GET", "POST"),
        # The docs page sends X-Requested-With along with its token request.
        allow_headers=("Authorization", "X-Requested-With"),
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK_HOSTS)
    app.add_exception_handler(OAuthError, _answer_oauth_error)
    app.add_exception_handler(ValidationError, _answer_invalid_json)
    return app


class _CrossOrigin(CORSMiddleware):
    """Lets other pages call the endpoints, and read none of the pages for the developer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_page = scope["type"] == "http" and scope["path"].endswith(_PAGES)
        await (self.app if is_page else super().__call__)(scope, receive, send)


async def _answer_oauth_error(_request: Request, error: Exception) -> Response:
    if not isinstance(error, OAuthError):
        raise error
    return error.response()


async def _answer_invalid_json(_request: Request, error: Exception) -> Response:
    """Name the wrong fields, without repeating their values."""
    if not isinstance(error, ValidationError):
        raise error
    problems = [f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors()]
    return OAuthError("invalid_request", "; ".join(problems)).response()


@router.get(_OPENID_PATH)
async def metadata(state: CurrentState) -> Response:
    """Publish the metadata (OpenID Connect Discovery 1.0 §4, RFC 8414 §3)."""
    state.calls["discovery"] += 1
    return await state.faults.take("discovery").respond(state.metadata())


@router.get("/jwks")
async def jwks(state: CurrentState) -> Response:
    """Publish the public keys (RFC 7517)."""
    state.calls["jwks"] += 1
    keys: JsonValue = [*state.tokens.key.public()]
    return await state.faults.take("jwks").respond({"keys": keys})


@router.post("/introspect")
async def introspect(request: Request, state: CurrentState) -> Response:
    """Describe a token to the registered client (RFC 7662 §2)."""
    state.calls["introspection"] += 1
    form = await read_form(request)
    try:
        state.clients.authenticate_registered(request, form)
    except OAuthError as error:
        state.introspections.add_refused_client(error.sentence)
        raise
    token = form.require("token")
    description = state.tokens.describe(token)
    faults = state.faults.take("introspection", token)
    state.introspections.add(state.tokens.get(token), faults)
    return await faults.respond(description)


@router.post("/revoke")
async def revoke(request: Request, state: CurrentState) -> Response:
    """Revoke a token of the calling client; an unknown one is no error (RFC 7009 §2)."""
    form = await read_form(request)
    client = state.clients.authenticate(request, form)
    value = form.require("token")
    token = state.tokens.get(value)
    if token is not None and token.claims.get("client_id") != client.id:
        raise OAuthError("invalid_grant", "The token was issued to another client.")
    state.tokens.revoke(value)
    return Response(headers=NO_STORE)


@router.api_route("/userinfo", methods=["GET", "POST"])
async def userinfo(request: Request, state: CurrentState) -> Response:
    """Describe the user behind an access token (OpenID Connect Core §5.3, RFC 6750)."""
    scheme, _space, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return _bearer_error(401, None)
    token = state.tokens.get(value.strip())
    if token is None or not token.active:
        return _bearer_error(401, "invalid_token")
    scopes = str(token.claims.get("scope", "")).split()
    username = token.claims.get("username")
    if "openid" not in scopes or not isinstance(username, str):
        return _bearer_error(403, "insufficient_scope")
    body: Claims = {"sub": token.claims.get("sub")}
    if "profile" in scopes:
        body |= {"preferred_username": username, "name": username}
    if "email" in scopes:
        email = username if "@" in username else f"{username}@example.com"
        body |= {"email": email, "email_verified": True}
    return JSONResponse(body, headers=NO_STORE)


@router.post("/dev/tokens")
async def mint_token(request: Request, state: CurrentState) -> Response:
    """Issue the token that a `TokenRequest` describes, to the registered client.

    With the parameter `as`, it describes what differs from a token for everything that somebody
    may do; the answer then has notes for the developer.
    """
    state.clients.by_secret(*basic_credentials(request))
    wanted = TokenRequest.model_validate_json(await request.body())
    notes: list[JsonValue] = []
    if (name := request.query_params.get("as")) is not None:
        wanted, notes = await _of_somebody(name, wanted, state)
    response = token_endpoint.token_response(state.tokens.mint(wanted))
    return JSONResponse(response | {"notes": notes}, headers=NO_STORE)


async def _of_somebody(
    name: str, wanted: TokenRequest, state: ProviderState
) -> tuple[TokenRequest, list[JsonValue]]:
    somebody = person(name)
    notes: list[JsonValue] = []
    if name not in EVERYBODY:
        notes.append(
            _(
                "Nobody here is called {name}, so the token is for somebody new. "
                "There are {people}.",
                name=name,
                people=", ".join(EVERYBODY),
            )
        )
    given = wanted.model_dump(exclude_unset=True)
    scope = given.get("scope")
    if "scope" not in given:
        service = await state.ask_service()
        scope = " ".join(somebody.scopes(service.scopes))
        if service.problem:
            has = _("The token has: {scopes}.", scopes=scope or _("none"))
            notes.append(f"{service.problem} {has}")
    return TokenRequest.model_validate(somebody.claims(scope or "") | given), notes


def _bearer_error(status: int, error: str | None) -> Response:
    challenge = 'Bearer realm="development provider"'
    if error is not None:
        challenge += f', error="{error}"'
    return Response(status_code=status, headers={**NO_STORE, "WWW-Authenticate": challenge})
