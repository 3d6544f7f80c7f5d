"""Verifying the signature of a JWT (RFC 7515)."""

from collections.abc import Iterable

import jwt

from app.core.settings import CoreSettings
from app.utils.sso.resource_server.clock import Clock
from app.utils.sso.resource_server.jwks_client import KEY_TYPES, JwksClient
from app.utils.sso.resource_server.strict_json import parse_object
from app.utils.sso.resource_server.token_validation import LEEWAY_SECONDS
from app.utils.sso.resource_server.unverified_claims import Jwt, read_unverified_jwt

_JWS = jwt.PyJWS(options={"enforce_minimum_key_length": True})
# PyJWT knows it by its older, wider name only.
_JWS.register_algorithm("Ed25519", _JWS.get_algorithm_by_name("EdDSA"))


class InvalidJwt(Exception):
    """The token is no JWT that the provider has signed; the message is for the caller."""


class JwtVerifier:
    """Verifies the signature of a JWT; ``TokenValidator`` judges what it says."""

    def __init__(self, keys: JwksClient, settings: CoreSettings, clock: Clock) -> None:
        self._keys = keys
        self._issuer = settings.sso_issuer
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
        expires = unverified.claims.get("exp")
        earliest = self._clock.time() - LEEWAY_SECONDS
        return not isinstance(expires, int | float) or expires > earliest


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
