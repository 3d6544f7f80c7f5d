"""Callers that count what they lose, and a balancer that learns late."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

_PROBED_EVERY = 0.5
_TIMEOUT = 20
type Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Client:
    """Sends requests to one port, on new connections or on those that are kept."""

    port: int
    keeps: bool
    _kept: list[Connection] = field(default_factory=list)

    async def request(self, method: str, path: str) -> int:
        """Return the status of the response, which must be complete.

        Raises:
            OSError, EOFError, TimeoutError: There is none; nothing is sent twice.
        """
        async with asyncio.timeout(_TIMEOUT):
            reader, writer = await self._connection()
            end = "" if self.keeps else "Connection: close\r\n"
            length = "Content-Length: 4\r\n" if method == "POST" else ""
            body = "body" if length else ""
            writer.write(
                f"{method} {path} HTTP/1.1\r\nHost: test\r\n{length}{end}\r\n{body}".encode()
            )
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            sized = head.partition(b"content-length: ")[2]
            if sized:
                await reader.readexactly(int(sized.partition(b"\r\n")[0]))
        if self.keeps and sized and b"connection: close" not in head:
            self._kept.append((reader, writer))
        else:
            writer.close()
        return int(head.split(b" ", 2)[1])

    def forget(self) -> None:
        """Close the connections that are kept."""
        for _, writer in self._kept:
            writer.close()
        self._kept.clear()

    async def _connection(self) -> Connection:
        while self._kept:
            # Any of them, so that some are idle for long.
            reader, writer = self._kept.pop(random.randrange(len(self._kept)))
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self.port)


@dataclass
class Balancer:
    """Sends each request to an instance that said that it is ready; that was a moment ago."""

    instances: list[Client]
    ready: list[Client] = field(default_factory=list)

    async def request(self, method: str, path: str) -> int:
        """Send a request to one of them."""
        return await random.choice(self.ready or self.instances).request(method, path)

    async def watch(self) -> None:
        """Ask each instance again and again, and act upon the answers only the next time."""
        learnt: list[Client] = []
        while True:
            self.ready = learnt
            learnt = [it for it in self.instances if await _is_ready(it.port)]
            for client in self.instances:
                if client not in self.ready and client not in learnt:
                    client.forget()
            await asyncio.sleep(_PROBED_EVERY)


async def _is_ready(port: int) -> bool:
    with suppress(OSError, EOFError, TimeoutError):
        return await Client(port, keeps=False).request("GET", "/readyz") == 200
    return False


@dataclass
class Load:
    """What callers did: numbers that were written, and how many answers of each kind there were."""

    send: Callable[[str, str], Awaitable[int]]
    at_least: int
    answers: Counter[str] = field(default_factory=Counter)
    written: list[int] = field(default_factory=list)
    is_over: bool = False

    async def call(self, numbers: Iterator[int]) -> None:
        """Read and write in turns until it is over."""
        while not self.is_over or self.answers.total() < self.at_least:
            # Some of the connections become idle.
            await asyncio.sleep(random.random() * 0.02)
            number = next(numbers)
            method = "POST" if number % 2 else "GET"
            try:
                status = await self.send(method, f"/number?number={number}")
            except (OSError, EOFError, TimeoutError) as error:
                self.answers[f"{method} {type(error).__name__}"] += 1
            else:
                self.answers[f"{method} {status}"] += 1
                if method == "POST" and status == 200:
                    self.written.append(number)
