"""How the server stops: nothing that was sent to it is lost, and nothing holds it."""

import asyncio
import errno
import os
import re
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from unittest.mock import Mock

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from app.core.draining import _stop, drain
from app.core.http_protocol import BoundedProtocol
from app.core.settings import ServerSettings
from template_tools.configuration import PROJECT_ROOT
from template_tools.processes import accepts_connections
from tests.service.core.test_server import (
    GET,
    POST,
    PROGRAM,
    SOON,
    Server,
    is_closed_within,
    read_all,
    serving,
    status,
    wait_for,
)

READYZ = b"GET /readyz HTTP/1.1\r\nHost: test\r\n\r\n"
# Bounds that are not what is tested.
PATIENT = {"SERVER_HEAD_TIMEOUT": "60", "SERVER_BODY_TIMEOUT": "60", "SERVER_WRITE_TIMEOUT": "60"}
LONG = 20
# A worker that imports for long on a busy machine is not dead.
WORKERS = ("--workers", "2", "--timeout-worker-healthcheck", "60")


@contextmanager
def draining(folder: Path, seconds: float, *options: str) -> Iterator[Server]:
    variables = {"SERVER_DRAIN_SECONDS": str(seconds), "PYTHONPATH": str(PROJECT_ROOT), **PATIENT}
    # A file, because workers import it too.
    program = folder / "program.py"
    program.write_text(PROGRAM)
    with serving(folder, *options, start=[str(program)], **variables) as server:
        wait_for(server.is_alive)
        yield server


def ask(connection: socket.socket, request: bytes = GET + b"\r\n") -> bytes:
    """Send a request on a connection that is kept, and return the response."""
    connection.sendall(request)
    head, body = b"", b""
    while not head:
        body += connection.recv(65_536)
        head, _, body = body.rpartition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    while length and len(body) < int(length[1]):
        body += connection.recv(65_536)
    return head + b"\r\n\r\n" + body


def stop(server: Server, number: signal.Signals = signal.SIGTERM) -> None:
    server.process.send_signal(number)
    wait_for(lambda: b"draining" in server.exchange(READYZ[:-2] + b"Connection: close\r\n\r\n"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_readiness_goes_first_and_requests_are_served_on(
    tmp_path: Path, number: signal.Signals
) -> None:
    with draining(tmp_path, LONG) as server, closing(server.connect()) as kept:
        assert status(ask(kept)) == 200
        stop(server, number)
        answer = ask(kept, READYZ)
        assert status(answer) == 503
        assert answer.endswith(b'{"status":"draining"}')
        with closing(server.connect()) as new:
            for connection in (kept, new):
                answer = ask(connection)
                assert status(answer) == 200
                assert b"connection: close" not in answer
        assert status(ask(kept, POST + b"Content-Length: 1\r\n\r\nx")) == 200


def test_responses_end_their_connections_before_the_server_stops_listening(tmp_path: Path) -> None:
    with draining(tmp_path, 4) as server, closing(server.connect()) as kept:
        assert status(ask(kept)) == 200
        stop(server)
        time.sleep(2)
        answer = ask(kept, POST + b"Content-Length: 1\r\n\r\nx") + read_all(kept)
        assert status(answer) == 200
        assert b"connection: close" in answer
        with closing(server.connect()) as new:
            answer = ask(new) + read_all(new)
        assert status(answer) == 200
        assert b"connection: close" in answer
        assert server.process.wait(SOON) == -signal.SIGTERM


def test_a_refused_caller_can_read_why_while_his_body_is_under_way(tmp_path: Path) -> None:
    """Closing before the body is there would reset the connection, and the response with it."""
    with draining(tmp_path, 4) as server, closing(server.connect()) as sending:
        stop(server)
        time.sleep(2)
        sending.sendall(b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        wait_for(lambda: "POST (no route) 404" in server.log())
        sending.sendall(b"x" * 1_000_000)
        assert status(sending.recv(65_536)) == 404


def test_an_idle_connection_is_closed_and_not_reset(tmp_path: Path) -> None:
    with draining(tmp_path, 0) as server, closing(server.connect()) as idle:
        assert status(ask(idle)) == 200
        server.process.send_signal(signal.SIGTERM)
        assert idle.recv(100) == b""
        assert server.process.wait(SOON) == -signal.SIGTERM


@pytest.mark.parametrize("ending", ["shutdown", "timeout_keep_alive_handler"])
async def test_a_request_that_meets_the_end_of_its_idle_connection_is_served(
    monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """It has arrived, and the loop has not read it yet."""
    monkeypatch.setattr(drain, "ends_connections", False)

    async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    config = Config(answer, lifespan="off", log_config=None)
    config.load()
    _, protocol = await loop.connect_accepted_socket(
        lambda: BoundedProtocol(config, ServerState(), {}), ours
    )
    with closing(theirs):
        for _ in range(2):
            theirs.sendall(GET + b"\r\n")
            getattr(protocol, ending)()
            assert status(await asyncio.to_thread(theirs.recv, 1000)) == 204
            if ending == "shutdown":
                break
        else:
            getattr(protocol, ending)()
        assert await asyncio.to_thread(theirs.recv, 1000) == b""


HALVES = {
    "head": GET,
    "body": POST + b"Content-Length: 10\r\n\r\nhalf",
    "body that is asked for": POST + b"Content-Length: 10\r\nExpect: 100-continue\r\n\r\n",
}


@pytest.mark.parametrize("part", HALVES)
def test_half_a_request_does_not_hold_the_end(tmp_path: Path, part: str) -> None:
    with draining(tmp_path, 0) as server, closing(server.connect()) as half:
        half.sendall(HALVES[part])
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        answer = read_all(half).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert status(answer) == 503
        assert b"application/problem+json" in answer
        assert b"retry-after" in answer
        assert server.process.wait(SOON) == -signal.SIGTERM
        assert "Cancel" not in server.log()
        assert "Traceback" not in server.log()


@pytest.mark.parametrize("options", [(), WORKERS], ids=["one process", "workers"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_another_signal_ends_at_once(
    tmp_path: Path, options: tuple[str, ...], number: signal.Signals
) -> None:
    with draining(tmp_path, 60, *options) as server, closing(server.connect()) as connection:
        connection.sendall(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")
        stop(server)
        wait_for(lambda: server.log().count("Terminated child process") == (2 if options else 0))
        server.process.send_signal(number)
        server.process.wait(SOON)
        wait_for(lambda: not accepts_connections(server.port))


def test_workers_stop_as_one_process_does(tmp_path: Path) -> None:
    with draining(tmp_path, 4, *WORKERS) as server, closing(server.connect()) as kept:
        wait_for(lambda: server.log().count("Application startup complete.") == 2)
        assert status(ask(kept)) == 200
        stop(server)
        for _ in range(10):
            with closing(server.connect()) as new:
                assert status(ask(new, READYZ)) == 503
                assert status(ask(new)) == 200
        time.sleep(2)
        assert b"connection: close" in ask(kept)
        server.process.wait(SOON)
        assert server.log().count("Application shutdown complete.") == 2


def test_workers_leave_nobody_waiting_while_one_of_them_finishes(tmp_path: Path) -> None:
    """Who connects is refused, and can ask elsewhere, instead of waiting for a reset."""
    with draining(tmp_path, 0, *WORKERS) as server, closing(server.connect()) as unread:
        unread.sendall(b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n")
        assert status(unread.recv(100)) == 200
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: not accepts_connections(server.port))
        assert server.process.poll() is None


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux filters what a socket listens to.")
async def test_who_connects_at_the_very_end_is_served_or_refused_and_never_reset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Closing a listening socket would reset a connection that it has not accepted yet."""
    monkeypatch.setattr(drain, "has_begun", False)
    monkeypatch.setattr(drain, "ends_connections", False)
    listening = socket.create_server(("127.0.0.1", 0))
    early = socket.create_connection(listening.getsockname())
    late = socket.socket()
    late.setblocking(False)
    server = Mock(servers=[Mock(sockets=[listening])])
    with closing(listening), closing(early), closing(late):
        await _stop(server, signal.SIGTERM, 0.01)
        server.handle_exit.assert_called_once_with(signal.SIGTERM, None)
        assert late.connect_ex(listening.getsockname()) == errno.EINPROGRESS
        assert select.select([], [late], [], 0.3) == ([], [], [])
        accepted, _ = listening.accept()
        listening.close()
        with closing(accepted):
            accepted.sendall(b"served")
        assert early.recv(100) == b"served"
        assert select.select([], [late], [], SOON)[1]
        assert late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED


def test_a_connection_is_kept_for_longer_than_proxies_keep_it(tmp_path: Path) -> None:
    """uvicorn would close it after 5 s, and with it a request on its way."""
    with serving(tmp_path) as server, closing(server.connect()) as kept:
        assert status(ask(kept)) == 200
        assert not is_closed_within(kept, 7)
        kept.settimeout(30)
        assert status(ask(kept, POST + b"Content-Length: 1\r\n\r\nx")) == 200


@pytest.mark.parametrize(
    ("environment", "chosen", "seconds"),
    [("production", None, 15), ("development", None, 0), ("test", None, 0), ("test", 3, 3)],
)
def test_only_production_drains_unless_it_is_asked_for(
    environment: str, chosen: float | None, seconds: float
) -> None:
    values = {"environment": environment, "server_drain_seconds": chosen}
    settings = ServerSettings.model_validate(values)
    assert settings.drain_seconds == seconds


def test_ctrl_c_in_a_terminal_does_not_drain(tmp_path: Path) -> None:
    try:
        own, terminal = os.openpty()
    except OSError as error:
        pytest.skip(f"There are no terminals here: {error}")
    with closing(os.fdopen(own, "rb", 0)), closing(os.fdopen(terminal, "rb", 0)):
        drain_long = {"SERVER_DRAIN_SECONDS": "60"}
        with serving(tmp_path, stdin=os.ttyname(terminal), **drain_long) as server:
            wait_for(server.is_alive)
            server.process.send_signal(signal.SIGINT)
            server.process.wait(SOON)
