"""Verifying the signature of a JWT (RFC 7515)."""

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

from app.core.settings import CoreSettings
from app.utils.sso.resource_server.clock import Clock
from app.utils.sso.resource_server.jwks_client import KEY_TYPES, JwksClient
from app.utils.sso.resource_server.strict_json import parse_object
from app.utils.sso.resource_server.token_validation import LEEWAY_SECONDS
from app.utils.sso.resource_server.unverified_claims import Jwt, read_unverified_jwt

if TYPE_CHECKING:
    import jwt


@cache
def _jws() -> "jwt.PyJWS":
    """Import PyJWT, with its 9 MB of cryptography, where there is something to verify."""
    import jwt

    return jwt.PyJWS(options={"verify_signature": False})


class InvalidJwt(Exception):
    """The token is no JWT that the provider has signed; the message is for the caller."""


class JwtVerifier:
    """Verifies the signature of a JWT; ``TokenValidator`` judges what it says."""

    def __init__(self, keys: JwksClient, settings: CoreSettings, clock: Clock) -> None:
        self._keys = keys
        self._issuer = settings.sso_issuer
        self._clock = clock
        if settings.sso_mode != "introspect" or settings.sso_introspection_response == "jwt":
            # At the start, and not while the first request waits.
            _jws()

    async def verify_signature(self, token: str) -> Jwt:
        """Return the content of a JWT that the provider has signed, whatever its purpose.

        Raises:
            InvalidJwt: It is none, or its algorithm, key or signature is not accepted.
            ProviderError: The keys cannot be fetched.
        """
        import jwt

        try:
            # Taken apart once, because that costs as much as the verification.
            content = _jws().decode_complete(token)
        except jwt.PyJWTError:
            raise InvalidJwt("The token is not a JWT.") from None
        header, signature = content["header"], content["signature"]
        signed = token.rpartition(".")[0].encode()
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in KEY_TYPES:
            raise InvalidJwt("The token is signed with an algorithm that is not accepted.")
        key_id, fetches = header.get("kid"), self._keys.fetches
        keys = await self._keys.keys_for(algorithm, key_id)
        is_good = _verifies(keys, signed, signature)
        if not is_good and self._may_be_good(token):
            # The provider may have changed its keys since, even one whose kid stayed the same.
            await self._keys.renew(fetches)
            keys = await self._keys.keys_for(algorithm, key_id)
            is_good = _verifies(keys, signed, signature)
        if not is_good:
            raise InvalidJwt("The token is not signed by the identity provider.")
        try:
            return Jwt(header, parse_object(content["payload"]))
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


def _verifies(keys: "Iterable[jwt.PyJWK]", signed: bytes, signature: bytes) -> bool:
    return any(key.Algorithm.verify(signed, key.key, signature) for key in keys)
