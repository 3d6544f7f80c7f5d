"""Verifying a JWT by its signature (RFC 7515, RFC 9068)."""

import logging
from collections.abc import Iterable, Mapping

import jwt

from app.core.settings import CoreSettings
from app.utils.sso.errors import TokenInvalid
from app.utils.sso.introspection_schema import ClaimNames, TokenData
from app.utils.sso.resource_server.clock import Clock
from app.utils.sso.resource_server.jwks_client import KEY_TYPES, JwksClient
from app.utils.sso.resource_server.metrics import REFUSALS
from app.utils.sso.resource_server.strict_json import parse_object
from app.utils.sso.resource_server.token_validation import LEEWAY_SECONDS
from app.utils.sso.resource_server.unverified_claims import Jwt, read_unverified_jwt

logger = logging.getLogger(__name__)

_JWS = jwt.PyJWS(options={"enforce_minimum_key_length": True})
# PyJWT knows it by its older, wider name only.
_JWS.register_algorithm("Ed25519", _JWS.get_algorithm_by_name("EdDSA"))

# RFC 9068 §2.2; client_id and jti are left out by many providers, and nothing here needs them.
_REQUIRED = ("iss", "sub", "aud", "exp", "iat")
# Other names of client_id: OpenID Connect's, Entra ID's and Okta's.
_CLIENT_CLAIMS = ("azp", "appid", "cid")
_STRICT_TYPES = frozenset({"at+jwt", "application/at+jwt"})
# The last second of the year 9999. Nothing later was ever meant as a time.
_END_OF_TIME = 253_402_300_799


class InvalidJwt(Exception):
    """The token is no JWT that the provider has signed; the message is for the caller."""


class JwtVerifier:
    """Verifies the signature and the form of a JWT; ``TokenValidator`` judges the rest."""

    def __init__(
        self, keys: JwksClient, settings: CoreSettings, names: ClaimNames, clock: Clock
    ) -> None:
        self._keys = keys
        self._issuer = settings.sso_issuer
        self._strict = settings.sso_jwt_type == "at+jwt"
        # Where the provider is asked as well, it recognises an ID token better than we can.
        self._alone = settings.sso_mode == "jwt"
        self._names = names
        self._clock = clock

    async def verify_signature(self, token: str) -> Jwt:
        """Return the content of a JWT that the provider has signed, whatever its purpose.

        Raises:
            InvalidJwt: It is none, or its algorithm, key or signature is not accepted.
            ProviderError: The keys cannot be fetched.
        """
        try:
            header = _JWS.get_unverified_header(token)
        except jwt.PyJWTError:
            raise InvalidJwt("The token is not a JWT.") from None
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in KEY_TYPES:
            raise InvalidJwt("The token is signed with an algorithm that is not accepted.")
        key_id, fetches = header.get("kid"), self._keys.fetches
        payload = _verified(token, algorithm, await self._keys.keys_for(algorithm, key_id))
        if payload is None and self._may_be_good(token):
            # The provider may have changed its keys since, even one whose kid stayed the same.
            await self._keys.renew(fetches)
            payload = _verified(token, algorithm, await self._keys.keys_for(algorithm, key_id))
        if payload is None:
            raise InvalidJwt("The token is not signed by the identity provider.")
        try:
            return Jwt(header, parse_object(payload))
        except ValueError:
            raise InvalidJwt("The token's claims cannot be read.") from None

    def _may_be_good(self, token: str) -> bool:
        """Whether a token says by itself that it is the issuer's, and has not expired."""
        unverified = read_unverified_jwt(token)
        if unverified is None or unverified.claims.get("iss") != self._issuer:
            return False
        expires = _time(unverified.claims.get("exp"))
        return expires is None or expires > self._clock.time() - LEEWAY_SECONDS

    async def verify_access_token(self, token: str) -> tuple[TokenData, Jwt]:
        """Return the data of an access token, and the JWT that they come from.

        Raises:
            TokenInvalid: It is no JWT of the provider, or lacks what RFC 9068 requires.
            ProviderError: The keys cannot be fetched.
        """
        try:
            verified = await self.verify_signature(token)
        except InvalidJwt as error:
            raise _refusal(str(error)) from None
        self._check_form(verified)
        try:
            return TokenData.read(_members(verified.claims), self._names), verified
        except ValueError:
            raise _refusal("The token has a claim of the wrong type.") from None

    def _check_form(self, verified: Jwt) -> None:
        header, claims = verified
        if self._strict and str(header.get("typ")).lower() not in _STRICT_TYPES:
            raise _refusal("The token does not say that it is an access token (at+jwt).")
        # An ID token repeats the nonce of its login (OpenID Connect Core §2). So do some
        # providers' access tokens, which have a scope.
        is_from_login = "nonce" in claims and "scope" not in claims and "scp" not in claims
        if is_from_login and self._alone and not self._strict:
            raise _refusal("The token is not an access token.")
        if missing := [name for name in _REQUIRED if claims.get(name) is None]:
            raise _refusal(f"The token has no {missing[0]}.")
        expires, issued = _time(claims["exp"]), _time(claims["iat"])
        if expires is None or issued is None:
            raise _refusal("The token has an invalid timestamp.")
        if issued > self._clock.time() + LEEWAY_SECONDS:
            raise _refusal("The token was issued in the future.")


def _verified(token: str, algorithm: str, keys: Iterable[jwt.PyJWK]) -> bytes | None:
    """Return the payload of a JWT, if one of ``keys`` has signed it."""
    for key in keys:
        try:
            payload: bytes = _JWS.decode(token, key.key, algorithms=[algorithm])
        except (jwt.InvalidSignatureError, jwt.InvalidKeyError):
            continue
        except jwt.PyJWTError:
            raise InvalidJwt("The token has a header that is not accepted.") from None
        return payload
    return None


def _members(claims: Mapping[str, object]) -> dict[str, object]:
    client = next((claims[name] for name in _CLIENT_CLAIMS if claims.get(name)), None)
    return {"client_id": client, **claims, "active": True}


def _refusal(detail: str) -> TokenInvalid:
    # The details are constant, and hold nothing of the token.
    logger.info("A JWT was refused: %s", detail)
    REFUSALS.add(1, {"reason": "jwt"})
    return TokenInvalid(detail)


def _time(value: object) -> float | None:
    """Return seconds since 1970, if the value is a number that can mean them."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if 0 <= value <= _END_OF_TIME else None
