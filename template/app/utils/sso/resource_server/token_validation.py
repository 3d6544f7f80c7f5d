"""Whether a token is valid for this service, now, whatever the provider says of it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from app.core.settings import CoreSettings
from app.utils.sso.errors import ScopeInsufficient, TokenInvalid
from app.utils.sso.introspection_schema import TokenData
from app.utils.sso.resource_server.clock import Clock
from app.utils.sso.resource_server.metrics import REFUSALS
from app.utils.sso.resource_server.rate_limited_log import RateLimitedLog
from app.utils.sso.resource_server.unverified_claims import Jwt

logger = logging.getLogger(__name__)

LEEWAY_SECONDS = 30
# Another replica's clock may be a little ahead; a response from further on is not trusted.
_CLOCK_SKEW_SECONDS = 5
# A refresh or ID token lives longer than an access token and is kept less carefully. Providers
# call theirs active, whatever the hint says.
_ACCESS_TOKEN_TYPES = frozenset(
    {"access", "access_token", "application/at+jwt", "at+jwt", "bearer", "dpop", "jwt"}
)
# OpenID Connect Core §3.3.2.11: these tie an ID token to the access token that came with it.
_ID_TOKEN_CLAIMS = frozenset({"at_hash", "c_hash"})
_INACTIVE = TokenData(active=False)


class TokenNotInForce(TokenInvalid):
    """The token is expired, or not valid yet, by this service's clock."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is kept between requests: read once, and independent of time and route.

    The claims of its JWT are not kept, because an inactive token is anybody's text, and 10,000 of
    them would fill the memory.
    """

    data: TokenData
    # When the provider was asked, or the JWT was verified, in seconds since 1970.
    checked_at: float
    scopes: frozenset[str]
    audiences: frozenset[str]
    is_access_token: bool
    is_sender_constrained: bool
    # The line for the log and its level, if the token is inactive.
    why_inactive: tuple[int, str] | None

    def serves_until(self, seconds: float) -> float:
        """Return when the response is ``seconds`` old, or the token expires if that is earlier."""
        end = self.checked_at + seconds
        return end if self.data.exp is None else min(end, self.data.exp)

    def serves(self, seconds: float, now: float) -> bool:
        """Whether the response is at most ``seconds`` old, and the token has not expired.

        The age of a response from the future is unknown: the clock was set back.
        """
        return self.checked_at - _CLOCK_SKEW_SECONDS <= now < self.serves_until(seconds)


class TokenValidator:
    """Decides whether a token is valid for this service."""

    def __init__(self, settings: CoreSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._log = RateLimitedLog(logger, clock)

    def read(self, data: TokenData, jwt: Jwt | None, checked_at: float) -> Token:
        """Return the token, from its data and from its JWT, which need not be verified.

        What the JWT says can be a reason to refuse the token, and never one to accept it.
        """
        if not data.active:
            # The rest of the response means nothing, and must not be kept.
            data = _INACTIVE
        extra = data.model_extra or {}
        # All of them count: a refresh token may have the token_type Bearer and the typ Refresh.
        kinds = [data.token_type, extra.get("token_use"), extra.get("typ")]
        claims, bindings = set(extra), [extra.get("cnf")]
        if jwt is not None:
            kinds += [jwt.header.get("typ"), jwt.claims.get("token_use"), jwt.claims.get("typ")]
            # Beside the response's: for a refresh token, some repeat the claims of the ID token.
            claims |= set(jwt.claims)
            bindings.append(jwt.claims.get("cnf"))
        names = {kind.lower() for kind in kinds if isinstance(kind, str)}
        return Token(
            data,
            checked_at,
            scopes=data.scopes,
            audiences=data.audiences,
            is_access_token=names <= _ACCESS_TOKEN_TYPES and claims.isdisjoint(_ID_TOKEN_CLAIMS),
            is_sender_constrained="dpop" in names or any(it is not None for it in bindings),
            why_inactive=None if data.active else self._why_inactive(jwt),
        )

    def validate(self, token: Token, required_scopes: Sequence[str]) -> None:
        """Return if the token is valid now, for a request that needs ``required_scopes``.

        Raises:
            TokenNotInForce: It is expired or not yet valid.
            TokenInvalid: It is inactive, bound to a key, of another kind, from another issuer, or
                for another audience.
            ScopeInsufficient: It is valid, but lacks one of the scopes.
        """
        if token.why_inactive is not None:
            level, why = token.why_inactive
            if level == logging.WARNING:
                self._log.warning(why)
            else:
                logger.info(why)
            raise _refusal("inactive", "The token is expired, revoked or unknown.")
        self._validate_time(token.data)
        self._validate_kind(token)
        self._validate_origin(token)
        if not token.scopes.issuperset(required_scopes):
            logger.info("A token without a scope that the route requires was refused")
            REFUSALS.add(1, {"reason": "scope"})
            raise ScopeInsufficient(list(required_scopes))

    def _why_inactive(self, jwt: Jwt | None) -> tuple[int, str]:
        expires = None if jwt is None else jwt.claims.get("exp")
        if jwt is None or not isinstance(expires, int | float) or expires <= self._clock.time():
            return logging.INFO, "A token that is expired, revoked or unknown was refused"
        if jwt.claims.get("iss") != self._settings.sso_issuer:
            return (
                logging.INFO,
                "A token of another issuer was refused: SSO_ISSUER does not equal its iss",
            )
        # By its claims the token should be active, and a setting may be why it is not.
        if self._settings.client_id not in jwt.audiences:
            return logging.WARNING, (
                "The provider calls an unexpired token of our issuer inactive: CLIENT_ID is not in"
                " its aud, for which some providers do that (Keycloak since 26.4.12), or it was"
                " revoked"
            )
        return logging.WARNING, (
            "The provider calls an unexpired token of our issuer inactive: it was revoked, the"
            " provider knows itself by another host name than SSO_ISSUER, or it answers so to a"
            " wrong CLIENT_SECRET"
        )

    def _validate_time(self, data: TokenData) -> None:
        now = self._clock.time()
        if data.exp is not None and data.exp <= now - LEEWAY_SECONDS:
            logger.info("An expired token was refused")
            REFUSALS.add(1, {"reason": "time"})
            raise TokenNotInForce("The token is expired.")
        if data.nbf is not None and data.nbf > now + LEEWAY_SECONDS:
            logger.info("A token that is not valid yet was refused")
            REFUSALS.add(1, {"reason": "time"})
            raise TokenNotInForce("The token is not valid yet.")

    def _validate_kind(self, token: Token) -> None:
        if not token.is_access_token:
            self._log.warning("A token of another kind was presented as an access token")
            raise _refusal("kind", "The token is not an access token.")
        if token.is_sender_constrained:
            # RFC 9449 §7, RFC 8705 §3: without the proof, it may be in a thief's hands.
            self._log.warning("A sender-constrained token was presented without its proof")
            raise _refusal(
                "bound",
                "The token is sender-constrained, and the request has no proof of possession.",
            )

    def _validate_origin(self, token: Token) -> None:
        issuer = token.data.iss
        if issuer != self._settings.sso_issuer and (
            issuer is not None or self._settings.sso_require_issuer
        ):
            self._log.warning(
                "A token of another issuer was refused; SSO_ISSUER must equal its iss"
            )
            raise _refusal("issuer", "The token is from another issuer.")
        if self._settings.sso_audience not in token.audiences:
            self._log.warning("A token without SSO_AUDIENCE in its aud was refused")
            raise _refusal("audience", "The token was made for another service.")


def _refusal(reason: str, detail: str) -> TokenInvalid:
    REFUSALS.add(1, {"reason": reason})
    return TokenInvalid(detail)
