"""Whether a token is valid for this service, now, whatever the provider says of it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import NamedTuple, Self

from pydantic import ValidationError

from app.core.rate_limited_log import RateLimitedLog
from app.core.settings import CoreSettings
from app.utils.sso.errors import ScopeInsufficient, TokenInvalid
from app.utils.sso.introspection_schema import ClaimNames, TokenData
from app.utils.sso.resource_server.clock import Clock
from app.utils.sso.resource_server.metrics import REFUSALS
from app.utils.sso.resource_server.unverified_claims import Jwt

logger = logging.getLogger(__name__)

LEEWAY_SECONDS = 30
# Another replica's clock may be a little ahead; a response from further on is not trusted.
_CLOCK_SKEW_SECONDS = 5
# A refresh or ID token lives longer than an access token and is kept less carefully. Providers
# call theirs active, whatever the hint says.
_RFC_9068_TYPES = frozenset({"at+jwt", "application/at+jwt"})
_ACCESS_TOKEN_TYPES = _RFC_9068_TYPES | {"access", "access_token", "bearer", "dpop", "jwt"}
# What only other tokens have: ID tokens (OpenID Connect Core §3.3.2.11, CIBA §7.3), security events
# and logout tokens (RFC 8417 §2.2), introspection responses (RFC 9701 §5), authorization responses
# (JARM §2.1).
_FOREIGN_CLAIMS = frozenset(
    {
        "access_token",
        "at_hash",
        "c_hash",
        "events",
        "id_token",
        "s_hash",
        "token_introspection",
        "urn:openid:params:jwt:claim:rt_hash",
    }
)
# What an access token has beside its scope or its client, and another token by itself: the session
# of an ID token, and the outcome of an authorization request.
_CLAIMS_WITH_CLIENT = frozenset({"sid", "code", "error"})
_SCOPE_CLAIMS = frozenset({"scope", "scp"})
_INACTIVE = TokenData(active=False)


class TokenNotInForce(TokenInvalid):
    """The token is expired, or not valid yet, by this service's clock."""


class Fault(NamedTuple):
    """Why a token is not good, whatever the time and the route."""

    # The reason in the metric, and what the caller is told.
    reason: str
    detail: str
    # The level and the line for the log.
    level: int
    line: str


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is kept between requests: judged once, but for the time and the scopes.

    The claims of its JWT are not kept, because an inactive token is anybody's text, and 10,000 of
    them would fill the memory.
    """

    data: TokenData
    # When the provider was asked, or the JWT was verified, in seconds since 1970.
    checked_at: float
    scopes: frozenset[str]
    fault: Fault | None
    # What the log says about the caller.
    caller: Mapping[str, str]

    def ending_with(self, signed: TokenData) -> Self:
        """Return the token with the earlier end, of its own and that of the signed claims."""
        ends = [end for end in (self.data.exp, signed.exp) if end is not None]
        if not self.data.active or not ends:
            return self
        return replace(self, data=self.data.model_copy(update={"exp": min(ends)}))

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
    """Decides whether a token is valid for this service: by the same rules in every mode."""

    def __init__(self, settings: CoreSettings, clock: Clock) -> None:
        self._settings = settings
        self._names = ClaimNames(settings.sso_subject_claim, settings.sso_roles_claim)
        # A response comes from the issuer, for a token that is active now. A signature says
        # neither: several issuers may share a key, and it never ends.
        self._is_signed = settings.sso_mode != "introspect"
        self._needs_type = settings.sso_jwt_type == "at+jwt"
        self._clock = clock
        self._log = RateLimitedLog(logger, clock)

    def read(
        self,
        members: Mapping[str, object],
        jwt: Jwt | None,
        checked_at: float,
        *,
        is_complete: bool = True,
    ) -> Token:
        """Return the token, from a response or from signed claims, and from its JWT.

        What a JWT says that nobody has verified can be a reason to refuse the token, and never one
        to accept it. If the ``members`` are not complete, the provider may still add a scope.
        """
        fault, data = None, _INACTIVE
        if members.get("active") is True:
            try:
                data = TokenData.read(members, self._names)
            except ValueError as error:
                fault = _unreadable(error)
        else:
            # The rest of the response means nothing, and must not be kept.
            fault = self._inactive(jwt)
        if fault is None:
            fault = self._wrong_kind(data, members, jwt, is_complete) or self._wrong_origin(data)
        return Token(data, checked_at, data.scopes, fault, self._describe(data))

    def validate(self, token: Token, required_scopes: Sequence[str]) -> None:
        """Return if the token is valid now, for a request that needs ``required_scopes``.

        Raises:
            TokenNotInForce: It is expired or not yet valid.
            TokenInvalid: It is inactive, cannot be read, is bound to a key, of another kind, from
                another issuer, or for another audience.
            ScopeInsufficient: It is valid, but lacks one of the scopes.
        """
        self._validate_time(token.data)
        if (fault := token.fault) is not None:
            if fault.level == logging.WARNING:
                self._log.warning(fault.line)
            else:
                logger.info(fault.line)
            REFUSALS.add(1, {"reason": fault.reason})
            raise TokenInvalid(fault.detail)
        if not token.scopes.issuperset(required_scopes):
            logger.info("A token without a scope that the route requires was refused")
            REFUSALS.add(1, {"reason": "scope"})
            raise ScopeInsufficient(list(required_scopes))

    def _describe(self, data: TokenData) -> dict[str, str]:
        """Return what the log says about a caller: the subject may be a name or an address."""
        found: dict[str, str] = {}
        if data.client_id is not None:
            found["client_id"] = data.client_id
        if data.subject is not None:
            # The key keeps those who have a list of all names from finding the one of a hash.
            key = self._settings.client_secret.get_secret_value().encode()[: blake2b.MAX_KEY_SIZE]
            subject = f"{data.iss} {data.subject}".encode()
            found["subject"] = blake2b(subject, key=key, digest_size=8).hexdigest()
        return found

    def _validate_time(self, data: TokenData) -> None:
        now = self._clock.time()
        if data.exp is not None and data.exp <= now - LEEWAY_SECONDS:
            raise _not_in_force("expired")
        if data.nbf is not None and data.nbf > now + LEEWAY_SECONDS:
            raise _not_in_force("not valid yet")
        if data.iat is not None and data.iat > now + LEEWAY_SECONDS:
            raise _not_in_force("issued in the future")

    def _inactive(self, jwt: Jwt | None) -> Fault:
        detail = "The token is expired, revoked or unknown."
        expires = None if jwt is None else jwt.claims.get("exp")
        if jwt is None or not isinstance(expires, int | float) or expires <= self._clock.time():
            line = "A token that is expired, revoked or unknown was refused"
            return Fault("inactive", detail, logging.INFO, line)
        if jwt.claims.get("iss") != self._settings.sso_issuer:
            line = "A token of another issuer was refused: SSO_ISSUER does not equal its iss"
            return Fault("inactive", detail, logging.INFO, line)
        # By its claims the token should be active, and a setting may be why it is not.
        if self._settings.client_id not in jwt.audiences:
            line = (
                "The provider calls an unexpired token of our issuer inactive: CLIENT_ID is not in"
                " its aud, for which some providers do that (Keycloak since 26.4.12), or it was"
                " revoked"
            )
        else:
            line = (
                "The provider calls an unexpired token of our issuer inactive: it was revoked, the"
                " provider knows itself by another host name than SSO_ISSUER, or it answers so to a"
                " wrong CLIENT_SECRET"
            )
        return Fault("inactive", detail, logging.WARNING, line)

    def _wrong_kind(
        self,
        data: TokenData,
        members: Mapping[str, object],
        jwt: Jwt | None,
        is_complete: bool,
    ) -> Fault | None:
        header_type = None if jwt is None else _lower(jwt.header.get("typ"))
        is_named = self._needs_type and header_type in _RFC_9068_TYPES
        if self._is_signed and self._needs_type and not is_named:
            return _FAULT_TYPE
        # What either says counts: some providers repeat the claims of an ID token in the response
        # for a refresh token, whose token_type may be Bearer and whose typ Refresh.
        said = [members, jwt.claims if jwt is not None else {}]
        claims = {name for it in said for name, value in it.items() if value is not None}
        kinds = [it.get(name) for it in said for name in ("token_type", "token_use", "typ")]
        names = {_lower(kind) for kind in (*kinds, header_type) if isinstance(kind, str)}
        is_from_login = "nonce" in claims
        is_outcome = data.client_id is None and not claims.isdisjoint(_CLAIMS_WITH_CLIENT)
        # With the type at+jwt, the provider has said what it is.
        is_clear = is_named or not is_complete or not claims.isdisjoint(_SCOPE_CLAIMS)
        if (
            not names <= _ACCESS_TOKEN_TYPES
            or not claims.isdisjoint(_FOREIGN_CLAIMS)
            or ((is_from_login or is_outcome) and not is_clear)
        ):
            return _FAULT_KIND
        # RFC 9449 §7, RFC 8705 §3: without the proof, it may be in a thief's hands.
        return _FAULT_BOUND if "dpop" in names or "cnf" in claims else None

    def _wrong_origin(self, data: TokenData) -> Fault | None:
        if data.exp is None and self._is_signed:
            return _FAULT_ENDLESS
        needs_issuer = self._is_signed or self._settings.sso_require_issuer
        if data.iss != self._settings.sso_issuer and (data.iss is not None or needs_issuer):
            return _FAULT_ISSUER
        return None if self._settings.sso_audience in data.audiences else _FAULT_AUDIENCE


_FAULT_TYPE = Fault(
    "kind",
    "The token does not say that it is an access token (at+jwt).",
    logging.WARNING,
    "A JWT whose header does not say at+jwt was refused; if the provider's access tokens do not say"
    " so, set SSO_JWT_TYPE=any",
)
_FAULT_KIND = Fault(
    "kind",
    "The token is not an access token.",
    logging.WARNING,
    "A token of another kind was presented as an access token",
)
_FAULT_BOUND = Fault(
    "bound",
    "The token is sender-constrained, and the request has no proof of possession.",
    logging.WARNING,
    "A sender-constrained token was presented without its proof",
)
_FAULT_ENDLESS = Fault(
    "claims", "The token has no exp.", logging.WARNING, "A signed token without exp was refused"
)
_FAULT_ISSUER = Fault(
    "issuer",
    "The token is from another issuer.",
    logging.WARNING,
    "A token of another issuer was refused; SSO_ISSUER must equal its iss",
)
_FAULT_AUDIENCE = Fault(
    "audience",
    "The token was made for another service.",
    logging.WARNING,
    "A token without SSO_AUDIENCE in its aud was refused",
)


def _unreadable(error: ValueError) -> Fault:
    # The names of claims are the RFC's and may be logged; their values may not.
    errors = error.errors() if isinstance(error, ValidationError) else []
    names = ", ".join(dict.fromkeys(str(details["loc"][0]) for details in errors)) or "times"
    return Fault(
        "claims",
        "The token has a claim of the wrong type.",
        logging.WARNING,
        f"A token was refused because RFC 7662 does not allow its {names}",
    )


def _not_in_force(what: str) -> TokenNotInForce:
    logger.info("A token that is %s by this service's clock was refused", what)
    REFUSALS.add(1, {"reason": "time"})
    return TokenNotInForce(f"The token is {what}.")


def _lower(value: object) -> object:
    """Return a name of ASCII in lower case; str.lower() would take the Kelvin sign for a k."""
    return value.lower() if isinstance(value, str) and value.isascii() else value
