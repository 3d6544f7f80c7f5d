"""Child processes that end with their parent, on Linux even when it is killed, and their ports.

The supervisor of the database imports this module without site-packages: it may import the standard
library only, and what does no more.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

from template_tools.messages import Problem

HOST = "127.0.0.1"
_START_SECONDS = 60
_STOP_SECONDS = 20
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class DevError(Problem):
    """A sentence for the developer: what is in the way and what to do about it."""


@contextmanager
def child(*command: str, stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``python COMMAND...`` for as long as the block lasts.

    The child runs in its own session, so that Ctrl-C in the terminal reaches only the parent, which
    then stops its children one after the other.
    """
    process = subprocess.Popen(
        [sys.executable, *command],
        env=environment_of_children(),
        stdin=stdin,
        start_new_session=True,
        preexec_fn=end_with_parent if sys.platform == "linux" else None,
    )
    try:
        yield process
    finally:
        _stop(process)


def environment_of_children() -> dict[str, str]:
    """Return the environment without UVICORN_UDS and the like: the command alone says where."""
    return {name: it for name, it in os.environ.items() if not name.startswith("UVICORN_")}


def end_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Have Linux send this process a signal when its parent dies, even by SIGKILL."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Terminate the child; after a timeout, kill it and its own children."""
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


def wait_until(
    ready: Callable[[], bool],
    process: subprocess.Popen[bytes],
    what: str,
    seconds: float = _START_SECONDS,
) -> None:
    """Return when ``ready()`` holds.

    Raises:
        DevError: The process ended first, or was not ready after so many seconds.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None:
            raise DevError("{what} ended while it was starting: see above.", what=what)
        if time.monotonic() > deadline:
            raise DevError(
                "{what} did not start within {seconds} seconds: see above.",
                what=what,
                seconds=seconds,
            )
        time.sleep(0.01)


def accepts_connections(port: int) -> bool:
    """Whether a server listens on the port."""
    with closing(socket.socket()) as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def is_free(port: int) -> bool:
    """Whether a server could listen on the port."""
    with closing(socket.socket()) as probe:
        if os.name == "posix":
            # Servers set it too, so connections that linger from their last run are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """Return a port that is not in use now."""
    with closing(socket.socket()) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
