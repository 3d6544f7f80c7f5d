"""Asking the identity provider, without trusting what comes back."""

import asyncio
import json
import logging
from dataclasses import dataclass
from typing import NoReturn

import httpx2

from app.utils.sso.errors import ProviderUnavailable

logger = logging.getLogger(__name__)

_DEADLINE_SECONDS = 5
_CONNECT_SECONDS = 1
_MAX_BODY_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply of the provider: its status, the ``Retry-After`` header, and the raw body."""

    status: int
    retry_after: str | None
    body: bytes


def create_client() -> httpx2.AsyncClient:
    """Return the one client of the process; making one costs 25 ms of a blocked event loop.

    Redirects are not followed, because they would carry the client's secret and the caller's
    token elsewhere. A compressed body is not asked for, because 64 KiB of it may hold gigabytes.
    """
    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(_DEADLINE_SECONDS, connect=_CONNECT_SECONDS),
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        follow_redirects=False,
    )


async def fetch(client: httpx2.AsyncClient, request: httpx2.Request) -> Reply:
    """Send the request; once more where the connection failed, which a restart may explain.

    Raises:
        ProviderUnavailable: There was no whole, plain reply within five seconds.
    """
    try:
        # The client's own timeout is for each chunk: a body that trickles would outlive it.
        async with asyncio.timeout(_DEADLINE_SECONDS):
            try:
                return await _fetch_once(client, request)
            except (httpx2.NetworkError, httpx2.RemoteProtocolError):
                return await _fetch_once(client, request)
    except (TimeoutError, httpx2.HTTPError, httpx2.InvalidURL) as error:
        logger.error("Identity provider unreachable: %s", type(error).__name__)
        raise ProviderUnavailable from error


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
        return Reply(response.status_code, response.headers.get("retry-after"), bytes(body))
    finally:
        await response.aclose()


def _distrust(response: httpx2.Response, what: str) -> NoReturn:
    logger.error("Identity provider answered %s with %s", response.status_code, what)
    raise ProviderUnavailable


def parse_object(body: bytes) -> dict[str, object]:
    """Return the JSON object in ``body``.

    Raises:
        ValueError: It is not an object, or one that parsers disagree about: with a duplicate
            member (which ``active`` counts?), an infinity or a NaN; or it holds text that neither
            UTF-8 nor the database can carry.
    """
    document = json.loads(body, object_pairs_hook=_unique_members, parse_constant=_no_constant)
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


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
