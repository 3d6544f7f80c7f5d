"""Running the server of a provider for as long as its tests take."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2

from tests.processes import wait_until

# Some import for many seconds where the machine is busy.
_START_SECONDS = 60
_STOP_SECONDS = 60


def environment(**variables: str) -> dict[str, str]:
    """Return the variables of a provider's process, without those of this machine's user."""
    # The packages are compiled already; bytecode of our data files would litter the work tree.
    return {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **variables}


@contextmanager
def served(
    *command: str | Path, folder: Path, env: Mapping[str, str], until: str
) -> Iterator[None]:
    """Run a server in ``folder`` until the context ends, once the URL ``until`` answers 200."""
    log = folder / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )

    def answers() -> bool:
        assert process.poll() is None, f"{command} ended:\n{log.read_text()[-2000:]}"
        with suppress(httpx2.TransportError):
            return httpx2.get(until, trust_env=False).status_code == 200
        return False

    try:
        wait_until(answers, _START_SECONDS, lambda: f"{until}:\n{log.read_text()[-2000:]}")
        yield
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server and the processes that it has started, the gentle way first."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    # The server leads its process group, which is empty by now when all went well.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
