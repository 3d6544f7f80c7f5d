"""Whether a token that the provider calls active is meant for this service, now."""

import logging
import time

from app.core.settings import CoreSettings
from app.utils.sso.errors import ScopeInsufficient, TokenInvalid
from app.utils.sso.introspection_schema import TokenData
from app.utils.sso.resource_server.metrics import REFUSALS
from app.utils.sso.resource_server.rate_limited_log import SparingLog
from app.utils.sso.resource_server.unverified_claims import Peek, peek

logger = logging.getLogger(__name__)

LEEWAY_SECONDS = 30
# A refresh or ID token lives longer than an access token and is kept less carefully. Providers
# call theirs active, whatever the hint says.
_ACCESS_TOKEN_TYPES = frozenset(
    {"access", "access_token", "application/at+jwt", "at+jwt", "bearer", "dpop", "jwt"}
)
# OpenID Connect §3.3.2.11: these tie an ID token to the access token that came with it.
_ID_TOKEN_CLAIMS = frozenset({"at_hash", "c_hash"})


class TokenOutOfTime(TokenInvalid):
    """The token is expired, or not valid yet, by this service's clock."""


class Judge:
    """Decides what a token is worth to this service, at each request anew."""

    def __init__(self, settings: CoreSettings) -> None:
        self._settings = settings
        self._log = SparingLog(logger)

    def judge(self, token: TokenData, presented: str, required_scopes: list[str]) -> None:
        """Return if the token is good for a request that needs ``required_scopes``.

        Args:
            token: What the provider says about it.
            presented: The token itself, as the caller sent it.
            required_scopes: All of them must be in its scope.

        Raises:
            TokenOutOfTime: It is expired or not yet valid.
            TokenInvalid: It is inactive, bound to a key, of another kind, from another issuer, or
                for another audience.
            ScopeInsufficient: It is good, but lacks a scope.
        """
        said = peek(presented)
        if not token.active:
            self._refuse_inactive(said)
        self._judge_time(token)
        self._judge_kind(token, said)
        self._judge_origin(token)
        if not token.scopes.issuperset(required_scopes):
            logger.info("A token without a scope that the route requires was refused")
            REFUSALS.add(1, {"reason": "scope"})
            raise ScopeInsufficient(required_scopes)

    def _refuse_inactive(self, said: Peek | None) -> None:
        if said is None or not _is_in_time(said.claims.get("exp")):
            logger.info("A token that is expired, revoked or unknown was refused")
        elif said.claims.get("iss") != self._settings.sso_issuer:
            logger.info("A token of another issuer was refused: SSO_ISSUER does not equal its iss")
        elif self._settings.client_id not in _strings(said.claims.get("aud")):
            self._log.warning(
                "The provider calls an unexpired token of our issuer inactive: CLIENT_ID is not in"
                " its aud, for which some providers do that (Keycloak since 26.4.12), or it was"
                " revoked"
            )
        else:
            self._log.warning(
                "The provider calls an unexpired token of our issuer inactive: it was revoked, the"
                " provider knows itself by another host name than SSO_ISSUER, or it answers so to a"
                " wrong CLIENT_SECRET"
            )
        raise _refusal("inactive", "The token is expired, revoked or unknown.")

    def _judge_time(self, token: TokenData) -> None:
        now = time.time()
        if token.exp is not None and token.exp <= now - LEEWAY_SECONDS:
            logger.info("An expired token was refused")
            REFUSALS.add(1, {"reason": "time"})
            raise TokenOutOfTime("The token is expired.")
        if token.nbf is not None and token.nbf > now + LEEWAY_SECONDS:
            logger.info("A token that is not valid yet was refused")
            REFUSALS.add(1, {"reason": "time"})
            raise TokenOutOfTime("The token is not valid yet.")

    def _judge_kind(self, token: TokenData, said: Peek | None) -> None:
        claims = token.model_extra or {}
        # Each is looked at, because a refresh token may be called Bearer in one and Refresh in
        # another.
        kinds = [token.token_type, claims.get("token_use"), claims.get("typ")]
        if said is not None:
            kinds += [said.header.get("typ"), said.claims.get("token_use"), said.claims.get("typ")]
        is_other = any(
            isinstance(kind, str) and kind.lower() not in _ACCESS_TOKEN_TYPES for kind in kinds
        )
        # In the response too: for a refresh token some providers repeat what they gave with it.
        everything = set(claims) | set(said.claims if said is not None else ())
        if is_other or not everything.isdisjoint(_ID_TOKEN_CLAIMS):
            self._log.warning("A token of another kind was presented as an access token")
            raise _refusal("kind", "The token is not an access token.")
        is_bound = any(isinstance(kind, str) and kind.lower() == "dpop" for kind in kinds)
        is_bound = is_bound or claims.get("cnf") is not None
        if is_bound or (said is not None and said.claims.get("cnf") is not None):
            # RFC 9449 §7, RFC 8705 §3: without the proof, it may be in a thief's hands.
            self._log.warning("A sender-constrained token was presented without its proof")
            raise _refusal("bound", "The token is bound to a key, and the request proves none.")

    def _judge_origin(self, token: TokenData) -> None:
        if token.iss != self._settings.sso_issuer and (
            token.iss is not None or self._settings.sso_require_issuer
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


def _is_in_time(exp: object) -> bool:
    return isinstance(exp, int | float) and exp > time.time()


def _strings(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]
