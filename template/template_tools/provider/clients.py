"""Who is calling: the authentication of OAuth clients (RFC 6749 §2.3)."""

import base64
import binascii
import hmac
from dataclasses import dataclass
from urllib.parse import unquote_plus

from fastapi import Request

from template_tools.provider.assertions import ASSERTION_TYPE, AssertionChecker
from template_tools.provider.config import ClientAuthMethod, ProviderConfig, ProviderError
from template_tools.provider.forms import OAuthError, Parameters
from template_tools.provider.tls import certificate_name

_BASIC: tuple[ClientAuthMethod, ...] = ("client_secret_basic", "client_secret_basic_raw")


@dataclass(frozen=True)
class Client:
    """An authenticated client; a public one has only said who it is."""

    id: str
    public: bool


def same(left: str, right: str) -> bool:
    """Compare two secrets in a time that says nothing about where they differ."""
    return hmac.compare_digest(left.encode(), right.encode())


class ClientRegistry:
    """The registered client and the public docs client, and how they say who they are."""

    def __init__(self, config: ProviderConfig) -> None:
        """Raise ProviderError when the registered client cannot authenticate as configured."""
        self._config = config
        self._method = config.client_auth_method
        if self._method == "tls_client_auth" and not self._has_tls():
            raise ProviderError("With tls_client_auth the provider needs TLS: pass its files too.")
        self._assertions: AssertionChecker | None = None
        if config.client_public_key is not None:
            self._assertions = AssertionChecker(config.client_id, config.client_public_key)

    def methods(self) -> list[str]:
        """Return the methods of the registered client, as discovery documents name them."""
        if self._method is not None:
            # How the secret is encoded has no name of its own.
            return [self._method.removesuffix("_raw")]
        methods = ["client_secret_basic", "client_secret_post"]
        if self._assertions is not None:
            methods.append("private_key_jwt")
        if self._has_tls():
            methods.append("tls_client_auth")
        return methods

    def authenticate(self, request: Request, form: Parameters) -> Client:
        """Return the client behind a request; raise OAuthError (401) when it cannot be believed.

        The registered client may use any method that it has the means for, unless the
        configuration names one. The public docs client sends a bare `client_id`.
        """
        if form.get("client_assertion") is not None:
            self._expect("private_key_jwt")
            return self._by_assertion(request, form)
        if "authorization" in request.headers:
            self._expect(*_BASIC)
            return self._by_basic(request, form)
        client_id, secret = form.get("client_id"), form.get("client_secret")
        if client_id is None:
            raise _refusal("The client did not authenticate.")
        if secret is None and same(client_id, self._config.docs_client_id):
            return Client(client_id, public=True)
        certified = certificate_name(request)
        if secret is None and certified is not None:
            self._expect("tls_client_auth")
            return self._by_certificate(client_id, certified)
        self._expect("client_secret_post")
        return self._by_secret(client_id, secret or "")

    def authenticate_registered(self, request: Request, form: Parameters) -> Client:
        """Return the registered client; raise OAuthError (401) for anyone else."""
        client = self.authenticate(request, form)
        if client.public:
            raise _refusal("Only the registered client may do this.")
        return client

    def authenticate_developer(self, request: Request) -> None:
        """Raise OAuthError (401) unless the registered client's Basic credentials are there.

        They open the development endpoints, whatever method the client uses elsewhere.
        """
        if "authorization" not in request.headers:
            raise _refusal("The client did not authenticate.")
        self._by_secret(*_basic_credentials(request, encoded=True))

    def clear(self) -> None:
        """Forget which assertions were used."""
        if self._assertions is not None:
            self._assertions.clear()

    def _has_tls(self) -> bool:
        return self._config.issuer.startswith("https:")

    def _expect(self, *methods: ClientAuthMethod) -> None:
        if self._method is not None and self._method not in methods:
            raise _refusal(f"This client must authenticate with {self._method}.")

    def _by_basic(self, request: Request, form: Parameters) -> Client:
        encoded = self._method != "client_secret_basic_raw"
        client_id, secret = _basic_credentials(request, encoded=encoded)
        if form.get("client_secret") is not None or form.get("client_id") not in (None, client_id):
            raise _several_ways()
        return self._by_secret(client_id, secret)

    def _by_secret(self, client_id: str, secret: str) -> Client:
        config = self._config
        # Both comparisons always run, so that the time taken does not tell which one failed.
        known, right = same(client_id, config.client_id), same(secret, config.client_secret)
        if not (known and right):
            raise _refusal("The client is unknown or its secret is wrong.")
        return Client(client_id, public=False)

    def _by_assertion(self, request: Request, form: Parameters) -> Client:
        config = self._config
        if form.get("client_secret") is not None or "authorization" in request.headers:
            raise _several_ways()
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            raise _refusal(f"The client_assertion_type must be {ASSERTION_TYPE}.")
        if self._assertions is None:
            raise _refusal("The client has registered no public key.")
        if form.get("client_id") not in (None, config.client_id):
            raise _refusal("The client_id is not the one of the assertion.")
        endpoint = config.issuer.removesuffix(config.issuer_path) + request.url.path
        try:
            self._assertions.check(form.require("client_assertion"), (config.issuer, endpoint))
        except ValueError as error:
            raise _refusal(str(error)) from error
        return Client(config.client_id, public=False)

    def _by_certificate(self, client_id: str, certified: str) -> Client:
        """The certificate is the registered client's when its common name is the client_id."""
        if not same(client_id, self._config.client_id) or not same(client_id, certified):
            raise _refusal("The certificate is not the one of this client.")
        return Client(client_id, public=False)


def _basic_credentials(request: Request, *, encoded: bool) -> tuple[str, str]:
    """The identifier and the secret are form-urlencoded before base64 (RFC 6749 §2.3.1)."""
    scheme, _, credentials = request.headers["authorization"].partition(" ")
    if scheme.lower() != "basic":
        raise _refusal("The Authorization header must use the Basic scheme.")
    try:
        decoded = base64.b64decode(credentials.strip(), validate=True).decode()
        client_id, secret = decoded.split(":", 1)
        if encoded:
            client_id, secret = (
                unquote_plus(part, errors="strict") for part in (client_id, secret)
            )
    except (ValueError, binascii.Error) as error:
        raise _refusal("The Basic credentials cannot be decoded.") from error
    return client_id, secret


def _several_ways() -> OAuthError:
    return OAuthError("invalid_request", "The client used more than one way to authenticate.")


def _refusal(description: str) -> OAuthError:
    return OAuthError("invalid_client", description, 401)
