"""Calling the identity provider, without trusting what comes back."""

import asyncio
import os
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import urlencode

import httpx2
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.core.settings import CoreSettings, is_plain_http
from app.utils.sso.resource_server.connection_failures import describe_failure, origin
from app.utils.sso.resource_server.idle_connections import make_idle_connections_cheap
from app.utils.sso.resource_server.provider_errors import ProviderTimedOut, ProviderUnreachable

_READ_SECONDS = 5
_CONNECT_SECONDS = 1
# More than the look-ups that ``admission`` admits at once.
_CONNECTIONS = 120

# Where the call of this task goes to, for the message of a deadline that ends around it.
_asked: ContextVar[httpx2.URL | None] = ContextVar("asked", default=None)
_MAX_BODY_BYTES = 64 * 1024
# Of what a caller sends, only the ids of a trace go on to the provider, and no baggage.
_TRACE_CONTEXT = TraceContextTextMapPropagator()
_PROXIES = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"}


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply of the provider, with its body as it came."""

    status: int
    headers: httpx2.Headers
    body: bytes

    @property
    def media_type(self) -> str:
        """The type of the body, in lower case and without parameters."""
        content_type: str = self.headers.get("content-type", "")
        return content_type.partition(";")[0].strip().lower()

    @property
    def retry_after(self) -> int | None:
        """The seconds that the provider asks to wait; a date is not understood."""
        value: str = self.headers.get("retry-after", "")
        return int(value) if re.fullmatch(r"[0-9]{1,9}", value) else None


def create_client(
    settings: CoreSettings, transport: httpx2.AsyncBaseTransport | None = None
) -> httpx2.AsyncClient:
    """Return the one client of the process; making one blocks the event loop for 25 ms.

    A compressed body is not asked for, because 64 KiB of it may hold gigabytes.

    Raises:
        SystemExit: A certificate or key of the settings, or a proxy or the SSL_CERT_FILE of the
            environment, cannot be used.
    """
    limits = httpx2.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
    try:
        client = httpx2.AsyncClient(
            verify=_tls(settings),
            transport=transport,
            timeout=httpx2.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
            limits=limits,
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            # The proxies of the environment, and its SSL_CERT_FILE.
            trust_env=not _is_beside_the_service(settings),
        )
    except OSError as error:
        raise SystemExit(
            f"The service cannot start: SSL_CERT_FILE names no certificates ({error.strerror})."
        ) from None
    except (ImportError, ValueError, httpx2.InvalidURL):
        names = sorted(name for name in os.environ if name.upper() in _PROXIES)
        raise SystemExit(
            f"The service cannot start: {', '.join(names)} must be the URL of a proxy, such as "
            "http://proxy.example.com:3128. For socks5://, run `uv add socksio`."
        ) from None
    make_idle_connections_cheap(client)
    return client


def _is_beside_the_service(settings: CoreSettings) -> bool:
    """Whether the provider is called in plain text on this machine, where no proxy finds it."""
    urls = (settings.sso_issuer, settings.sso_introspection_url, settings.sso_jwks_url)
    return all(is_plain_http(url, remote=False) for url in urls if url)


def _tls(settings: CoreSettings) -> ssl.SSLContext | bool:
    with_certificate = settings.client_auth_method == "tls_client_auth"
    if settings.sso_ca_file is None and not with_certificate:
        return True
    try:
        context = ssl.create_default_context(cafile=settings.sso_ca_file)
        if with_certificate and settings.client_certificate_file is not None:
            # RFC 8705 §2: this is how the provider knows the client.
            context.load_cert_chain(
                settings.client_certificate_file,
                settings.client_private_key_file,
                # Without one, OpenSSL would ask for it at the terminal.
                password="",
            )
    except ssl.SSLError:
        raise SystemExit(
            "The service cannot start: SSO_CA_FILE, CLIENT_CERTIFICATE_FILE or "
            "CLIENT_PRIVATE_KEY_FILE is not PEM, or the key is not the certificate's."
        ) from None
    return context


class ProviderClient:
    """Sends requests to the provider, and reads no more of a reply than can be trusted.

    They go to the client's transport for their URL. What the client has above it is not wanted:
    a redirect would carry the client's secret and the caller's token elsewhere, a cookie would tie
    all calls together. Nor is its cost, a third of the call's.
    """

    def __init__(self, client: httpx2.AsyncClient, deadline_seconds: float) -> None:
        self._client = client
        self._deadline_seconds = deadline_seconds

    async def get(self, url: str) -> Reply:
        """Send a GET request; ``ProviderUnreachable`` is that there is no trustworthy reply.

        The time that it may take is that of the ``deadline`` around it.
        """
        return await self._send(self._client.build_request("GET", url))

    def prepare_post(self, url: str, headers: Mapping[str, str]) -> httpx2.Request:
        """Return a request for ``post`` to send with one form after the other."""
        type_ = {"Content-Type": "application/x-www-form-urlencoded"}
        prepared = self._client.build_request("POST", url, headers=type_ | dict(headers))
        del prepared.headers["Content-Length"]
        return prepared

    async def post(self, prepared: httpx2.Request, form: Mapping[str, str]) -> Reply:
        """Send a form, likewise."""
        content = urlencode(form).encode()
        length = (b"Content-Length", b"%d" % len(content))
        trace: dict[str, str] = {}
        _TRACE_CONTEXT.inject(trace)
        request = httpx2.Request(
            prepared.method,
            prepared.url,
            headers=[
                *prepared.headers.raw,
                length,
                *((name.encode(), value.encode()) for name, value in trace.items()),
            ],
            stream=httpx2.ByteStream(content),
            extensions=prepared.extensions,
        )
        return await self._send(request)

    @asynccontextmanager
    async def deadline(self) -> AsyncIterator[None]:
        """Give the calls inside, however many they are, one deadline.

        The client's own timeout is per chunk, and a body that trickles would outlive it.
        """
        _asked.set(None)
        try:
            async with asyncio.timeout(self._deadline_seconds):
                yield
        except TimeoutError as error:
            url = _asked.get()
            where = "the URLs that SSO_ISSUER leads to" if url is None else origin(url)
            raise ProviderTimedOut(
                f"TimeoutError at {where} (no complete answer within {self._deadline_seconds:g} s)"
            ) from error

    async def _send(self, request: httpx2.Request) -> Reply:
        _asked.set(request.url)
        try:
            try:
                return await self._send_once(request)
            except (httpx2.NetworkError, httpx2.RemoteProtocolError):
                # The provider may have been restarted.
                return await self._send_once(request)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise ProviderUnreachable(describe_failure(error, request.url, self._client)) from error

    async def _send_once(self, request: httpx2.Request) -> Reply:
        transport = self._client._transport_for_url(request.url)
        response = await transport.handle_async_request(request)
        try:
            if response.headers.get("content-encoding", "identity") != "identity":
                _refuse(request, response, "a compressed body")
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > _MAX_BODY_BYTES:
                    _refuse(request, response, "an oversized body")
            return Reply(response.status_code, response.headers, bytes(body))
        finally:
            await response.aclose()


def _refuse(request: httpx2.Request, response: httpx2.Response, what: str) -> NoReturn:
    raise ProviderUnreachable(f"{response.status_code} at {origin(request.url)}, with {what}")
