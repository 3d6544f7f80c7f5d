"""Whether a token that the provider calls active is meant for this service, now."""

import logging
import time

from app.core.settings import CoreSettings
from app.utils.sso.errors import ScopeInsufficient, TokenInvalid
from app.utils.sso.introspection_schema import TokenData

logger = logging.getLogger(__name__)

_LEEWAY_SECONDS = 30
# A refresh or ID token lives longer than an access token and is kept less carefully. Providers
# call theirs active, whatever the hint says.
_ACCESS_TOKEN_TYPES = frozenset(
    {"access", "access_token", "application/at+jwt", "at+jwt", "bearer", "dpop", "jwt"}
)


def judge(token: TokenData, settings: CoreSettings, required_scopes: list[str]) -> None:
    """Return if the token is good for a request that needs ``required_scopes``.

    Raises:
        TokenInvalid: It is inactive, expired, not yet valid, bound to a key, of another kind,
            from another issuer, or for another audience.
        ScopeInsufficient: It is good, but lacks a scope.
    """
    if not token.active:
        raise TokenInvalid("The token is expired, revoked or unknown.")
    _judge_time(token)
    _judge_kind(token)
    _judge_origin(token, settings)
    if not token.scopes.issuperset(required_scopes):
        raise ScopeInsufficient(required_scopes)


def _judge_time(token: TokenData) -> None:
    now = time.time()
    if token.exp is not None and token.exp <= now - _LEEWAY_SECONDS:
        raise TokenInvalid("The token is expired.")
    if token.nbf is not None and token.nbf > now + _LEEWAY_SECONDS:
        raise TokenInvalid("The token is not valid yet.")


def _judge_kind(token: TokenData) -> None:
    claims = token.model_extra or {}
    # Each is looked at, because a refresh token may be called Bearer in one and Refresh in another.
    kinds = (token.token_type, claims.get("token_use"), claims.get("typ"))
    if any(isinstance(kind, str) and kind.lower() not in _ACCESS_TOKEN_TYPES for kind in kinds):
        logger.warning("A token of another kind was presented as an access token")
        raise TokenInvalid("The token is not an access token.")
    if claims.get("cnf") is not None or (token.token_type or "").lower() == "dpop":
        # RFC 9449 §7, RFC 8705 §3: without the proof, it may be in a thief's hands.
        logger.warning("A sender-constrained token was presented without its proof")
        raise TokenInvalid("The token is bound to a key, and the request proves none.")


def _judge_origin(token: TokenData, settings: CoreSettings) -> None:
    if token.iss is not None and token.iss != settings.sso_issuer:
        logger.warning("A token of another issuer was refused; SSO_ISSUER must equal its iss")
        raise TokenInvalid("The token is from another issuer.")
    if settings.sso_audience not in token.audiences:
        logger.warning("A token without SSO_AUDIENCE in its aud was refused")
        raise TokenInvalid("The token was made for another service.")
