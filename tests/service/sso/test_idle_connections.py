"""Connections to the provider that wait for the next call."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from anyio.abc import SocketStream

from app.settings import Settings
from app.utils.sso.resource_server.provider_client import create_client
from tests.service.sso.test_connection_failures import certificate

_AT_ONCE = 8


class Provider:
    """A provider that answers everything, and counts its connections."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = list[asyncio.StreamWriter]()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        self.connections.append(writer)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await asyncio.sleep(0.05)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def close_connections(self) -> None:
        """Close those that are open, as a restart does."""
        for writer in self.connections:
            writer.close()
            await writer.wait_closed()


@asynccontextmanager
async def serving(context: ssl.SSLContext | None = None) -> AsyncIterator[Provider]:
    """Serve a provider."""
    provider = Provider()
    async with await asyncio.start_server(provider.answer, "127.0.0.1", 0, ssl=context) as server:
        provider.port = server.sockets[0].getsockname()[1]
        yield provider
        await provider.close_connections()


async def call(client: httpx2.AsyncClient, url: str, times: int = 1) -> None:
    """Call the provider so often at once."""
    replies = await asyncio.gather(*(client.get(url) for _ in range(times)))
    assert {reply.status_code for reply in replies} == {200}


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_they_cost_a_call_no_more_than_a_look_whether_they_are_closed(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    context = certificate(tmp_path, "127.0.0.1") if scheme == "https" else None
    async with serving(context) as provider:
        url = f"{scheme}://127.0.0.1:{provider.port}/"
        trusting = {"sso_ca_file": tmp_path / "server.pem"} if context else {}
        async with create_client(settings.model_copy(update=trusting)) as client:
            await call(client, url, _AT_ONCE)
            asked = list[SocketStream]()
            monkeypatch.setattr(SocketStream, "extra_attributes", property(asked.append))
            await call(client, url)
            monkeypatch.undo()
        assert not asked
        assert len(provider.connections) == _AT_ONCE


async def test_one_that_the_provider_has_closed_is_not_used(settings: Settings) -> None:
    """The call would fail; the second attempt is for those that close in this moment."""
    async with serving() as provider:
        url = f"http://127.0.0.1:{provider.port}/"
        async with create_client(settings) as client:
            await call(client, url, _AT_ONCE)
            await provider.close_connections()
            await call(client, url)
        assert len(provider.connections) == _AT_ONCE + 1
