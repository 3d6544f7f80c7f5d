"""What a route may ask of a token beyond its scopes.

Admin = Annotated[TokenData, Depends(require_roles("admin"))]
Recent = Annotated[TokenData, Depends(require_authentication(max_age=300))]
"""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import HTTPConnection

from app.core.errors import Problem
from app.utils.sso.errors import (
    AuthenticationInsufficient,
    RoleInsufficient,
    add_resource_metadata,
)
from app.utils.sso.introspection import CurrentToken
from app.utils.sso.introspection_schema import TokenData
from app.utils.sso.resource_server.metrics import REFUSALS
from app.utils.sso.resource_server.resource_metadata import metadata_url
from app.utils.sso.resource_server.token_validation import LEEWAY_SECONDS

logger = logging.getLogger(__name__)

type Requirement = Callable[..., Awaitable[TokenData]]


def require_roles(*roles: str) -> Requirement:
    """Return a dependency on a token whose user has one of ``roles``, by ``SSO_ROLES_CLAIM``.

    It raises ``RoleInsufficient``, 403, beside what ``introspect_token`` raises.
    """

    async def token_with_role(token: CurrentToken, connection: HTTPConnection) -> TokenData:
        if token.roles.isdisjoint(roles):
            logger.info("A token without a role that the route requires was refused")
            raise _counted(RoleInsufficient(), "role", connection)
        return token

    return token_with_role


def require_authentication(
    *, max_age: int | None = None, acr_values: Sequence[str] = ()
) -> Requirement:
    """Return a dependency on a token whose user has logged in recently or strongly enough.

    It raises ``AuthenticationInsufficient``, 401, beside what ``introspect_token`` raises; the
    challenge tells the client what to ask the provider for (RFC 9470 §3).

    Args:
        max_age: Seconds since the user logged in, by the claim ``auth_time``.
        acr_values: One of these must be the claim ``acr``.

    Raises:
        TypeError: ``acr_values`` is a string, of which any part would be accepted.
    """
    if isinstance(acr_values, str):
        raise TypeError(f"write acr_values as [{acr_values!r}]")

    async def token_of_authentication(token: CurrentToken, connection: HTTPConnection) -> TokenData:
        if _is_recent(token, max_age) and (not acr_values or token.claim("acr") in acr_values):
            return token
        logger.info("A token whose login is too old or too weak was refused")
        refusal = AuthenticationInsufficient(
            "The user must authenticate again, or with a stronger method.",
            acr_values=acr_values,
            max_age=max_age,
        )
        raise _counted(refusal, "authentication", connection)

    return token_of_authentication


def _counted[P: Problem](refusal: P, reason: str, connection: HTTPConnection) -> P:
    REFUSALS.add(1, {"reason": reason})
    add_resource_metadata(refusal, metadata_url(connection))
    return refusal


def _is_recent(token: TokenData, max_age: int | None) -> bool:
    if max_age is None:
        return True
    logged_in = token.claim("auth_time")
    if not isinstance(logged_in, int | float) or isinstance(logged_in, bool):
        return False
    return time.time() - max_age - LEEWAY_SECONDS <= logged_in <= time.time() + LEEWAY_SECONDS
