"""Client authentication (RFC 6749 §2.3)."""

import base64
import binascii
import hmac
from dataclasses import dataclass
from urllib.parse import unquote_plus

from fastapi import Request

from template_tools.provider.config import ProviderConfig
from template_tools.provider.forms import OAuthError, Parameters


@dataclass(frozen=True)
class Client:
    """An authenticated client; a public one has only said who it is."""

    id: str
    public: bool = False


class ClientRegistry:
    """The registered client, which has a secret, and the public client of the docs page."""

    def __init__(self, config: ProviderConfig) -> None:
        self._config = config

    def methods(self) -> list[str]:
        """Return how the registered client may authenticate, as discovery documents name it."""
        return ["client_secret_basic", "client_secret_post"]

    def authenticate(self, request: Request, form: Parameters) -> Client:
        """Return the client that sent a request; raise OAuthError (401) when it has no proof."""
        client_id, secret = form.get("client_id"), form.get("client_secret")
        if "authorization" in request.headers:
            basic_id, basic_secret = basic_credentials(request)
            if secret is not None or client_id not in (None, basic_id):
                raise ambiguous_authentication()
            return self.by_secret(basic_id, basic_secret)
        if client_id is None:
            raise refusal("The client did not authenticate.")
        if secret is None and client_id == self._config.docs_client_id:
            return Client(client_id, public=True)
        return self.by_secret(client_id, secret or "")

    def authenticate_registered(self, request: Request, form: Parameters) -> Client:
        """Return the registered client; raise OAuthError (401) for anyone else."""
        client = self.authenticate(request, form)
        if client.public:
            raise refusal("Only the registered client may do this.")
        return client

    def by_secret(self, client_id: str, secret: str) -> Client:
        """Return the registered client; raise OAuthError (401) for wrong credentials."""
        config = self._config
        # Both comparisons always run, so that the time taken does not tell which one failed.
        known = hmac.compare_digest(client_id.encode(), config.client_id.encode())
        right = hmac.compare_digest(secret.encode(), config.client_secret.encode())
        if not (known and right):
            raise refusal("The client is unknown or its secret is wrong.")
        return Client(client_id)


def basic_credentials(request: Request, *, encoded: bool = True) -> tuple[str, str]:
    """Return the identifier and the secret of the Authorization header.

    Both are form-urlencoded before base64 (RFC 6749 §2.3.1), unless `encoded` is false.
    """
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        raise refusal("The Authorization header must use the Basic scheme.")
    try:
        decoded = base64.b64decode(credentials.strip(), validate=True).decode()
        client_id, secret = decoded.split(":", 1)
        if encoded:
            client_id = unquote_plus(client_id, errors="strict")
            secret = unquote_plus(secret, errors="strict")
    except (ValueError, binascii.Error) as error:
        raise refusal("The Basic credentials cannot be decoded.") from error
    return client_id, secret


def ambiguous_authentication() -> OAuthError:
    """Return the error for a request with two kinds of credentials (RFC 6749 §2.3)."""
    return OAuthError("invalid_request", "The client used more than one way to authenticate.")


def refusal(description: str) -> OAuthError:
    """Return the error for a client that is not authenticated."""
    return OAuthError("invalid_client", description, 401)
