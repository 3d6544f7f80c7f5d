"""Send requests on several connections, one after the other on each, and measure them.

Each line of standard input is ``{"port", "connections", "count", "requests": [...]}``, whose
requests are sent in turns. A line of standard output says what came of it:
``{"statuses", "p50", "p99"}``, the times in seconds.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import cycle, islice
from typing import cast

import uvloop


class Load:
    """The requests that are still to be sent, and what came of the others."""

    def __init__(self, requests: Iterator[bytes], connections: int) -> None:
        self.requests = requests
        self.open = connections
        self.statuses = Counter[int]()
        self.latencies: list[float] = []
        self.done = asyncio.Event()


class Connection(asyncio.Protocol):
    """A connection that sends the next request when it has the response to the last one."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.buffer = b""
        self.began = 0.0
        # The first request waits until the server has accepted the connection, which libuv does
        # once in a turn of its loop. Of a few hundred requests, that would be all of the p99.
        self.is_accepted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # uvloop's transports have the methods, and not the base class.
        self.transport = cast("asyncio.Transport", transport)
        self.send()

    def send(self) -> None:
        """Send a request, if any is left."""
        request = next(self.load.requests, None)
        if request is None:
            self.transport.close()
            return
        self.began = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Read a response, and send the next request."""
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        at = lower.find(b"content-length:")
        length = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(body) < length:
            return
        if self.is_accepted:
            self.load.latencies.append(time.perf_counter() - self.began)
        self.is_accepted = True
        self.load.statuses[int(head[9:12])] += 1
        self.buffer = b""
        self.send()

    def connection_lost(self, _error: Exception | None) -> None:
        """Note that a connection has ended."""
        self.load.open -= 1
        if not self.load.open:
            self.load.done.set()


async def run(port: int, connections: int, count: int, requests: list[str]) -> dict[str, object]:
    """Send the requests, and return what came of them."""
    sent = islice(cycle([it.encode() for it in requests]), count)
    load = Load(sent, connections)
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: Connection(load), "127.0.0.1", port)
    await load.done.wait()
    times = sorted(load.latencies)
    middle, tail = times[len(times) // 2], times[len(times) * 99 // 100]
    return {"statuses": load.statuses, "p50": middle, "p99": tail}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(uvloop.run(run(**json.loads(line)))), flush=True)
