"""Asking the identity provider, without trusting what comes back."""

import asyncio
import json
import math
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import NoReturn

import httpx2

from app.core.settings import CoreSettings
from app.utils.sso.resource_server.provider_errors import Unreachable

_DEADLINE_SECONDS = 5
_CONNECT_SECONDS = 1
_MAX_BODY_BYTES = 64 * 1024


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


def create_client(settings: CoreSettings) -> httpx2.AsyncClient:
    """Return the one client of the process; making one costs 25 ms of a blocked event loop.

    Redirects are not followed, because they would carry the client's secret and the caller's
    token elsewhere. A compressed body is not asked for, because 64 KiB of it may hold gigabytes.

    Raises:
        SystemExit: A certificate or key of the settings cannot be used.
    """
    return httpx2.AsyncClient(
        verify=_tls(settings),
        timeout=httpx2.Timeout(_DEADLINE_SECONDS, connect=_CONNECT_SECONDS),
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        follow_redirects=False,
        # A cookie would tie all calls together, and an odd one would make each later call fail.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
    )


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
                # Without one, OpenSSL would ask whoever sits at the terminal for it.
                password="",
            )
    except ssl.SSLError:
        raise SystemExit(
            "The service cannot start: SSO_CA_FILE, CLIENT_CERTIFICATE_FILE or "
            "CLIENT_PRIVATE_KEY_FILE is not PEM, or the key is not the certificate's."
        ) from None
    return context


@asynccontextmanager
async def deadline() -> AsyncIterator[None]:
    """Give what is asked inside, in however many calls, five seconds altogether.

    Raises:
        Unreachable: They are over.
    """
    try:
        async with asyncio.timeout(_DEADLINE_SECONDS):
            yield
    except TimeoutError as error:
        raise Unreachable(type(error).__name__) from error


async def fetch(client: httpx2.AsyncClient, request: httpx2.Request) -> Reply:
    """Send the request; once more where the connection failed, which a restart may explain.

    Raises:
        Unreachable: There was no whole, plain reply within five seconds.
    """
    try:
        # The client's own timeout is for each chunk: a body that trickles would outlive it.
        async with deadline():
            try:
                return await _fetch_once(client, request)
            except (httpx2.NetworkError, httpx2.RemoteProtocolError):
                return await _fetch_once(client, request)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        # It shows which setting to look at. What comes after it in the URL may hold a secret.
        origin = f"{request.url.scheme}://{request.url.netloc.decode('ascii')}"
        raise Unreachable(f"{type(error).__name__} at {origin}") from error


async def _fetch_once(client: httpx2.AsyncClient, request: httpx2.Request) -> Reply:
    response = await client.send(request, stream=True)
    try:
        if response.headers.get("content-encoding", "identity") != "identity":
            _distrust(response, "a compressed body")
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > _MAX_BODY_BYTES:
                _distrust(response, "an oversized body")
        return Reply(response.status_code, response.headers, bytes(body))
    finally:
        await response.aclose()


def _distrust(response: httpx2.Response, what: str) -> NoReturn:
    raise Unreachable(f"{response.status_code} with {what}")


def parse_object(body: bytes) -> dict[str, object]:
    """Return the JSON object in ``body``.

    Raises:
        ValueError: It is not an object, or one that parsers disagree about: with a duplicate
            member (which ``active`` counts?), an infinity or a NaN; or it holds text that neither
            UTF-8 nor the database can carry.
    """
    document = json.loads(
        # Its own guess may be UTF-16, which RFC 8259 §8.1 does not have; the mark does no harm.
        body.decode("utf-8-sig"),
        object_pairs_hook=_unique_members,
        parse_constant=_no_constant,
        parse_float=_finite,
    )
    if not isinstance(document, dict):
        raise ValueError("not an object")
    # A surrogate without its other half makes encode() raise, and a NUL is written as its escape.
    if b"\\u0000" in json.dumps(document, ensure_ascii=False).encode():
        raise ValueError("a NUL")
    return document


def _unique_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member occurs twice")
    return members


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number that is none of a float")
    return number


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
