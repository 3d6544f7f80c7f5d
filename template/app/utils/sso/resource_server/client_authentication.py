"""How this service authenticates to the provider (RFC 6749 §2.3)."""

import base64
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from app.core.settings import CoreSettings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_SECONDS = 60
_CURVE_ALGORITHMS = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}

type SigningKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey


class ClientAuthentication:
    """The credentials of ``CLIENT_ID``, in the form that ``CLIENT_AUTH_METHOD`` names.

    Raises:
        SystemExit: ``CLIENT_PRIVATE_KEY_FILE`` holds no key that can sign.
    """

    def __init__(self, settings: CoreSettings) -> None:
        self._method = settings.client_auth_method
        self._client_id = settings.client_id
        self._secret = settings.client_secret.get_secret_value()
        self._issuer = settings.sso_issuer
        self._key_id = settings.client_key_id
        self._signs_with: tuple[SigningKey, str] | None = None
        if self._method == "private_key_jwt" and settings.client_private_key_file is not None:
            self._signs_with = _signing_key(settings.client_private_key_file)

    def headers(self) -> dict[str, str]:
        """Return the headers to send with a request."""
        if self._method == "client_secret_basic":
            # RFC 6749 §2.3.1: both parts are form-urlencoded before they are joined, because the
            # identifier may hold a colon. A space becomes %20, since not every provider reads "+".
            return _basic(quote(self._client_id, safe=""), quote(self._secret, safe=""))
        if self._method == "client_secret_basic_raw":
            return _basic(self._client_id, self._secret)
        return {}

    def fields(self) -> dict[str, str]:
        """Return the fields to add to the form of a request."""
        match self._method:
            case "client_secret_post":
                return {"client_id": self._client_id, "client_secret": self._secret}
            case "private_key_jwt":
                return {
                    "client_id": self._client_id,
                    "client_assertion_type": _ASSERTION_TYPE,
                    "client_assertion": self._assertion(),
                }
            case "tls_client_auth":
                return {"client_id": self._client_id}
        return {}

    def _assertion(self) -> str:
        """Return a new assertion, which is used once (RFC 7523 §3).

        Its audience is the issuer, so that no other server can use it there.
        """
        assert self._signs_with is not None  # noqa: S101 - the settings ask for it with this method
        key, algorithm = self._signs_with
        import jwt

        now = int(time.time())
        claims = {
            "iss": self._client_id,
            "sub": self._client_id,
            "aud": self._issuer,
            "jti": secrets.token_urlsafe(16),
            "iat": now,
            "exp": now + _ASSERTION_SECONDS,
        }
        headers = {"kid": self._key_id} if self._key_id else None
        return jwt.encode(claims, key, algorithm, headers)


def _basic(client_id: str, secret: str) -> dict[str, str]:
    credentials = f"{client_id}:{secret}".encode()
    return {"Authorization": "Basic " + base64.b64encode(credentials).decode()}


def _signing_key(file: Path) -> tuple[SigningKey, str]:
    """Return the key in a file, and the algorithm that it signs with."""
    # Most services have no such key, and need not wait for this at their start.
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except (ValueError, TypeError):
        key = None
    match key:
        case RSAPrivateKey():
            return key, "RS256"
        case EllipticCurvePrivateKey() if key.curve.name in _CURVE_ALGORITHMS:
            return key, _CURVE_ALGORITHMS[key.curve.name]
        case Ed25519PrivateKey() | Ed448PrivateKey():
            return key, "EdDSA"
    raise SystemExit(
        "The service cannot start: CLIENT_PRIVATE_KEY_FILE holds no RSA, EC (P-256, P-384, "
        "P-521), Ed25519 or Ed448 key in PEM form without a passphrase."
    )
