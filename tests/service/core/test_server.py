"""The server that runs the service, as a process of its own that is attacked over sockets."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.core.settings import ServerSettings
from template_tools.configuration import PROJECT_ROOT
from template_tools.processes import accepts_connections, free_port, wait_until

# The service, and routes whose bodies and responses are long.
PROGRAM = """\
import asyncio
from contextlib import asynccontextmanager
from fastapi import Request, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
import app.hooks, app.server, app.main

@app.main.app.get("/big")
async def big() -> PlainTextResponse:
    return PlainTextResponse("x" * 20_000_000)

@app.main.app.get("/stream")
async def stream():
    async def body():
        for _ in range(1000):
            yield b"x" * 20_000
    return StreamingResponse(body())

@app.main.app.post("/length")
async def length(request: Request) -> int:
    return len(await request.body())

@app.main.app.post("/headers")
async def headers(request: Request) -> str:
    await request.body()
    return ",".join(sorted(request.headers))

@app.main.app.get("/slow")
async def slow() -> str:
    await asyncio.sleep(2)
    return "slow"

@app.main.app.websocket("/socket")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        await websocket.send_text(await websocket.receive_text())

if __name__ == "__main__":
    app.server.main()
"""
BOUNDS = {
    "SERVER_MAX_CONNECTIONS": "40",
    "SERVER_MAX_HEAD_SIZE": "8192",
    "SERVER_MAX_HEADERS": "50",
    "SERVER_HEAD_TIMEOUT": "1",
    "SERVER_BODY_TIMEOUT": "1",
    "SERVER_WRITE_TIMEOUT": "2",
}
# A connection looks at its deadline once a second, and this machine may be busy.
SOON = 8
GET = b"GET /livez HTTP/1.1\r\nHost: test\r\n"
POST = b"POST /length HTTP/1.1\r\nHost: test\r\n"


@dataclass(frozen=True)
class Server:
    """A server that runs in a process of its own."""

    process: subprocess.Popen[bytes]
    port: int
    log_file: Path

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def exchange(self, request: bytes) -> bytes:
        """Send, and return all that comes until the server closes the connection."""
        with closing(self.connect()) as connection:
            with suppress(ConnectionError):
                connection.sendall(request)
            return read_all(connection)

    def is_alive(self) -> bool:
        return status(self.exchange(GET + b"Connection: close\r\n\r\n")) == 200

    def memory(self) -> int:
        """Return the resident memory, in MiB."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * 4096 >> 20

    def connections(self) -> int:
        """Return how many sockets the process has open."""
        folder = Path(f"/proc/{self.process.pid}/fd")
        count = 0
        for entry in folder.iterdir():
            with suppress(OSError):
                count += str(entry.readlink()).startswith("socket:")
        return count

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="surrogateescape")


def read_all(connection: socket.socket) -> bytes:
    received = b""
    with suppress(ConnectionError):
        while chunk := connection.recv(65_536):
            received += chunk
    return received


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def is_closed_within(connection: socket.socket, seconds: float) -> bool:
    connection.settimeout(seconds)
    try:
        read_all(connection)
    except TimeoutError:
        return False
    return True


@contextmanager
def serving(
    folder: Path,
    *options: str,
    start: Sequence[str] = ("-c", PROGRAM),
    stdin: str = os.devnull,
    **variables: str,
) -> Iterator[Server]:
    port = free_port()
    log_file = folder / "log"
    with log_file.open("wb") as log, Path(stdin).open("rb", 0) as standard_input:
        process = subprocess.Popen(
            [sys.executable, *start, "--port", str(port), *options],
            cwd=PROJECT_ROOT,
            env=os.environ | BOUNDS | {"LOG_LEVEL": "info"} | variables,
            stdin=standard_input,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until(lambda: accepts_connections(port), process, "The server")
        yield Server(process, port, log_file)
    finally:
        # With the workers that it may have.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


LARGE_HEADS = {
    "one header": b"a: " + b"x" * 10_000,
    "many headers": b"".join(b"a%d: b\r\n" % i for i in range(51))[:-2],
    "a header's name": b"x" * 10_000 + b": a",
    "one header again and again": (b"a: " + b"x" * 900 + b"\r\n") * 10 + b"b: c",
}


@pytest.mark.parametrize("head", LARGE_HEADS)
def test_a_large_head_is_answered_with_431(server: Server, head: str) -> None:
    answer = server.exchange(GET + LARGE_HEADS[head] + b"\r\n\r\n")

    assert status(answer) == 431
    lines, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in lines
    assert json.loads(body)["status"] == 431


def test_a_long_address_is_answered_with_431(server: Server) -> None:
    request = b"GET /livez?%b HTTP/1.1\r\nHost: test\r\n\r\n" % (b"x" * 10_000)
    assert status(server.exchange(request)) == 431


def test_a_head_within_the_bounds_is_served_with_a_body_behind_it(server: Server) -> None:
    """A part of the body may arrive together with the head, and is not counted as head."""
    head = POST + b"Connection: close\r\na: " + b"x" * 7_000 + b"\r\n"
    answer = server.exchange(head + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000)
    assert status(answer) == 200
    assert answer.endswith(b"100000")


CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "header": (GET + b"a: b", b"x" * 65_536),
    "headers": (GET, b"a: b\r\n" * 10_000),
    "empty lines": (b"", b"\r\n" * 30_000),
    "address": (b"GET /", b"x" * 65_536),
    "trailer": (CHUNKED + b"1\r\nx\r\n0\r\na: ", b"x" * 65_536),
    "trailers": (CHUNKED + b"0\r\n", b"a: b\r\n" * 10_000),
    "extension of a chunk": (CHUNKED + b"1;a=", b"x" * 65_536),
}


@pytest.mark.parametrize("part", ENDLESS)
def test_what_does_not_end_costs_no_memory(server: Server, part: str) -> None:
    before = server.memory()
    begin, more = ENDLESS[part]
    sent = 0
    deadline = time.monotonic() + SOON
    with closing(server.connect()) as connection, suppress(ConnectionError):
        connection.sendall(begin)
        while time.monotonic() < deadline:
            sent += connection.send(more)
    # It is read for a second after the refusal, so that the client gets the answer, and forgotten.
    assert time.monotonic() < deadline
    assert sent
    assert server.memory() - before < 30
    assert server.is_alive()


def test_a_trailer_is_no_header(server: Server) -> None:
    head = b"POST /headers HTTP/1.1\r\nHost: test\r\nConnection: close\r\n"
    chunks = b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nAuthorization: Bearer x\r\n\r\n"
    answer = server.exchange(head + chunks)
    assert status(answer) == 200
    assert answer.endswith(b'"connection,host,transfer-encoding"')


@pytest.mark.parametrize(
    "begin",
    [b"", b"G", GET, GET + b"a: b", POST + b"Content-Length: 10\r\n\r\n12345"],
    ids=["silent", "one byte", "half a head", "half a header", "half a body"],
)
def test_a_request_that_does_not_come_is_given_up(server: Server, begin: bytes) -> None:
    with closing(server.connect()) as connection:
        connection.sendall(begin)
        connection.settimeout(SOON)
        assert status(read_all(connection)) == 408


TRICKLES: dict[str, tuple[bytes, bytes]] = {
    "head": (GET + b"a: ", b"x"),
    "headers": (GET, b"a: b\r\n"),
    "empty lines": (b"", b"\r\n"),
    "body": (POST + b"Content-Length: 1000\r\n\r\n", b"x"),
    "chunked body": (CHUNKED, b"1\r\nx\r\n"),
    "chunk size": (CHUNKED, b"0"),
    "trailer": (CHUNKED + b"0\r\n", b"a: b\r\n"),
    "body of a refused request": (
        b"POST /nowhere HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\n",
        b"x",
    ),
}


@pytest.mark.parametrize("trickle", TRICKLES)
def test_who_sends_slowly_is_not_waited_for(server: Server, trickle: str) -> None:
    begin, more = TRICKLES[trickle]
    deadline = time.monotonic() + SOON
    with closing(server.connect()) as connection, suppress(ConnectionError):
        connection.sendall(begin)
        connection.settimeout(0.1)
        answered = False
        while time.monotonic() < deadline:
            connection.sendall(more)
            try:
                # The answer, and then the end of the connection.
                if not connection.recv(65_536) and answered:
                    break
                answered = True
            except TimeoutError:
                pass
    assert time.monotonic() < deadline


@pytest.mark.parametrize("path", [b"/big", b"/stream"])
def test_who_does_not_read_is_not_waited_for(server: Server, path: bytes) -> None:
    before = server.connections()
    with ExitStack() as stack:
        for _ in range(3):
            connection = stack.enter_context(closing(server.connect()))
            connection.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: test\r\n\r\n")
        wait_for(lambda: server.connections() == before + 3)
        wait_for(lambda: server.connections() <= before)


def test_who_reads_slower_than_others_gets_all(server: Server) -> None:
    """Four seconds for 20 MB are more than SERVER_WRITE_TIMEOUT."""
    with closing(server.connect()) as connection:
        connection.sendall(b"GET /big HTTP/1.1\r\nHost: test\r\n\r\n")
        received = 0
        while received < 20_000_000:
            chunk = connection.recv(100_000)
            assert chunk, received
            received += len(chunk)
            time.sleep(0.02)


def test_silent_connections_make_room_for_others(server: Server) -> None:
    with ExitStack() as stack:
        for _ in range(450):
            stack.enter_context(closing(server.connect()))
        assert server.connections() < 40 + 20
        assert server.is_alive()
        held = stack.enter_context(closing(server.connect()))
        assert is_closed_within(held, SOON)
    assert server.log().count("There are more connections than SERVER_MAX_CONNECTIONS (40)") == 1


def test_where_all_connections_are_at_work_another_is_refused(server: Server) -> None:
    with ExitStack() as stack:
        working = [stack.enter_context(closing(server.connect())) for _ in range(40)]
        for connection in working:
            connection.sendall(b"GET /slow HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        time.sleep(0.5)
        answer = server.exchange(GET + b"\r\n")
        assert status(answer) == 503
        assert b"retry-after: 5" in answer.lower()
        assert {status(read_all(connection)) for connection in working} == {200}


def test_pipelined_requests_are_answered_in_their_order(server: Server) -> None:
    requests = [b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n", GET + b"Connection: close\r\n\r\n"]
    answer = server.exchange(b"".join(requests))
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.index(b'"slow"') < answer.index(b'"ok"')


@pytest.mark.parametrize("last", [b"broken\r\n\r\n", GET + b"a: " + b"x" * 10_000 + b"\r\n\r\n"])
def test_what_is_wrong_with_a_request_does_not_touch_the_one_before(
    server: Server, last: bytes
) -> None:
    answer = server.exchange(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n" + last)
    assert answer.count(b"HTTP/1.1") == 1
    assert answer.endswith(b'"slow"')


def test_of_many_requests_at_once_the_first_are_answered(server: Server) -> None:
    answer = server.exchange((GET + b"\r\n") * 100)
    assert answer.count(b"HTTP/1.1 200 OK") == 33


def test_a_flood_of_pipelined_requests_costs_no_memory(server: Server) -> None:
    before = server.memory()
    with ExitStack() as stack:
        for _ in range(30):
            connection = stack.enter_context(closing(server.connect()))
            with suppress(ConnectionError):
                connection.sendall(b"GET /slow HTTP/1.1\r\n\r\n" * 8_000)
        assert server.is_alive()
        assert server.memory() - before < 30


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"unknown"])
def test_an_upgrade_that_is_not_offered_is_answered_once(server: Server, protocol: bytes) -> None:
    upgrade = b"Connection: Upgrade, close\r\nUpgrade: " + protocol + b"\r\n\r\n"
    answer = server.exchange(GET + upgrade)
    assert answer.count(b"HTTP/1.1") == 1
    assert status(answer) in {200, 403, 404, 400, 426}


def test_a_websocket_outlives_the_time_of_a_request(server: Server) -> None:
    with closing(server.connect()) as connection:
        connection.sendall(
            b"GET /socket HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert status(connection.recv(65_536)) == 101
        time.sleep(3)
        connection.sendall(b"\x81\x82\x00\x00\x00\x00hi")
        assert connection.recv(100) == b"\x81\x02hi"


def test_http_2_by_itself_is_refused(server: Server) -> None:
    answer = server.exchange(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert status(answer) == 400
    assert b"application/problem+json" in answer


def test_a_request_under_way_is_finished_before_the_server_ends(tmp_path: Path) -> None:
    with serving(tmp_path) as server, closing(server.connect()) as silent:
        with closing(server.connect()) as connection:
            connection.sendall(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")
            time.sleep(0.5)
            server.process.send_signal(signal.SIGTERM)
            assert read_all(connection).endswith(b'"slow"')
        assert is_closed_within(silent, SOON)
        assert server.process.wait(SOON) in {0, -signal.SIGTERM}
        assert "Application shutdown complete." in server.log()
        assert "Traceback" not in server.log()


def test_options_and_variables_of_uvicorn_are_obeyed(tmp_path: Path) -> None:
    variables = {"FORWARDED_ALLOW_IPS": "127.0.0.1", "UVICORN_ROOT_PATH": "/orders"}
    with serving(tmp_path, "--server-header", "--access-log", **variables) as server:
        asked = b"Connection: close\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n"
        answer = server.exchange(GET + asked)
    assert b"server: uvicorn" in answer
    assert '203.0.113.7:0 - "GET /orders/livez HTTP/1.1" 200' in server.log()


def test_the_container_has_the_bounds_and_the_log(tmp_path: Path) -> None:
    """What the Dockerfile says is started, with its variables, on another port."""
    dockerfile = (PROJECT_ROOT / "Dockerfile").read_text("utf-8")
    instructions = dict(re.findall(r"^(ENTRYPOINT|CMD) (.+)$", dockerfile, re.MULTILINE))
    started: list[str] = json.loads(instructions["ENTRYPOINT"]) + json.loads(instructions["CMD"])
    python, *words = started
    variables = dict(re.findall(r"^ENV (UVICORN_\w+)=(\S+)$", dockerfile, re.MULTILINE))
    words[words.index("8000") - 1 : words.index("8000") + 1] = []

    assert python == "python"
    with serving(tmp_path, start=words, **variables) as server:
        assert status(server.exchange(GET + LARGE_HEADS["one header"] + b"\r\n\r\n")) == 431
        query = b"/health?access_token=secret-7"
        server.exchange(b"GET " + query + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        log = server.log()

    assert re.search(r"^\S+Z WARNING app\.health: Health", log, re.MULTILINE)
    assert re.search(r"^\S+Z WARNING app\.request: GET /health 503 \S+ ms", log, re.MULTILINE)
    assert "secret-7" not in log


def start_container(*command: str) -> subprocess.CompletedProcess[str]:
    """Run what a container runs whose command this is."""
    return subprocess.run(
        [sys.executable, "-m", "app.server", *command],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_container_whose_command_is_another_runs_that() -> None:
    done = start_container(sys.executable, "-c", "import sys; sys.exit(print(*sys.argv[1:]))", "-x")
    assert (done.returncode, done.stdout, done.stderr) == (0, "-x\n", "")


def test_a_container_whose_command_is_missing_says_so_in_a_sentence() -> None:
    done = start_container("alembik", "upgrade", "head")
    assert done.returncode == 1
    assert done.stderr == "alembik cannot be run: No such file or directory.\n"


SLOW_WORKERS = """
import sys, time
if any("spawn_main" in word for word in sys.orig_argv):
    time.sleep(6)
"""


def test_workers_that_start_slowly_are_not_taken_for_dead(tmp_path: Path) -> None:
    """uvicorn kills one that does not answer for 5 s, and on a busy machine all of them."""
    (tmp_path / "sitecustomize.py").write_text(SLOW_WORKERS)
    start = ["-m", "app.server", "--workers", "2"]
    with serving(tmp_path, start=start, PYTHONPATH=str(tmp_path)) as server:
        answer = server.exchange(GET + b"Connection: close\r\n\r\n")
        assert status(answer) == 200
        assert "died" not in server.log()


@pytest.mark.parametrize("start", ["uvicorn app.main:app", "app.server"])
def test_each_request_is_one_line_whatever_starts_the_service(tmp_path: Path, start: str) -> None:
    with serving(tmp_path, start=["-m", *start.split()]) as server:
        server.exchange(b"GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        lines = [it for it in server.log().splitlines() if "GET /" in it or "no route" in it]
    assert len(lines) == 1
    assert " INFO app.request: GET (no route) 404 " in lines[0]


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("SERVER_MAX_CONNECTIONS", "many", "SERVER_MAX_CONNECTIONS"),
        (
            "REQUEST_TIMEOUT",
            "20",
            "REQUEST_TIMEOUT must be shorter than UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN",
        ),
    ],
    ids=["no number", "a deadline that a stop would not wait for"],
)
def test_a_bound_that_makes_no_sense_is_named_in_a_sentence(
    variable: str, value: str, sentence: str
) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "app.server"],
        cwd=PROJECT_ROOT,
        env=os.environ | {variable: value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert sentence in run.stderr
    assert "Traceback" not in run.stderr


def test_a_long_deadline_is_no_mistake_while_developing() -> None:
    """A debugger holds a request for as long as somebody looks at it."""
    with subprocess.Popen(
        [sys.executable, "-m", "app.server", "--reload", "--reload-dir", "app", "--port", "0"],
        cwd=PROJECT_ROOT,
        env=os.environ | {"REQUEST_TIMEOUT": "3600"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        said = ""
        while "Started reloader process" not in said and (line := process.stdout.readline()):
            said += line
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert "Started reloader process" in said, said


def test_the_bounds_of_a_deployment_are_those_of_its_settings() -> None:
    others = {"ENVIRONMENT", "LOG_LEVEL", "LOG_FORMAT", "SERVER_DRAIN_SECONDS", "METRICS_PORT"}
    assert {name.upper() for name in ServerSettings.model_fields} == {*BOUNDS, *others}


RECORD = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ [\w.]+: .+|    .*")
SECRETS = [
    b"/livez?access_token=secret-7",
    b"/nowhere?email=secret-7&x",
    b'/nowhere?a="?token=secret-7',
    b"/health?code=secret-7#secret-7",
    b"/socket?access_token=secret-7",
    b"http://user:secret-7@host/livez?secret-7",
    b"*?secret-7",
]


@pytest.mark.parametrize("address", SECRETS)
@pytest.mark.parametrize("protocol", [b"", b"Upgrade: websocket\r\n"], ids=["http", "websocket"])
def test_a_query_is_not_logged(server: Server, address: bytes, protocol: bytes) -> None:
    upgrade = b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" + protocol
    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    end = upgrade + key if protocol else b"Connection: close\r\n\r\n"
    with closing(server.connect()) as connection:
        connection.sendall(b"GET " + address + b" HTTP/1.1\r\nHost: test\r\n" + end)
        connection.recv(65_536)
    assert "secret-7" not in server.log()


@pytest.mark.parametrize("character", ["\r\n", "\x1b[31m", "\x9b31m", "\u202e", "\u2028", "\x00"])
def test_a_line_of_the_log_cannot_be_forged(server: Server, character: str) -> None:
    forged = f"{character}2026-11-29T15:00:00.000Z ERROR app.forged: forged"
    path = "".join(f"%{byte:02x}" for byte in f"/nowhere/{forged}".encode())
    server.exchange(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    client = forged.encode("utf-8").replace(b"\r\n", b"")
    server.exchange(GET + b"X-Forwarded-For: " + client + b"\r\nConnection: close\r\n\r\n")

    for line in server.log().split("\n")[:-1]:
        assert RECORD.fullmatch(line), line
        assert line.isprintable(), line
        assert not line.startswith("2026-11-29T15:00:00.000Z")


def test_what_the_service_logs_has_its_time_its_level_and_its_logger(server: Server) -> None:
    server.exchange(b"GET /health HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    line = next(it for it in server.log().splitlines() if " app.health: " in it)
    assert re.match(r"\S+Z WARNING app\.health: Health: the database does not answer", line)


def test_what_migrations_log_has_it_too() -> None:
    code = (
        "import logging, logging.config; logging.config.fileConfig('alembic.ini'); "
        "logging.getLogger('alembic.env').warning('waiting')"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \S+ WARNING alembic\.env: waiting\n", run.stderr)


def wait_for(ready: Callable[[], bool], seconds: float = SOON) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.1)
