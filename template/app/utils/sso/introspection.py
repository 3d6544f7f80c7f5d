"""Where a token is checked: ``introspect_token`` is the dependency of every protected route.

@router.get("/reports")
async def list_reports(token: CurrentToken) -> list[Report]: ...

@router.post("/reports")
async def create_report(
    token: Annotated[TokenData, Security(introspect_token, scopes=["report:write"])],
) -> Report: ...
"""

import logging
import re
from typing import Annotated

from fastapi import Depends, Security
from fastapi.security import HTTPBearer, OpenIdConnect, SecurityScopes
from starlette.requests import HTTPConnection

from app.core.errors import Problem
from app.utils.sso.errors import (
    TokenInvalid,
    TokenMissing,
    TokenRequestInvalid,
    add_resource_metadata,
)
from app.utils.sso.introspection_schema import TokenData
from app.utils.sso.resource_server.introspector import Introspector
from app.utils.sso.resource_server.resource_metadata import metadata_url

logger = logging.getLogger(__name__)

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
    try:
        bearer = _bearer_token(connection, required.scopes)
        introspector: Introspector = connection.app.state.introspector
        return await introspector.token_data(bearer, required.scopes)
    except Problem as refusal:
        add_resource_metadata(refusal, metadata_url(connection))
        raise


CurrentToken = Annotated[TokenData, Depends(introspect_token)]


def _bearer_token(connection: HTTPConnection, required: list[str]) -> str:
    headers = connection.headers.getlist("authorization")
    if len(headers) > 1 or (headers and not headers[0].strip()):
        logger.info("A request with several Authorization headers, or an empty one, was refused")
        raise TokenRequestInvalid("Send exactly one Authorization header, and not an empty one.")
    scheme, _, token = (headers[0] if headers else "").strip().partition(" ")
    if scheme.lower() != "bearer":
        logger.debug("A request without a bearer token was refused")
        raise TokenMissing(required)
    token = token.strip()
    if not token:
        logger.info("A request whose Authorization header names no token was refused")
        raise TokenRequestInvalid("The Authorization header names no token.")
    if len(token) > _MAX_TOKEN_BYTES or not _TOKEN.fullmatch(token):
        logger.info("A malformed token was refused")
        raise TokenInvalid("The token is malformed.")
    return token
