"""Client authentication beyond a secret: assertions, certificates, and one required method."""

from dataclasses import dataclass
from typing import Literal, get_args

from fastapi import Request

from template_tools import provider
from template_tools.provider import ProviderError, clients
from template_tools.provider.clients import (
    Client,
    ambiguous_authentication,
    basic_credentials,
    refusal,
)
from template_tools.provider.forms import Parameters
from tests.service.provider.assertions import ASSERTION_TYPE, AssertionChecker
from tests.service.provider.tls import certificate_name

ClientAuthMethod = Literal[
    "client_secret_basic",
    "client_secret_basic_raw",
    "client_secret_post",
    "private_key_jwt",
    "tls_client_auth",
]
_BASIC: tuple[ClientAuthMethod, ...] = ("client_secret_basic", "client_secret_basic_raw")


@dataclass(frozen=True)
class ProviderConfig(provider.ProviderConfig):
    """The configuration, with the means of the registered client.

    The client may authenticate with its secret, with an assertion signed by the key whose public
    half is `client_public_key` (PEM), and over https with a certificate whose common name is the
    `client_id`. A `client_auth_method` refuses every other one: the names are those of OpenID
    Connect Core §9 and RFC 8705 §2.1.1, and `client_secret_basic_raw` is Basic without the
    form-urlencoding of RFC 6749 §2.3.1, which many clients omit.

    Raises:
        ProviderError: The client lacks the means for its method, or a value cannot be used.
    """

    client_public_key: str | None = None
    client_auth_method: ClientAuthMethod | None = None

    def __post_init__(self) -> None:
        """Refuse a method that the client cannot use."""
        super().__post_init__()
        methods = get_args(ClientAuthMethod)
        if self.client_auth_method not in (None, *methods):
            raise ProviderError(f"The provider's client_auth_method must be one of {methods}.")
        if self.client_auth_method == "private_key_jwt" and self.client_public_key is None:
            raise ProviderError("With private_key_jwt the provider needs a client_public_key.")


class ClientRegistry(clients.ClientRegistry):
    """The registered clients, with every way to authenticate that the configuration allows."""

    def __init__(self, config: ProviderConfig) -> None:
        """Raise ProviderError when the registered client cannot authenticate as configured."""
        super().__init__(config)
        self._expected = config
        self._method = config.client_auth_method
        self._has_tls = config.issuer.startswith("https:")
        if self._method == "tls_client_auth" and not self._has_tls:
            raise ProviderError("With tls_client_auth the provider needs TLS: pass its files too.")
        self._assertions: AssertionChecker | None = None
        if config.client_public_key is not None:
            self._assertions = AssertionChecker(config.client_id, config.client_public_key)

    def methods(self) -> list[str]:
        """Return the methods of the registered client, as discovery documents name them."""
        if self._method is not None:
            # How the secret is encoded has no name of its own.
            return [self._method.removesuffix("_raw")]
        methods = super().methods()
        if self._assertions is not None:
            methods.append("private_key_jwt")
        if self._has_tls:
            methods.append("tls_client_auth")
        return methods

    def authenticate(self, request: Request, form: Parameters) -> Client:
        """Return the client that sent a request; raise OAuthError (401) when it has no proof."""
        client_id, secret = form.get("client_id"), form.get("client_secret")
        if form.get("client_assertion") is not None:
            self._expect("private_key_jwt")
            return self._by_assertion(request, form)
        if "authorization" in request.headers:
            self._expect(*_BASIC)
            if self._method == "client_secret_basic_raw":
                return self.by_secret(*basic_credentials(request, encoded=False))
        elif client_id is not None and client_id != self._expected.docs_client_id:
            certified = certificate_name(request)
            if secret is None and certified is not None:
                self._expect("tls_client_auth")
                return self._by_certificate(client_id, certified)
            self._expect("client_secret_post")
        return super().authenticate(request, form)

    def clear(self) -> None:
        """Forget which assertions were used."""
        if self._assertions is not None:
            self._assertions.clear()

    def _expect(self, *methods: ClientAuthMethod) -> None:
        if self._method is not None and self._method not in methods:
            raise refusal(f"This client must authenticate with {self._method}.")

    def _by_assertion(self, request: Request, form: Parameters) -> Client:
        config = self._expected
        if form.get("client_secret") is not None or "authorization" in request.headers:
            raise ambiguous_authentication()
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            raise refusal(f"The client_assertion_type must be {ASSERTION_TYPE}.")
        if self._assertions is None:
            raise refusal("The client has registered no public key.")
        if form.get("client_id") not in (None, config.client_id):
            raise refusal("The client_id is not the one of the assertion.")
        endpoint = config.issuer.removesuffix(config.issuer_path) + request.url.path
        try:
            self._assertions.check(form.require("client_assertion"), (config.issuer, endpoint))
        except ValueError as error:
            raise refusal(str(error)) from error
        return Client(config.client_id)

    def _by_certificate(self, client_id: str, certified: str) -> Client:
        """The certificate is the registered client's when its common name is the client_id."""
        if not client_id == certified == self._expected.client_id:
            raise refusal("The certificate is not the one of this client.")
        return Client(client_id)
