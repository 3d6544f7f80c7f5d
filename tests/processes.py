"""Which processes belong to a project, and which ports are open."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path


def processes_of(*folders: Path) -> dict[int, str]:
    """Return the command lines of processes that work in the folders or name them, by id."""
    names = [str(folder.resolve()) for folder in folders]
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        # A process may end while it is looked at, and others' are not ours to see.
        with suppress(OSError):
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            where = ""
            with suppress(PermissionError):
                where = str((entry / "cwd").readlink())
            if any(name in command or where.startswith(name) for name in names):
                found[int(entry.name)] = command
    return found


def start(
    *command: str | Path, cwd: Path, env: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """Start a command as a terminal does, in a process group of its own."""
    with log.open("wb") as file:
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def end_processes_of(*folders: Path) -> None:
    """End what a failed test has left."""
    for process in processes_of(*folders):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def wait_until(ready: Callable[[], bool], seconds: float, what: Callable[[], object]) -> None:
    """Return when ``ready()`` holds; fail with ``what()`` after so many seconds."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


def is_open(port: int) -> bool:
    """Whether somebody listens on the port of this machine."""
    with closing(socket.socket()) as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_ports(count: int) -> list[int]:
    """Return different ports that nobody uses now."""

    def sockets() -> Iterator[socket.socket]:
        for _ in range(count):
            probe = socket.socket()
            probe.bind(("127.0.0.1", 0))
            yield probe

    probes = list(sockets())
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
