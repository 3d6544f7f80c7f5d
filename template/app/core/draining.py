"""How the service stops without losing a request.

After SIGTERM it serves on for SERVER_DRAIN_SECONDS, because those who send requests learn late that
it stops: ``/readyz`` is 503 from the start, and responses end their connections in the second half.
Only then does the server stop listening, and finish what is under way.
"""

import asyncio
import ctypes
import logging
import os
import signal
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from multiprocessing import parent_process
from types import FrameType

from uvicorn import Server

# As long as a handshake that has begun takes to end, and its request to arrive.
_HANDSHAKE_SECONDS = 0.3
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SO_ATTACH_FILTER = 26  # <asm-generic/socket.h>
# Classic BPF: drop the segment if byte 13 of the TCP header has the SYN flag, else keep it.
_DROP_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))

logger = logging.getLogger(__name__)


@dataclass
class Drain:
    """How far this process has come in stopping."""

    has_begun: bool = False
    ends_connections: bool = False


# Signals are the process's, and so is what follows from them.
drain = Drain()


def running_server() -> Server | None:
    """Return uvicorn's server, if it is what runs the service in this process."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return server if isinstance(server, Server) else None


@asynccontextmanager
async def draining(seconds: float) -> AsyncIterator[None]:
    """Have SIGTERM and SIGINT begin a drain of so many seconds, after which uvicorn stops.

    Another signal ends the process at once. Ctrl-C in a terminal is not for a balancer, and stops
    without a drain. Where another server runs the service, nothing is changed.
    """
    server = running_server()
    if server is None:
        yield
        return
    loop = asyncio.get_running_loop()
    seen: list[int] = []
    tasks: list[asyncio.Task[None]] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        # uvicorn sends SIGTERM to its workers, which Ctrl-C may have reached already.
        if number in seen or (seen and number == signal.SIGINT):
            os._exit(128 + number)
        seen.append(number)
        if len(seen) == 1:
            loop.call_soon_threadsafe(begin, number)

    def begin(number: int) -> None:
        is_typed = number == signal.SIGINT and sys.stdin is not None and sys.stdin.isatty()
        tasks.append(loop.create_task(_stop(server, number, 0 if is_typed else seconds)))

    previous = {it: signal.signal(it, handle) for it in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for task in tasks:
            task.cancel()


async def _stop(server: Server, number: int, seconds: float) -> None:
    drain.has_begun = True
    if seconds:
        logger.info(
            "Stopping in %g s: /readyz says so, and requests are served until then", seconds
        )
        await asyncio.sleep(seconds / 2)
        drain.ends_connections = True
        await asyncio.sleep(seconds / 2)
        # Workers share their socket with those that may replace them: their parent does it.
        if parent_process() is None:
            refuse_connections([it for listener in server.servers for it in listener.sockets])
        await asyncio.sleep(_HANDSHAKE_SECONDS)
    server.handle_exit(number, None)


def refuse_connections(listening: list[socket.socket]) -> None:
    """Let clients that connect from now on wait, until the sockets are closed and refuse them.

    Closing a socket resets the connections that it has not accepted yet, on which requests may have
    been sent. With the filter there are none after a moment. A client repeats its SYN after a
    second, and may then safely try another instance. Only Linux has such filters.
    """
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *it) for it in _DROP_SYN))
    program = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(code))
    for it in listening:
        if sys.platform == "linux" and it.family in {socket.AF_INET, socket.AF_INET6}:
            with suppress(OSError), socket.socket(fileno=os.dup(it.fileno())) as same:
                same.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
