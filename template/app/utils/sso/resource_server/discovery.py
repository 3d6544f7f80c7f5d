"""Finding the provider's endpoints from its issuer."""

import logging
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

import httpx2
from pydantic import BaseModel, ConfigDict

from app.core.settings import CoreSettings
from app.utils.sso.resource_server.provider_client import deadline, fetch, parse_object
from app.utils.sso.resource_server.provider_errors import Misconfigured, Unreachable
from app.utils.sso.resource_server.rate_limited_log import SparingLog
from app.utils.sso.resource_server.single_flight import SingleFlight

_FRESH_SECONDS = 3600
# After a failed attempt the last good document serves on, and is not tried for at every request.
_RETRY_SECONDS = 10


type Need = Literal["introspection_endpoint", "jwks_uri"]


class EndpointAliases(BaseModel):
    """Where a client that shows a certificate calls instead (RFC 8705 §5)."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    introspection_endpoint: str | None = None


class ProviderMetadata(BaseModel):
    """What of the provider's metadata document is of use here (RFC 8414 §2)."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    issuer: str
    introspection_endpoint: str | None = None
    jwks_uri: str | None = None
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

    Concurrent callers share one look-up. Once there is an answer, nobody waits for the next one,
    and an outage of the provider leaves the last good one in use.
    """

    def __init__(self, client: httpx2.AsyncClient, settings: CoreSettings, need: Need) -> None:
        self._client = client
        self._settings = settings
        self._need: Need = need
        self._log = SparingLog(logging.getLogger(__name__))
        # A look-up is nobody's own: a caller who gives up must not end it.
        self._look_ups = SingleFlight[None, str]()
        self._endpoint: str | None = None
        self._is_doubtful = False
        self._look_up_at = 0.0

    async def endpoint(self) -> str:
        """Return the URL of the endpoint.

        Raises:
            Unreachable: No document could be read, now or before.
            Misconfigured: The documents name another issuer, or no such endpoint.
        """
        if self._endpoint is None or self._is_doubtful:
            return await self._look_ups.ask(None, self._renew)
        if time.monotonic() >= self._look_up_at:
            self._look_ups.start(None, self._renew)
        return self._endpoint

    def doubt(self) -> None:
        """Look the endpoint up before it is used again, because it is not there any more."""
        self._is_doubtful = True

    async def close(self) -> None:
        """Break off what is being looked up."""
        await self._look_ups.close()

    async def _renew(self) -> str:
        try:
            async with deadline():
                self._endpoint = await self._look_up()
        except (Unreachable, Misconfigured) as fault:
            if self._endpoint is None:
                raise
            self._look_up_at = time.monotonic() + _RETRY_SECONDS
            self._log.warning(
                "Discovery failed (%s); the last known %s stays in use", fault, self._need
            )
        else:
            self._look_up_at = time.monotonic() + _FRESH_SECONDS
        self._is_doubtful = False
        return self._endpoint

    async def _look_up(self) -> str:
        documents = 0
        outage: Unreachable | None = None
        for url in metadata_urls(self._settings.sso_issuer):
            try:
                metadata = await self._read(url)
            except Unreachable as fault:
                outage = fault
                continue
            if metadata is None:
                continue
            documents += 1
            endpoint = self._endpoint_of(metadata)
            # A document that names another issuer may be another tenant's (RFC 8414 §3.3).
            if metadata.issuer == self._settings.sso_issuer and endpoint:
                return endpoint
        # A document that could not be read may be the right one.
        if documents and outage is None:
            setting = "SSO_JWKS_URL" if self._need == "jwks_uri" else "SSO_INTROSPECTION_URL"
            raise Misconfigured(
                "no metadata document names the issuer exactly as SSO_ISSUER does, and has its"
                f" {self._need} over https; correct SSO_ISSUER or set {setting}"
            )
        raise outage or Unreachable("no metadata document of SSO_ISSUER could be read")

    async def _read(self, url: str) -> ProviderMetadata | None:
        reply = await fetch(self._client, self._client.build_request("GET", url))
        if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Unreachable(f"{reply.status} for a metadata document")
        if reply.status != HTTPStatus.OK:
            return None
        try:
            return ProviderMetadata.model_validate(parse_object(reply.body))
        except (ValueError, OverflowError, RecursionError):
            return None

    def _endpoint_of(self, metadata: ProviderMetadata) -> str | None:
        if self._need == "jwks_uri":
            endpoint = metadata.jwks_uri
        else:
            endpoint = metadata.introspection_endpoint
            aliases = metadata.mtls_endpoint_aliases
            if self._settings.client_auth_method == "tls_client_auth" and aliases:
                endpoint = aliases.introspection_endpoint or endpoint
        return endpoint if endpoint and self._is_acceptable(endpoint) else None

    def _is_acceptable(self, endpoint: str) -> bool:
        try:
            httpx2.URL(endpoint)
        except httpx2.InvalidURL:
            return False
        # The client's secret and every token go to one, and trust in all tokens comes of the other.
        production = self._settings.environment == "production"
        return endpoint.startswith("https://" if production else ("https://", "http://"))
