"""A port that leads to the database for as long as a test wants."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from sqlalchemy import URL


class Forwarder:
    """A server on the loopback interface that passes on what it gets, or keeps silent."""

    def __init__(self, target: URL) -> None:
        assert target.host is not None
        self._target = (target.host, target.port or 5432)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.is_silent = False

    async def open(self) -> None:
        """Accept connections; after a ``close``, on the same port."""
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Accept no more connections, and end those that there are."""
        if self._server is not None:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, there_writer}
        await asyncio.gather(self._copy(reader, there_writer), self._copy(there_reader, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if not self.is_silent:
                    writer.write(data)
                    await writer.drain()
        writer.transport.abort()
        self._writers.discard(writer)


@asynccontextmanager
async def forwarding(target: URL) -> AsyncIterator[Forwarder]:
    """Forward to the host and port of a URL until the context ends."""
    forwarder = Forwarder(target)
    await forwarder.open()
    try:
        yield forwarder
    finally:
        await forwarder.close()
