"""Reading what the identity provider sends."""

import asyncio
from asyncio import StreamReader, StreamWriter

import httpx2
import pytest

from app.settings import Settings
from app.utils.sso.resource_server.provider_client import create_client, fetch, parse_object
from app.utils.sso.resource_server.provider_errors import Unreachable
from template_tools.processes import free_port


def test_an_object_is_read_whatever_is_in_it() -> None:
    assert parse_object(b'{"active": true, "n": {"a": [1, 2.5, null]}}') == {
        "active": True,
        "n": {"a": [1, 2.5, None]},
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"active"',
        b"{",
        b"\xff\xfe",
        b'{"active": false, "active": true}',
        b'{"n": {"a": 1, "a": 2}}',
        b'{"exp": NaN}',
        b'{"exp": -Infinity}',
        b'{"exp": 1e400}',
        b'{"scope": "a \\ud800"}',
        b'{"sub": "a\\u0000b"}',
        '{"active": true}'.encode("utf-16"),
        '{"active": true}'.encode("utf-32"),
    ],
)
def test_what_parsers_disagree_about_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each of its kinds is refused alike
        parse_object(body)


def test_the_mark_that_some_servers_begin_with_does_no_harm() -> None:
    assert parse_object(b'\xef\xbb\xbf{"active": true}') == {"active": True}


class Failing(httpx2.AsyncBaseTransport):
    """A network on which each request fails alike."""

    def __init__(self, failure: type[httpx2.TransportError]) -> None:
        self.requests = 0
        self._failure = failure

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Count the request, and fail."""
        self.requests += 1
        raise self._failure("a canary", request=request)


@pytest.mark.parametrize(
    ("failure", "requests"),
    [
        (httpx2.ConnectError, 2),
        (httpx2.ReadError, 2),
        (httpx2.WriteError, 2),
        (httpx2.RemoteProtocolError, 2),
        (httpx2.ConnectTimeout, 1),
        (httpx2.ReadTimeout, 1),
        (httpx2.PoolTimeout, 1),
        (httpx2.LocalProtocolError, 1),
    ],
)
async def test_only_a_connection_that_fails_is_tried_again_and_once(
    failure: type[httpx2.TransportError], requests: int
) -> None:
    """A restart of the provider explains it; who is slow is not asked for twice the work."""
    network = Failing(failure)
    async with httpx2.AsyncClient(transport=network) as client:
        with pytest.raises(Unreachable) as caught:
            await fetch(client, client.build_request("GET", "http://127.0.0.1:9/"))
    assert network.requests == requests
    assert failure.__name__ in str(caught.value)
    assert "canary" not in str(caught.value), "what it says may hold anything"


async def test_a_host_that_does_not_answer_is_given_up_before_the_deadline(
    settings: Settings,
) -> None:
    """Else there is no time left for the next address of its name, or for a retry."""
    async with create_client(settings) as client:
        assert client.timeout.connect == 1
        assert client.timeout.read == 5


async def test_a_cookie_of_the_provider_is_not_kept(settings: Settings) -> None:
    """It would tie all calls together, and an odd one would make each later call impossible."""
    requests: list[bytes] = []

    async def answer(reader: StreamReader, writer: StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n"
        writer.write(head + b"Set-Cookie: plain=1\r\nSet-Cookie: odd=\xff\xfe; Path=/\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, create_client(settings) as client:
        for _ in range(2):
            reply = await fetch(client, client.build_request("GET", url))
            assert reply.status == 200
    assert len(requests) == 2
    assert all(b"cookie" not in request.lower() for request in requests)


async def test_a_redirect_is_not_followed(settings: Settings) -> None:
    """It would carry the client's secret and the caller's token elsewhere."""
    requests: list[bytes] = []

    async def answer(reader: StreamReader, writer: StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 307 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, create_client(settings) as client:
        request: httpx2.Request = client.build_request("POST", url, data={"token": "some-token"})
        assert (await fetch(client, request)).status == 307
    assert len(requests) == 1
    assert b"\r\naccept-encoding: identity\r\n" in requests[0].lower()


async def test_a_failure_names_where_it_was_and_nothing_that_may_be_secret(
    settings: Settings,
) -> None:
    port = free_port()
    async with create_client(settings) as client:
        url = f"http://canary:canary@127.0.0.1:{port}/canary?key=canary"
        with pytest.raises(Unreachable) as caught:
            await fetch(client, client.build_request("GET", url))
    assert str(caught.value) == f"ConnectError at http://127.0.0.1:{port}"
