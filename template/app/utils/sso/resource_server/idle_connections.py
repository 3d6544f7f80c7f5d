"""Keeping connections to the provider open, at little cost to each call.

At each call, the pool asks every idle connection whether the other side has closed it. anyio then
makes all that can be known of a socket, with system calls, to find the one thing that is asked for:
beside 16 idle connections that is a third of what a call costs.
"""

# ruff: noqa: ASYNC109 - the parameters are httpcore2's

import select
import ssl
import sys
from collections.abc import Iterable

import httpcore2
import httpx2


def make_idle_connections_cheap(client: httpx2.AsyncClient) -> None:
    """Have the client's own connections, and those through proxies, made as ``_Stream``."""
    if sys.platform == "win32":
        # It has no poll().
        return
    for transport in (client._transport, *client._mounts.values()):
        if isinstance(transport, httpx2.AsyncHTTPTransport):
            transport._pool._network_backend = _Backend()


class _Stream(httpcore2.AsyncNetworkStream):
    """A connection that knows its socket."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream
        self._socket = stream.get_extra_info("socket")
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        return _Stream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> object:
        if info == "is_readable":
            return self._socket.fileno() < 0 or bool(self._poll.poll(0))
        return self._stream.get_extra_info(info)


class _Backend(httpcore2.AnyIOBackend):
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        stream = await super().connect_tcp(host, port, timeout, local_address, socket_options)
        return _Stream(stream)
