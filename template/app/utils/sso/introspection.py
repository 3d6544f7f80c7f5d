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

from fastapi import Depends
from fastapi.openapi.models import OpenIdConnect
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from app.core.errors import Problem
from app.core.middleware import TOKEN
from app.core.request_log import CALLER
from app.utils.sso.errors import (
    ProviderMisconfigured,
    ProviderUnavailable,
    TokenInvalid,
    TokenMissing,
    TokenRequestInvalid,
    add_resource_metadata,
)
from app.utils.sso.introspection_schema import TokenData
from app.utils.sso.resource_server.introspector import Introspector
from app.utils.sso.resource_server.provider_errors import (
    ProviderConfigurationError,
    ProviderError,
)
from app.utils.sso.resource_server.resource_metadata import metadata_url
from app.utils.sso.resource_server.token_validation import Token

logger = logging.getLogger(__name__)

# The syntax of a token (RFC 6750 §2.1); no provider issues one with another character.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
_MAX_TOKEN_BYTES = 8 * 1024
_FORWARDED = frozenset({b"forwarded", b"x-forwarded-for"})


class TokenIntrospection(SecurityBase):
    """The dependency behind ``introspect_token``.

    FastAPI takes it for a security scheme, and describes it and its scopes on each route, without
    a parameter that would have to be resolved at each request. ``app.core.openapi`` fills in the
    URL, and adds the scheme for pasting a token.
    """

    scheme_name = "SSO"
    model = OpenIdConnect(
        openIdConnectUrl="/.well-known/openid-configuration",
        description="Log in at the identity provider.",
    )

    async def __call__(self, connection: HTTPConnection, required: SecurityScopes) -> TokenData:
        """Return what the identity provider says about the bearer token of a request or WebSocket.

        Raises:
            TokenMissing: 401, there is none.
            TokenRequestInvalid: 400, the Authorization header is malformed.
            TokenInvalid: 401, the token is not good for this service.
            ScopeInsufficient: 403, it lacks one of the scopes that the route requires.
            ProviderUnavailable: 503, it could not be checked.
            ProviderMisconfigured: 503, the provider rejects this service itself.
        """
        try:
            # Once per request, however many dependencies ask.
            found: tuple[str, Token] | None = connection.scope.get(TOKEN)
            bearer = found[0] if found else _bearer_token(connection, required.scopes)
            introspector: Introspector = connection.app.state.introspector
            if found is None:
                found = bearer, await introspector.look_up(bearer, _client(connection))
                connection.scope[TOKEN] = found
                connection.scope[CALLER] = found[1].caller
            return introspector.validate(*found, required.scopes)
        except Problem as refusal:
            add_resource_metadata(refusal, metadata_url(connection))
            raise
        except ProviderConfigurationError as error:
            raise ProviderMisconfigured(error.retry_after) from None
        except ProviderError as error:
            raise ProviderUnavailable(error.retry_after) from None


introspect_token = TokenIntrospection()

CurrentToken = Annotated[TokenData, Depends(introspect_token)]


def _client(connection: HTTPConnection) -> str | None:
    """Return the address of the caller, or None if only that of a proxy in between is known."""
    host, port = connection.scope.get("client") or (None, 0)
    # The server replaces address and port where it trusts the proxy (FORWARDED_ALLOW_IPS).
    is_proxy = port != 0 and any(name in _FORWARDED for name, _ in connection.scope["headers"])
    return None if is_proxy else host


def _bearer_token(connection: HTTPConnection, required: list[str]) -> str:
    # Each request asks for one header, for which Starlette's would decode them all.
    names = connection.scope["headers"]
    headers = [value.decode("latin-1") for name, value in names if name == b"authorization"]
    if len(headers) > 1 or (headers and not headers[0].strip(" \t")):
        logger.info("A request with several Authorization headers, or an empty one, was refused")
        raise TokenRequestInvalid("Send exactly one non-empty Authorization header.")
    scheme, _, token = (headers[0] if headers else "").strip(" \t").partition(" ")
    if scheme.lower() != "bearer":
        logger.debug("A request without a bearer token was refused")
        raise TokenMissing(required)
    token = token.strip(" \t")
    if not token:
        logger.info("A request whose Authorization header names no token was refused")
        raise TokenRequestInvalid("The Authorization header contains no token.")
    if len(token) > _MAX_TOKEN_BYTES or not _TOKEN.fullmatch(token):
        logger.info("A malformed token was refused")
        raise TokenInvalid("The token is malformed.")
    return token
