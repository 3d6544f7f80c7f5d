"""Keys for every algorithm, forged signatures, and rotation."""

import base64
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from pydantic import JsonValue

from template_tools.provider import keys
from template_tools.provider.keys import Claims

Algorithm = Literal["RS256", "PS256", "ES256", "EdDSA"]
Forgery = Literal["none", "HS256"]
ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)
_JWS = jwt.PyJWS()


class SigningKeys(keys.SigningKey):
    """An RSA, a P-256 and an Ed25519 key.

    `retired` are public keys of before that are still published.
    """

    def __init__(self, retired: Sequence[Claims] = ()) -> None:
        """Generate the keys; their identifiers are new each time."""
        self._rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._ec = ec.generate_private_key(ec.SECP256R1())
        self._ed25519 = ed25519.Ed25519PrivateKey.generate()
        self._suffix = secrets.token_hex(4)
        self._retired = tuple(retired)

    # An algorithm is no header here.
    def sign(  # type: ignore[override]
        self,
        claims: Mapping[str, JsonValue],
        *,
        typ: str | None = "JWT",
        algorithm: Algorithm | Forgery = "RS256",
        **headers: JsonValue,
    ) -> str:
        """Return a compact JWS of `claims`, not validated; see `sign_bytes`."""
        payload = json.dumps(dict(claims)).encode()
        return self.sign_bytes(payload, algorithm=algorithm, typ=typ, **headers)

    def sign_bytes(
        self,
        payload: bytes,
        *,
        algorithm: Algorithm | Forgery = "RS256",
        typ: str | None = "JWT",
        **headers: JsonValue,
    ) -> str:
        """Return a compact JWS (RFC 7515 §7.1) whose header has `alg`, `typ`, `kid` and `headers`.

        `headers` replace the usual ones, and None leaves one out. The algorithm "none" leaves the
        signature empty, and "HS256" takes the public RSA key, in PEM, for the shared secret: both
        are what an attacker would try (RFC 8725 §2.1).
        """
        usual = {"alg": algorithm, "typ": typ, "kid": self._key_id(algorithm)}
        header = {name: value for name, value in (usual | headers).items() if value is not None}
        content = b".".join(_base64url(part) for part in (json.dumps(header).encode(), payload))
        # The algorithms are called one by one because PyJWT's own `encode` refuses odd headers.
        signature = _JWS.get_algorithm_by_name(algorithm).sign(content, self._private(algorithm))
        return b".".join((content, _base64url(signature))).decode()

    def public(self) -> list[Claims]:
        """Return the public keys as JWKs (RFC 7517 §4), the retired ones last.

        The RSA key appears twice, because each entry names one algorithm.
        """
        rsa_key = RSAAlgorithm.to_jwk(self._rsa.public_key(), as_dict=True)
        ec_key = ECAlgorithm.to_jwk(self._ec.public_key(), as_dict=True)
        ed25519_key = OKPAlgorithm.to_jwk(self._ed25519.public_key(), as_dict=True)
        pairs = zip((rsa_key, rsa_key, ec_key, ed25519_key), ALGORITHMS, strict=True)
        return [*(self._published(key, algorithm) for key, algorithm in pairs), *self._retired]

    def forget_retired(self) -> None:
        """Publish only the keys that still sign."""
        self._retired = ()

    def _private(self, algorithm: Algorithm | Forgery) -> object:
        match algorithm:
            case "RS256" | "PS256":
                return self._rsa
            case "ES256":
                return self._ec
            case "EdDSA":
                return self._ed25519
            case "HS256":
                form = PublicFormat.SubjectPublicKeyInfo
                return self._rsa.public_key().public_bytes(Encoding.PEM, form)
            case "none":
                return None

    def _published(self, key: Claims, algorithm: Algorithm) -> Claims:
        # PyJWT writes key_ops, which RFC 7517 §4.3 does not want beside use.
        members = {name: value for name, value in key.items() if name != "key_ops"}
        return {**members, "use": "sig", "alg": algorithm, "kid": self._key_id(algorithm)}

    def _key_id(self, algorithm: Algorithm | Forgery) -> str:
        """Return the identifier of a key; a forged signature claims to be the RSA key's."""
        named = algorithm if algorithm in ALGORITHMS else "RS256"
        return f"{named.lower()}-{self._suffix}"


def _base64url(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")
