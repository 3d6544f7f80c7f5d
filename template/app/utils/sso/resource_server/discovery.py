"""Finding the provider's endpoints from its issuer (OpenID Connect Discovery, RFC 8414)."""

import logging
from collections.abc import Iterator
from http import HTTPStatus
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

import httpx2
from pydantic import BaseModel, ConfigDict

from app.core.rate_limited_log import RateLimitedLog
from app.core.settings import CoreSettings
from app.utils.sso.resource_server.clock import Clock
from app.utils.sso.resource_server.provider_client import ProviderClient
from app.utils.sso.resource_server.provider_errors import (
    ProviderConfigurationError,
    ProviderError,
    ProviderUnreachable,
)
from app.utils.sso.resource_server.single_flight import SingleFlight
from app.utils.sso.resource_server.strict_json import parse_object

_FRESH_SECONDS = 3600
# After a failed renewal the last good document stays in use, and not every request tries again.
_RETRY_SECONDS = 10

type EndpointName = Literal[
    "introspection_endpoint", "jwks_uri", "authorization_endpoint", "token_endpoint"
]
# What names an endpoint that the metadata lacks.
_SETTINGS = {"introspection_endpoint": "SSO_INTROSPECTION_URL", "jwks_uri": "SSO_JWKS_URL"}


class EndpointAliases(BaseModel):
    """Where a client that authenticates with a certificate calls instead (RFC 8705 §5)."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    introspection_endpoint: str | None = None


class ProviderMetadata(BaseModel):
    """The part of the provider's metadata that is used here (RFC 8414 §2)."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    issuer: str
    introspection_endpoint: str | None = None
    jwks_uri: str | None = None
    authorization_endpoint: str | None = None
    token_endpoint: str | None = None
    mtls_endpoint_aliases: EndpointAliases | None = None


def metadata_urls(issuer: str) -> Iterator[str]:
    """Yield the places where the document of ``issuer`` may be, the usual one first.

    OpenID Connect Discovery §4 appends to the issuer's path, RFC 8414 §3.1 inserts before it, and
    some providers append RFC 8414's name too.
    """
    base = issuer.rstrip("/")
    parts = urlsplit(base)
    yield f"{base}/.well-known/openid-configuration"
    inserted = f"/.well-known/oauth-authorization-server{parts.path}"
    yield urlunsplit((parts.scheme, parts.netloc, inserted, "", ""))
    if parts.path:
        yield f"{base}/.well-known/oauth-authorization-server"


class Discovery:
    """One endpoint of the issuer, found at first need and looked up again after an hour.

    Concurrent callers share one look-up. Renewals happen in the background, and an outage of the
    provider leaves the last good answer in use.
    """

    def __init__(
        self, provider: ProviderClient, settings: CoreSettings, name: EndpointName, clock: Clock
    ) -> None:
        self._provider = provider
        self._settings = settings
        self._name: EndpointName = name
        self._clock = clock
        self._log = RateLimitedLog(logging.getLogger(__name__), clock)
        # No caller owns a look-up: one that gives up must not end it for the others.
        self._look_ups = SingleFlight[None, str]()
        self._endpoint: str | None = None
        self._is_stale = False
        self._renew_at = 0.0

    async def endpoint(self) -> str:
        """Return the URL of the endpoint."""
        if self._endpoint is None or self._is_stale:
            return await self._look_ups.run(None, self._renew)
        if self._clock.monotonic() >= self._renew_at:
            self._look_ups.start(None, self._renew)
        return self._endpoint

    def invalidate(self) -> None:
        """Look the endpoint up again before its next use, because it was not found there."""
        self._is_stale = True

    async def close(self) -> None:
        """Cancel a look-up that is under way."""
        await self._look_ups.close()

    async def _renew(self) -> str:
        try:
            async with self._provider.deadline():
                self._endpoint = await self._look_up()
        except ProviderError as error:
            if self._endpoint is None:
                raise
            self._renew_at = self._clock.monotonic() + _RETRY_SECONDS
            self._log.warning(
                "Discovery failed (%s); the last known %s stays in use", error, self._name
            )
        else:
            self._renew_at = self._clock.monotonic() + _FRESH_SECONDS
        self._is_stale = False
        return self._endpoint

    async def _look_up(self) -> str:
        documents = 0
        outage: ProviderUnreachable | None = None
        found: list[str] = []
        for url in metadata_urls(self._settings.sso_issuer):
            try:
                metadata, what = await self._read(url)
            except ProviderUnreachable as error:
                outage = error
                continue
            found.append(f"{url} {what}")
            if metadata is None:
                continue
            documents += 1
            endpoint = self._endpoint_of(metadata)
            # A document that names another issuer may be another tenant's (RFC 8414 §3.3).
            if metadata.issuer == self._settings.sso_issuer and endpoint:
                return endpoint
        # A document that could not be read may be the right one.
        if documents and outage is None:
            instead = f" or set {_SETTINGS[self._name]}" if self._name in _SETTINGS else ""
            raise ProviderConfigurationError(
                "no metadata document names the issuer exactly as SSO_ISSUER does, and has its"
                f" {self._name} over https ({'; '.join(found)}); correct SSO_ISSUER{instead}"
            )
        raise outage or ProviderUnreachable(
            f"SSO_ISSUER has no metadata document: {'; '.join(found)}"
        )

    async def _read(self, url: str) -> tuple[ProviderMetadata | None, str]:
        """Return the document at a URL, if it is one, and what there is."""
        reply = await self._provider.get(url)
        if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise ProviderUnreachable(f"{reply.status} for the metadata document at {url}")
        if reply.status != HTTPStatus.OK:
            return None, f"answers {reply.status}"
        try:
            metadata = ProviderMetadata.model_validate(parse_object(reply.body))
        except ValueError:
            return None, "is no metadata document"
        if metadata.issuer != self._settings.sso_issuer:
            return metadata, "names another issuer"
        return metadata, "names the issuer"

    def _endpoint_of(self, metadata: ProviderMetadata) -> str | None:
        endpoint: str | None = getattr(metadata, self._name)
        if self._name == "introspection_endpoint":
            aliases = metadata.mtls_endpoint_aliases
            if self._settings.client_auth_method == "tls_client_auth" and aliases:
                endpoint = aliases.introspection_endpoint or endpoint
        return endpoint if endpoint and self._is_acceptable(endpoint) else None

    def _is_acceptable(self, endpoint: str) -> bool:
        try:
            httpx2.URL(endpoint)
        except httpx2.InvalidURL:
            return False
        # One endpoint receives the client's secret and every token, and the keys of the other
        # decide which tokens are good.
        production = self._settings.environment == "production"
        return endpoint.startswith("https://" if production else ("https://", "http://"))
