"""Finding the provider's endpoints from its issuer."""

import asyncio
import logging
import time
from collections.abc import Iterator
from http import HTTPStatus
from urllib.parse import urlsplit, urlunsplit

import httpx2
from pydantic import BaseModel, ConfigDict

from app.utils.sso.errors import ProviderMisconfigured, ProviderUnavailable
from app.utils.sso.fetch import fetch, parse_object

logger = logging.getLogger(__name__)

_FRESH_SECONDS = 3600
# After a failed attempt the last good document serves on; trying at every request would make
# each of them wait for the provider's time-out.
_RETRY_SECONDS = 10


class ProviderMetadata(BaseModel):
    """What of the provider's metadata document is of use here (RFC 8414 §2)."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    issuer: str
    introspection_endpoint: str | None = None


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
    """The introspection endpoint of an issuer, found at first need and kept for an hour.

    Concurrent callers share one look-up, and an outage of the provider leaves the last good
    answer in use.
    """

    def __init__(self, client: httpx2.AsyncClient, issuer: str, *, require_tls: bool) -> None:
        self._client = client
        self._issuer = issuer
        self._require_tls = require_tls
        self._lock = asyncio.Lock()
        self._endpoint: str | None = None
        self._look_up_at = 0.0

    async def introspection_endpoint(self) -> str:
        """Return the URL of the introspection endpoint.

        Raises:
            ProviderUnavailable: No document could be read, now or before.
            ProviderMisconfigured: The documents name another issuer, or no endpoint.
        """
        if self._endpoint is not None and time.monotonic() < self._look_up_at:
            return self._endpoint
        async with self._lock:
            if self._endpoint is None or time.monotonic() >= self._look_up_at:
                await self._renew()
            assert self._endpoint is not None  # noqa: S101 - _renew() raises otherwise
            return self._endpoint

    async def _renew(self) -> None:
        try:
            self._endpoint = await self._look_up()
        except (ProviderUnavailable, ProviderMisconfigured):
            self._look_up_at = time.monotonic() + _RETRY_SECONDS
            if self._endpoint is None:
                raise
            logger.warning("Discovery failed; the last known introspection endpoint stays in use")
        else:
            self._look_up_at = time.monotonic() + _FRESH_SECONDS

    async def _look_up(self) -> str:
        documents = 0
        outage: ProviderUnavailable | None = None
        for url in metadata_urls(self._issuer):
            try:
                metadata = await self._read(url)
            except ProviderUnavailable as error:
                outage = error
                continue
            if metadata is None:
                continue
            documents += 1
            endpoint = metadata.introspection_endpoint
            # A document that names another issuer may be another tenant's (RFC 8414 §3.3).
            if metadata.issuer == self._issuer and endpoint and self._is_acceptable(endpoint):
                return endpoint
        if documents:
            logger.error(
                "No metadata document names the issuer exactly as SSO_ISSUER does, with an"
                " introspection_endpoint over https; correct SSO_ISSUER or set"
                " SSO_INTROSPECTION_URL"
            )
            raise ProviderMisconfigured
        logger.error("No metadata document of SSO_ISSUER could be read")
        raise outage or ProviderUnavailable

    async def _read(self, url: str) -> ProviderMetadata | None:
        reply = await fetch(self._client, self._client.build_request("GET", url))
        if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise ProviderUnavailable
        if reply.status != HTTPStatus.OK:
            return None
        try:
            return ProviderMetadata.model_validate(parse_object(reply.body))
        except (ValueError, OverflowError, RecursionError):
            return None

    def _is_acceptable(self, endpoint: str) -> bool:
        try:
            httpx2.URL(endpoint)
        except httpx2.InvalidURL:
            return False
        # The client's secret and every token go there.
        return endpoint.startswith("https://" if self._require_tls else ("https://", "http://"))
