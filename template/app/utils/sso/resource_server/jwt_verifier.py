"""Checking a JWT without asking the provider (RFC 9068)."""

import logging
import time

from app.core.settings import CoreSettings
from app.utils.sso.errors import TokenInvalid
from app.utils.sso.introspection_schema import ClaimNames, TokenData
from app.utils.sso.resource_server.jwks_client import InvalidSignature, ProviderKeys, Verified
from app.utils.sso.resource_server.metrics import REFUSALS
from app.utils.sso.resource_server.token_validation import LEEWAY_SECONDS

logger = logging.getLogger(__name__)

# RFC 9068 §2.2; client_id and jti are left out by many providers, and nothing here needs them.
_REQUIRED = ("iss", "sub", "aud", "exp", "iat")
# What else providers call the client: OpenID Connect, Entra ID and Okta, in this order.
_CLIENT_CLAIMS = ("azp", "appid", "cid")
_STRICT_TYPES = frozenset({"at+jwt", "application/at+jwt"})
# The last second of the year 9999. What is later was never meant as a time.
_END_OF_TIME = 253_402_300_799


class LocalJwt:
    """Verifies the signature and the form of a token; what it is worth is judged elsewhere."""

    def __init__(self, keys: ProviderKeys, settings: CoreSettings, names: ClaimNames) -> None:
        self._keys = keys
        self._strict = settings.sso_jwt_type == "at+jwt"
        # Where the provider is asked as well, it tells an ID token better than the nonce does.
        self._alone = settings.sso_mode == "jwt"
        self._names = names

    async def check(self, token: str) -> TokenData:
        """Return the claims of a token that the provider has signed.

        Raises:
            TokenInvalid: It is no JWT of the provider, or not what RFC 9068 asks for.
            ProviderUnavailable: The provider's keys cannot be had.
            ProviderMisconfigured: The provider is not the one of the settings.
        """
        try:
            verified = await self._keys.verify(token)
        except InvalidSignature as error:
            raise _refusal(str(error)) from None
        self._check_form(verified)
        try:
            return TokenData.read(_members(verified.claims), self._names)
        except (ValueError, OverflowError, RecursionError):
            raise _refusal("The token has a claim of the wrong type.") from None

    def _check_form(self, verified: Verified) -> None:
        header, claims = verified
        if self._strict and str(header.get("typ")).lower() not in _STRICT_TYPES:
            raise _refusal("The token does not say that it is an access token (at+jwt).")
        # An ID token that was logged in for with a nonce carries it back (OpenID Connect §2). So
        # do some providers' access tokens, which have a scope.
        is_from_login = "nonce" in claims and "scope" not in claims and "scp" not in claims
        if is_from_login and self._alone and not self._strict:
            raise _refusal("The token is not an access token.")
        if missing := [name for name in _REQUIRED if claims.get(name) is None]:
            raise _refusal(f"The token has no {missing[0]}.")
        expires, issued = _time(claims["exp"]), _time(claims["iat"])
        if expires is None or issued is None:
            raise _refusal("The token has a time that is none.")
        if issued > time.time() + LEEWAY_SECONDS:
            raise _refusal("The token is from the future.")


def _members(claims: dict[str, object]) -> dict[str, object]:
    client = next((claims[name] for name in _CLIENT_CLAIMS if claims.get(name)), None)
    return {"client_id": client, **claims, "active": True}


def _refusal(detail: str) -> TokenInvalid:
    # The sentences are ours, and hold nothing of the token.
    logger.info("A JWT was refused: %s", detail)
    REFUSALS.add(1, {"reason": "jwt"})
    return TokenInvalid(detail)


def _time(value: object) -> float | None:
    """Return seconds since 1970, if the value is a number that can mean them."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if 0 <= value <= _END_OF_TIME else None
