"""Who is calling: the authentication of OAuth clients (RFC 6749 §2.3)."""

import base64
import binascii
import hmac
from dataclasses import dataclass
from urllib.parse import unquote_plus

from fastapi import Request

from devtools.provider.config import ProviderConfig
from devtools.provider.forms import OAuthError, Parameters


@dataclass(frozen=True)
class Client:
    """An authenticated client; a public one has only said who it is."""

    id: str
    public: bool


def same(left: str, right: str) -> bool:
    """Compare two secrets in a time that says nothing about where they differ."""
    return hmac.compare_digest(left.encode(), right.encode())


def authenticate(request: Request, form: Parameters, config: ProviderConfig) -> Client:
    """Return the client behind a request; raise OAuthError (401) when it cannot be believed.

    Accepts client_secret_basic and client_secret_post for the registered client, and a bare
    `client_id` for the public docs client.
    """
    if "authorization" in request.headers:
        return _authenticate_basic(request, form, config)
    client_id, secret = form.get("client_id"), form.get("client_secret")
    if client_id is None:
        raise _refusal("The client did not authenticate.")
    if secret is None and same(client_id, config.docs_client_id):
        return Client(client_id, public=True)
    return _registered(client_id, secret or "", config)


def authenticate_registered(request: Request, form: Parameters, config: ProviderConfig) -> Client:
    """Return the registered client; raise OAuthError (401) for anyone else, the docs included."""
    client = authenticate(request, form, config)
    if client.public:
        raise _refusal("Only the registered client may do this.")
    return client


def _authenticate_basic(request: Request, form: Parameters, config: ProviderConfig) -> Client:
    """The identifier and the secret are form-urlencoded before base64 (RFC 6749 §2.3.1)."""
    scheme, _, encoded = request.headers["authorization"].partition(" ")
    if scheme.lower() != "basic":
        raise _refusal("The Authorization header must use the Basic scheme.")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
        client_id, secret = (unquote_plus(part, errors="strict") for part in decoded.split(":", 1))
    except (ValueError, binascii.Error) as error:
        raise _refusal("The Basic credentials cannot be decoded.") from error
    if form.get("client_secret") is not None or form.get("client_id") not in (None, client_id):
        raise OAuthError("invalid_request", "The client used more than one way to authenticate.")
    return _registered(client_id, secret, config)


def _registered(client_id: str, secret: str, config: ProviderConfig) -> Client:
    # Both comparisons always run, so that the time taken does not tell which one failed.
    known, right = same(client_id, config.client_id), same(secret, config.client_secret)
    if not (known and right):
        raise _refusal("The client is unknown or its secret is wrong.")
    return Client(client_id, public=False)


def _refusal(description: str) -> OAuthError:
    return OAuthError("invalid_client", description, 401)
