"""The development identity provider: a small OAuth 2.0 and OpenID Connect server for one machine.

Anyone can log in here as anyone, so it answers on the loopback interface only and refuses to
start in production. Apart from that it follows the standards, which each endpoint names.
"""

from collections.abc import Collection, Sequence

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import JsonValue, ValidationError
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from template_tools.provider import grants, introspection, login
from template_tools.provider.config import (
    LOOPBACK_HOSTS,
    LOOPBACK_ORIGIN,
    ProviderConfig,
    refuse_production,
)
from template_tools.provider.faults import HEALTHY, Faults, published_keys, reply
from template_tools.provider.forms import NO_STORE, OAuthError, read_body, read_form
from template_tools.provider.keys import ALGORITHMS, Claims
from template_tools.provider.state import CurrentState, ProviderState
from template_tools.provider.tokens import TokenRequest

router = APIRouter()
_OPENID_PATH = "/.well-known/openid-configuration"
_OAUTH_PATH = "/.well-known/oauth-authorization-server"
_BROWSER_PATHS = ("/token", "/jwks", "/userinfo", _OPENID_PATH)


def create_provider(config: ProviderConfig) -> FastAPI:
    """Build the provider's application; `provider_state` returns what it remembers.

    Raises ProviderError when ENVIRONMENT is production, and when the client cannot authenticate in
    the way that is configured.
    """
    refuse_production()
    app = FastAPI(title="Development identity provider", openapi_url=None, redirect_slashes=False)
    app.state.provider = ProviderState(config)
    path = config.issuer_path
    for part in (router, introspection.router, grants.router, login.router):
        app.include_router(part, prefix=path)
    # RFC 8414 §3.1 puts the well-known part in front of the issuer's path, OpenID behind it.
    app.add_api_route(_OAUTH_PATH + path, discovery)
    browser_paths = {path + name for name in _BROWSER_PATHS} | {_OAUTH_PATH + path}
    app.add_middleware(_BrowserAccess, paths=browser_paths)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK_HOSTS)
    app.add_exception_handler(OAuthError, _answer_oauth_error)
    app.add_exception_handler(ValidationError, _answer_invalid_json)
    return app


class _BrowserAccess(CORSMiddleware):
    """Let pages of this machine, such as a docs page, read the endpoints meant for them."""

    def __init__(self, app: ASGIApp, paths: Collection[str]) -> None:
        super().__init__(
            app,
            allow_origin_regex=LOOPBACK_ORIGIN,
            allow_methods=("GET", "POST"),
            # The docs page sends X-Requested-With along with its token request.
            allow_headers=("Authorization", "X-Requested-With"),
        )
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in self._paths:
            await super().__call__(scope, receive, send)
        else:
            await self.app(scope, receive, send)


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
async def discovery(state: CurrentState) -> Response:
    """Describe the provider (OpenID Connect Discovery 1.0 §4, RFC 8414 §3)."""
    state.calls["discovery"] += 1
    issuer = state.config.issuer
    methods: Sequence[JsonValue] = state.clients.methods()
    document: Claims = {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
        "userinfo_endpoint": f"{issuer}/userinfo",
        "jwks_uri": f"{issuer}/jwks",
        "introspection_endpoint": f"{issuer}/introspect",
        "revocation_endpoint": f"{issuer}/revoke",
        "scopes_supported": ["openid", "profile", "email"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "client_credentials", "refresh_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "token_endpoint_auth_methods_supported": [*methods, "none"],
        "introspection_endpoint_auth_methods_supported": [*methods],
        "revocation_endpoint_auth_methods_supported": [*methods, "none"],
        "introspection_signing_alg_values_supported": ["RS256"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
        "claims_supported": ["sub", "iss", "preferred_username", "name", "email", "email_verified"],
        "request_uri_parameter_supported": False,
    }
    if "private_key_jwt" in methods:
        for endpoint in ("token", "introspection", "revocation"):
            document[f"{endpoint}_endpoint_auth_signing_alg_values_supported"] = [*ALGORITHMS]
    return await reply(document, state.faults.take("discovery", None))


@router.get("/jwks")
async def jwks(state: CurrentState) -> Response:
    """Publish the public keys (RFC 7517)."""
    state.calls["jwks"] += 1
    faults = state.faults.take("jwks", None)
    return await reply({"keys": published_keys(state.tokens.keys.public(), faults)}, faults)


@router.post("/revoke")
async def revoke(request: Request, state: CurrentState) -> Response:
    """Revoke a token of the calling client; an unknown one is no error (RFC 7009 §2)."""
    form = await read_form(request)
    client = state.clients.authenticate(request, form)
    value = form.require("token")
    token = state.tokens.get(value)
    if token is not None and token.client_id != client.id:
        raise OAuthError("invalid_grant", "The token was issued to another client.")
    state.tokens.revoke(value)
    return Response(headers=NO_STORE)


@router.api_route("/userinfo", methods=["GET", "POST"])
async def userinfo(request: Request, state: CurrentState) -> Response:
    """Describe the user behind an access token (OpenID Connect Core §5.3, RFC 6750)."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return _bearer_error(401, None)
    token = state.tokens.get(value.strip())
    if token is None or token.kind != "access" or not token.active:
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
    """Mint any token that a `TokenRequest` describes, for the registered client."""
    state.clients.authenticate_developer(request)
    wish = TokenRequest.model_validate_json(await read_body(request))
    return JSONResponse(grants.token_response(state.tokens.mint(wish)), headers=NO_STORE)


@router.put("/dev/faults")
async def set_faults(request: Request, state: CurrentState) -> Response:
    """Put faults in force, in the place of those before, for the registered client."""
    state.clients.authenticate_developer(request)
    state.faults.set(Faults.model_validate_json(await read_body(request)))
    return Response(status_code=204)


@router.delete("/dev/faults")
async def clear_faults(request: Request, state: CurrentState) -> Response:
    """Make the provider healthy again, for the registered client."""
    state.clients.authenticate_developer(request)
    state.faults.set(HEALTHY)
    return Response(status_code=204)


def _bearer_error(status: int, error: str | None) -> Response:
    challenge = 'Bearer realm="development provider"'
    if error is not None:
        challenge += f', error="{error}"'
    return Response(status_code=status, headers={**NO_STORE, "WWW-Authenticate": challenge})
