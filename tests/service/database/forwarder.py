"""A port that leads to the database for as long as a test wants."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from sqlalchemy import URL


class Forwarder:
    """A server on the loopback interface that passes on what it gets, or keeps silent.

    Attributes:
        is_silent: Whether nothing is passed on.
        delay: How long each answer takes, in seconds.
        unanswered: What somebody must send for its answer, and all that follows, to be lost.
        breaks: Whether the connection is closed instead of that answer.
    """

    def __init__(self, target: URL) -> None:
        assert target.host is not None
        self._target = (target.host, target.port or 5432)
        self._server: asyncio.Server | None = None
        self.writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.is_silent = False
        self.delay = 0.0
        self.unanswered = b""
        self.breaks = False

    async def open(self) -> None:
        """Accept connections; after a ``close``, on the same port."""
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Accept no more connections, and end those that there are."""
        if self._server is not None:
            self._server.close()
            for writer in self.writers:
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        self.writers |= {writer, there_writer}
        is_deaf = False

        async def ask() -> None:
            nonlocal is_deaf
            async for data in self._received(reader, there_writer):
                is_deaf = is_deaf or bool(self.unanswered and self.unanswered in data)
                await self._pass_on(data, there_writer)

        async def answer() -> None:
            async for data in self._received(there_reader, writer):
                await asyncio.sleep(self.delay)
                if not is_deaf:
                    await self._pass_on(data, writer)
                elif self.breaks:
                    writer.transport.abort()

        await asyncio.gather(ask(), answer())

    async def _received(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> AsyncIterator[bytes]:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                yield data
        writer.transport.abort()
        self.writers.discard(writer)

    async def _pass_on(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        if not self.is_silent:
            with suppress(ConnectionError):
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def forwarding(target: URL) -> AsyncIterator[Forwarder]:
    """Forward to the host and port of a URL until the context ends."""
    forwarder = Forwarder(target)
    await forwarder.open()
    try:
        yield forwarder
    finally:
        await forwarder.close()
