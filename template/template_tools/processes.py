"""Child processes that never outlive their parent, and the ports they listen on."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

HOST = "127.0.0.1"
_START_SECONDS = 30
_STOP_SECONDS = 20
_PR_SET_PDEATHSIG = 1


class DevError(Exception):
    """A sentence for the developer: what is in the way and what to do about it."""


@contextmanager
def child(*command: str, stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``python COMMAND...`` for as long as the block lasts.

    It has a session of its own, so that Ctrl-C in the terminal reaches the parent alone, which
    then ends its children one after the other.
    """
    process = subprocess.Popen(
        [sys.executable, *command],
        stdin=stdin,
        start_new_session=True,
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,
    )
    try:
        yield process
    finally:
        _stop(process)


def _end_with_parent() -> None:
    """Ask the kernel for a SIGTERM when the parent dies, even by SIGKILL."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the child to end; after a while, end it with everything that it started."""
    if process.stdin is not None:
        process.stdin.close()
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], what: str) -> None:
    """Return when ``ready()`` holds.

    Raises:
        DevError: The process ended first, or took half a minute.
    """
    deadline = time.monotonic() + _START_SECONDS
    while not ready():
        if process.poll() is not None:
            raise DevError(f"{what} ended while it started: see above.")
        if time.monotonic() > deadline:
            raise DevError(f"{what} has not started within {_START_SECONDS} seconds: see above.")
        time.sleep(0.05)


def accepts_connections(port: int) -> bool:
    """Whether somebody listens on the port."""
    with closing(socket.socket()) as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def is_free(port: int) -> bool:
    """Whether a server of ours could listen on the port."""
    with closing(socket.socket()) as probe:
        if os.name == "posix":
            # A server sets it too: connections that linger from its last run are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """Return a port that nobody uses now."""
    with closing(socket.socket()) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
