"""Who sends slowly holds connections of nginx, and none of the service."""

import asyncio
from contextlib import suppress
from pathlib import Path

from tests.debian import Program
from tests.stopping import nginx
from tests.stopping.conftest import StartTwo, Written
from tests.stopping.load import Client

_SENDERS = 30
_BYTES = 20
_PAUSE = 0.3
HEAD = b"GET /number?number=1 HTTP/1.1\r\nHost: test\r\na: "
BODY = (
    b"POST /number?number=1 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n"
    b"Content-Length: 20\r\n\r\n"
)


def test_they_are_nginxs_alone(
    start_two: StartTwo, written: Written, program: Program, tmp_path: Path
) -> None:
    instances = start_two()

    async def send(port: int, begin: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(begin)
        for _ in range(_BYTES):
            if reader.at_eof():
                break
            writer.write(b"x")
            await asyncio.sleep(_PAUSE)
        answer = b""
        with suppress(ConnectionError):
            answer = await reader.read()
        writer.close()
        return answer

    async def run(port: int) -> None:
        heads = [asyncio.create_task(send(port, HEAD)) for _ in range(_SENDERS)]
        bodies = [asyncio.create_task(send(port, BODY)) for _ in range(_SENDERS)]
        client = Client(port, keeps=True)
        for number in range(100):
            assert await client.request("GET", f"/number?number={number}") == 200
        held = sum(it.connections() for it in instances)
        assert not any(it.done() for it in (*heads, *bodies))
        assert held < _SENDERS
        client.forget()
        # Heads take too long, and a body reaches the service when nginx has all of it.
        assert {it[:12] for it in await asyncio.gather(*heads)} <= {b"", b"HTTP/1.1 408"}
        assert {it[:12] for it in await asyncio.gather(*bodies)} == {b"HTTP/1.1 200"}

    ports = [it.port for it in instances]
    with nginx.running(program, tmp_path, ports, client_header_timeout="2s") as port:
        asyncio.run(run(port))
    assert written() == [1] * _SENDERS
