"""Serving the extended provider, over TLS too."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from fastapi import FastAPI
from pydantic import JsonValue

from template_tools import provider
from template_tools.provider import serve
from template_tools.provider.keys import Claims
from tests.service.provider.clients import ProviderConfig
from tests.service.provider.keys import Algorithm, Forgery, SigningKeys
from tests.service.provider.signed_responses import SignedResponses
from tests.service.provider.state import ProviderState
from tests.service.provider.tls import CertificateProtocol, ProviderTls
from tests.service.provider.tokens import TokenRequest


class RunningProvider(provider.RunningProvider):
    """A provider that runs in this process. Its methods act at once, without HTTP."""

    def __init__(self, state: ProviderState) -> None:
        """Wrap the state of the provider that is being served."""
        super().__init__(state)
        self._extended = state

    @property
    def discovery_calls(self) -> int:
        """How many requests for a discovery document were received."""
        return self._extended.calls["discovery"]

    @property
    def jwks_calls(self) -> int:
        """How many requests for the keys were received."""
        return self._extended.calls["jwks"]

    def mint(self, **claims: object) -> str:
        """Return a new access token; the keywords are the fields of `TokenRequest`, or claims."""
        return self._extended.tokens.mint(TokenRequest.model_validate(claims)).value

    # An algorithm is no header here.
    def sign(  # type: ignore[override]
        self,
        claims: Mapping[str, JsonValue],
        *,
        typ: str | None = "at+jwt",
        algorithm: Algorithm | Forgery = "RS256",
        **headers: JsonValue,
    ) -> str:
        """Return a JWT of exactly these claims, not validated; see `SigningKeys.sign_bytes`."""
        return self._extended.tokens.key.sign(claims, typ=typ, algorithm=algorithm, **headers)

    def issue(self, claims: Claims, typ: str | None = "at+jwt") -> str:
        """Issue a JWT of exactly these claims, which introspection repeats."""
        return self._extended.tokens.issue(claims, typ).value

    def rotate_keys(self, *, keep_old: bool = False) -> None:
        """Replace the signing keys; the JWKS has the old ones no longer, unless `keep_old`."""
        tokens = self._extended.tokens
        tokens.key = SigningKeys(tokens.key.public() if keep_old else ())


def create_provider(config: ProviderConfig) -> FastAPI:
    """Build the application of a provider, without TLS and signed responses."""
    app = provider.create_provider(config)
    app.state.provider = ProviderState(config)
    return app


@contextmanager
def running_provider(
    config: ProviderConfig | None = None, port: int = 0, tls: ProviderTls | None = None
) -> Iterator[RunningProvider]:
    """Serve a provider on 127.0.0.1 from a thread, on a free port unless one is given.

    The issuer of `config` gets the real port, and https with `tls`; its path is kept.

    Raises:
        ProviderError: The port is taken, a file of `tls` cannot be used, the client cannot
            authenticate as configured, or ENVIRONMENT is production.
    """
    config = config or ProviderConfig()
    with serve.listening(port) as listener:
        scheme = "http" if tls is None else "https"
        issuer = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}{config.issuer_path}"
        app = create_provider(replace(config, issuer=issuer))
        state: ProviderState = app.state.provider
        server = serve.server_config(SignedResponses(app, state))
        if tls is not None:
            context = tls.context()
            server.http = CertificateProtocol
            server.ssl_context_factory = lambda _config, _default: context
        with serve.serving(server, listener):
            yield RunningProvider(state)
