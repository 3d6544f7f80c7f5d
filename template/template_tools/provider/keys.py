"""The signing key of the provider."""

import json
import secrets
from collections.abc import Mapping

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from pydantic import JsonValue

Claims = dict[str, JsonValue]


class SigningKey:
    """An RSA key that is generated when the provider starts, and never stored."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._id = f"rs256-{secrets.token_hex(4)}"

    def sign(
        self,
        claims: Mapping[str, JsonValue],
        *,
        typ: str | None = "JWT",
        **headers: JsonValue,
    ) -> str:
        """Return a JWT of `claims`, signed with RS256 and not validated (RFC 7515 §7.1).

        `headers` replace or join `alg`, `typ` and `kid`; None leaves one out.
        """
        members = {"typ": typ, "kid": self._id, **headers}
        header = {name: value for name, value in members.items() if value is not None}
        # PyJWT adds a typ of its own unless it is given an empty one.
        payload = json.dumps(dict(claims)).encode()
        return jwt.PyJWS().encode(payload, self._key, "RS256", {"typ": None, **header})

    def public(self) -> list[Claims]:
        """Return the public key as the JWKs of a key set (RFC 7517 §4)."""
        key: Claims = RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        # PyJWT writes key_ops, which RFC 7517 §4.3 does not want beside use.
        del key["key_ops"]
        return [{**key, "use": "sig", "alg": "RS256", "kid": self._id}]
