"""Calling the identity provider, without trusting what comes back."""

import asyncio
import os
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import NoReturn

import httpx2

from app.core.settings import CoreSettings, is_plain_http
from app.utils.sso.resource_server.connection_failures import describe_failure, origin
from app.utils.sso.resource_server.provider_errors import ProviderUnreachable

_READ_SECONDS = 5
_CONNECT_SECONDS = 1
# More than the look-ups that ``admission`` admits at once.
_CONNECTIONS = 120

# Where the call of this task goes to, for the message of a deadline that ends around it.
_asked: ContextVar[str | None] = ContextVar("asked", default=None)
_MAX_BODY_BYTES = 64 * 1024
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

    Redirects are not followed, because they would carry the client's secret and the caller's
    token elsewhere. A compressed body is not asked for, because 64 KiB of it may hold gigabytes.

    Raises:
        SystemExit: A certificate or key of the settings, or a proxy or the SSL_CERT_FILE of the
            environment, cannot be used.
    """
    limits = httpx2.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
    try:
        return httpx2.AsyncClient(
            verify=_tls(settings),
            transport=transport,
            timeout=httpx2.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
            limits=limits,
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            follow_redirects=False,
            # A cookie would tie all calls together, and a malformed one would make later calls
            # fail.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
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
    """Sends requests to the provider, and reads no more of a reply than can be trusted."""

    def __init__(self, client: httpx2.AsyncClient, deadline_seconds: float) -> None:
        self._client = client
        self._deadline_seconds = deadline_seconds

    async def get(self, url: str) -> Reply:
        """Send a GET request; ``ProviderUnreachable`` is that no trustworthy reply came in time."""
        return await self._send(self._client.build_request("GET", url))

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        """Send a form, likewise."""
        return await self._send(self._client.build_request("POST", url, data=form, headers=headers))

    @asynccontextmanager
    async def deadline(self) -> AsyncIterator[None]:
        """Give the calls inside, however many they are, the deadline of a single one."""
        _asked.set(None)
        try:
            async with asyncio.timeout(self._deadline_seconds):
                yield
        except TimeoutError as error:
            # The limit of several calls ends before that of the last of them.
            where = _asked.get() or "the URLs that SSO_ISSUER leads to"
            raise ProviderUnreachable(
                f"TimeoutError at {where} (no complete answer within {self._deadline_seconds:g} s)"
            ) from error

    async def _send(self, request: httpx2.Request) -> Reply:
        try:
            # The client's own timeout is per chunk, and a body that trickles would outlive it.
            async with self.deadline():
                _asked.set(origin(request.url))
                try:
                    return await self._send_once(request)
                except (httpx2.NetworkError, httpx2.RemoteProtocolError):
                    # The provider may have been restarted.
                    return await self._send_once(request)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise ProviderUnreachable(describe_failure(error, request.url, self._client)) from error

    async def _send_once(self, request: httpx2.Request) -> Reply:
        response = await self._client.send(request, stream=True)
        try:
            if response.headers.get("content-encoding", "identity") != "identity":
                _refuse(response, "a compressed body")
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > _MAX_BODY_BYTES:
                    _refuse(response, "an oversized body")
            return Reply(response.status_code, response.headers, bytes(body))
        finally:
            await response.aclose()


def _refuse(response: httpx2.Response, what: str) -> NoReturn:
    where = origin(response.request.url)
    raise ProviderUnreachable(f"{response.status_code} at {where}, with {what}")
