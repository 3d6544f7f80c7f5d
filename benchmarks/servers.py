"""Servers under measurement: their processor time, memory and starts."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.project import PROJECT, PYTHON, environment

_CPUS = sorted(os.sched_getaffinity(0))
# The servers have processors of their own where there are two; the load and what the servers call
# share the rest.
SERVER_CPUS = {_CPUS[0]}
OTHER_CPUS = set(_CPUS[1:]) or SERVER_CPUS
_START_SECONDS = 60
_LOG = PROJECT / "servers.log"


@dataclass(frozen=True)
class Server:
    """A running server; processor time is that of all its processes and threads."""

    pid: int
    port: int
    seconds_to_start: float

    def cpu(self) -> float:
        """Return the seconds of processor time so far, by the scheduler."""
        files = (
            file for pid in self._pids() for file in Path(f"/proc/{pid}/task").glob("*/schedstat")
        )
        return sum(int(file.read_text().split()[0]) for file in files) / 1e9

    def memory(self) -> int:
        """Return the resident memory of the largest process, in bytes."""
        sizes = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self._pids()]
        return max(sizes) * os.sysconf("SC_PAGE_SIZE")

    def _pids(self) -> list[int]:
        found, waiting = [], [self.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            for file in Path(f"/proc/{pid}/task").glob("*/children"):
                waiting += map(int, file.read_text().split())
        return found


@contextmanager
def serving(
    *command: str,
    settings: Mapping[str, str],
    port: int | None = None,
    cpus: set[int] = SERVER_CPUS,
) -> Iterator[Server]:
    """Run ``python -m COMMAND``, which takes uvicorn's options, and yield it when it answers."""
    port = port or free_port()
    own = ("--port", str(port), "--no-access-log", "--no-server-header")
    words = [str(PYTHON), "-m", *command[:1], *own, *command[1:]]
    began = time.perf_counter()
    with _LOG.open("ab") as log:
        process = subprocess.Popen(words, cwd=PROJECT, env=environment(**settings), stdout=log)
    os.sched_setaffinity(process.pid, cpus)
    try:
        _await(process, port)
        yield Server(process.pid, port, time.perf_counter() - began)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _await(process: subprocess.Popen[bytes], port: int) -> None:
    """Return when the server has answered a request."""
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                if connection.recv(12) == b"HTTP/1.1 200":
                    return
        except OSError:
            time.sleep(0.002)
    raise SystemExit(f"A server did not start, see above and {_LOG}: {process.args!r}")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
