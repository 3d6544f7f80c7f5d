"""Client assertions: authentication by a signed JWT (RFC 7523 §3, OpenID Connect Core §9)."""

import time
from collections.abc import Collection
from typing import Annotated

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from template_tools.provider.config import ProviderError
from tests.service.provider.keys import Algorithm

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_MAX_SECONDS = 300

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class _Assertion(BaseModel):
    """The claims that an assertion must have; `exp` is in Unix seconds."""

    model_config = ConfigDict(strict=True)

    iss: str
    sub: str
    aud: str | Annotated[list[str], Field(min_length=1, max_length=1)]
    exp: Annotated[float, Field(allow_inf_nan=False)]
    jti: Annotated[str, Field(min_length=1)]


class AssertionChecker:
    """Checks the assertions of the registered client; each of them works once."""

    def __init__(self, client_id: str, public_key: str) -> None:
        """Raise ProviderError unless `public_key` is an RSA, P-256 or Ed25519 key in PEM."""
        self._client_id = client_id
        self._key, self._algorithms = _read(public_key)
        self._spent: set[str] = set()

    def check(self, assertion: str, audiences: Collection[str]) -> None:
        """Raise ValueError, with a sentence, unless the assertion proves who the client is now.

        Its only audience must be one of `audiences`: an assertion that is good at two servers
        lets each of them pose as the client at the other.
        """
        found = self._verified(assertion)
        if not found.iss == found.sub == self._client_id:
            raise ValueError("The iss and sub of the assertion must be the client_id.")
        audience = found.aud if isinstance(found.aud, str) else found.aud[0]
        if audience not in audiences:
            raise ValueError("The aud of the assertion must be the issuer.")
        if found.exp > time.time() + _MAX_SECONDS:
            raise ValueError("The assertion must expire within five minutes.")
        if found.jti in self._spent:
            raise ValueError("The assertion was used before.")
        self._spent.add(found.jti)

    def clear(self) -> None:
        """Forget which assertions were used."""
        self._spent.clear()

    def _verified(self, assertion: str) -> _Assertion:
        try:
            claims = jwt.decode(
                assertion, self._key, self._algorithms, options={"verify_aud": False}
            )
            return _Assertion.model_validate(claims)
        except jwt.PyJWTError as error:
            raise ValueError(f"The assertion is not valid: {type(error).__name__}.") from error
        except ValidationError as error:
            odd = ", ".join({str(problem["loc"][0]): None for problem in error.errors()})
            raise ValueError(f"These claims of the assertion are missing or odd: {odd}.") from error


def _read(public_key: str) -> tuple[PublicKey, list[Algorithm]]:
    try:
        key = load_pem_public_key(public_key.encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    match key:
        case rsa.RSAPublicKey():
            return key, ["RS256", "PS256"]
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1()):
            return key, ["ES256"]
        case ed25519.Ed25519PublicKey():
            return key, ["EdDSA"]
        case _:
            raise ProviderError(
                "The provider's client_public_key must be an RSA, P-256 or Ed25519 public key "
                "in PEM, which begins with -----BEGIN PUBLIC KEY-----."
            )
