"""Where a token is checked: ``introspect_token`` is the dependency of every protected route.

@router.get("/reports")
async def list_reports(token: CurrentToken) -> list[Report]: ...

@router.post("/reports")
async def create_report(
    token: Annotated[TokenData, Security(introspect_token, scopes=["report:write"])],
) -> Report: ...
"""

import re
from typing import Annotated

from fastapi import Depends, Security
from fastapi.security import HTTPBearer, OpenIdConnect, SecurityScopes
from starlette.requests import HTTPConnection

from app.core.settings import CoreSettings
from app.utils.sso.errors import TokenInvalid, TokenMissing, TokenRequestInvalid
from app.utils.sso.introspection_schema import TokenData
from app.utils.sso.introspector import Introspector
from app.utils.sso.verdict import judge

# RFC 6750 §2.1, the syntax of a token; another character never came from a provider.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
_MAX_TOKEN_BYTES = 8 * 1024


class _Login(OpenIdConnect):
    """How to log in, for the API's description only; a WebSocket route may depend on it too."""

    async def __call__(self, connection: HTTPConnection) -> None:
        """Ask for nothing: ``introspect_token`` does."""


class _Paste(HTTPBearer):
    """Where to paste a token, for the API's description only."""

    async def __call__(self, connection: HTTPConnection) -> None:
        """Ask for nothing: ``introspect_token`` does."""


# The URL is filled in from the settings when the description is made.
_login = _Login(
    openIdConnectUrl="/.well-known/openid-configuration",
    scheme_name="SSO",
    description="Log in at the identity provider.",
)
_paste = _Paste(scheme_name="Token", description="A token that you have already.")


async def introspect_token(
    connection: HTTPConnection,
    required: SecurityScopes,
    _described_as: Annotated[object, Security(_login)],
    _or_as: Annotated[object, Security(_paste)],
) -> TokenData:
    """Return what the identity provider says about the bearer token of a request or WebSocket.

    Raises:
        TokenMissing: 401, there is none.
        TokenRequestInvalid: 400, the Authorization header is malformed.
        TokenInvalid: 401, the token is not good for this service.
        ScopeInsufficient: 403, it lacks one of the scopes that the route requires.
        ProviderUnavailable: 503, it could not be checked.
        ProviderMisconfigured: 503, the provider refuses this service itself.
    """
    bearer = _bearer_token(connection)
    settings: CoreSettings = connection.app.state.settings
    introspector: Introspector = connection.app.state.introspector
    token = await introspector.introspect(bearer)
    judge(token, settings, required.scopes)
    return token


CurrentToken = Annotated[TokenData, Depends(introspect_token)]


def _bearer_token(connection: HTTPConnection) -> str:
    headers = connection.headers.getlist("authorization")
    if not headers:
        raise TokenMissing
    if len(headers) > 1 or not headers[0].strip():
        raise TokenRequestInvalid("Send exactly one Authorization header, and not an empty one.")
    scheme, _, token = headers[0].strip().partition(" ")
    if scheme.lower() != "bearer":
        raise TokenMissing
    token = token.strip()
    if not token:
        raise TokenRequestInvalid("The Authorization header names no token.")
    if len(token) > _MAX_TOKEN_BYTES or not _TOKEN.fullmatch(token):
        raise TokenInvalid("The token is malformed.")
    return token
