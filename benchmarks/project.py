"""The project that is measured, and the processes around it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from copier import run_copy

ROOT = Path(__file__).resolve().parents[1]
PROJECT = ROOT / ".dev" / "benchmark"
PYTHON = PROJECT / ".venv" / "bin" / "python"
_KEPT = {".venv", ".dev", "uv.lock"}


def render() -> None:
    """Render the work tree with the default answers, and install what it needs."""
    PROJECT.mkdir(parents=True, exist_ok=True)
    for path in PROJECT.iterdir():
        if path.name not in _KEPT:
            subprocess.run(["rm", "-rf", path], check=True)  # noqa: S607
    run_copy(str(ROOT), PROJECT, vcs_ref="HEAD", defaults=True, quiet=True)
    uv = os.environ.get("UV", "uv")
    subprocess.run(
        [uv, "sync", "--quiet", "--compile-bytecode"], cwd=PROJECT, env=_own(), check=True
    )


def environment(**settings: str) -> dict[str, str]:
    """Return the environment of a process of the project."""
    return _own() | {"PYTHONPATH": str(ROOT / "benchmarks")} | settings


def _own() -> dict[str, str]:
    left_out = {"VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE"}
    return {name: value for name, value in os.environ.items() if name not in left_out}


@contextmanager
def database(users: int, issuer: str) -> Iterator[str]:
    """Hold a database with some users that the issuer knows, and yield its URL."""
    process = subprocess.Popen(
        [PYTHON, "-m", "apps.database", str(users), issuer],
        cwd=PROJECT,
        # The migrations replace it; the setting must be there.
        env=environment(DATABASE_URL="postgresql://nobody@127.0.0.1:9/unset"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    if not url:
        raise SystemExit("The database did not start: see above.")
    try:
        yield url
    finally:
        process.communicate()


def run(module: str, *words: str, **settings: str) -> str:
    """Run a module of ``apps``, and return what it prints."""
    done = subprocess.run(
        [PYTHON, "-m", f"apps.{module}", *words],
        cwd=PROJECT,
        env=environment(**settings),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


class Load:
    """The process that sends the requests."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [PYTHON, "-m", "apps.load"],
            cwd=PROJECT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def send(self, requests: list[str], count: int, port: int, connections: int) -> "Answers":
        """Send so many requests, which are repeated in turns."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"requests": requests, "count": count, "port": port, "connections": connections}
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return Answers(**json.loads(self._process.stdout.readline()))


@dataclass(frozen=True)
class Answers:
    """How often each status came, and the middle and the 99th percentile of the times."""

    statuses: dict[str, int]
    p50: float
    p99: float

    def expect(self, status: int, what: str) -> None:
        """Stop unless nearly all have the status; a machine that stalls is answered with 503."""
        if self.statuses != {str(status): sum(self.statuses.values())}:
            print(f"benchmarks: {what} was answered with {self.statuses}", file=sys.stderr)
            if self.statuses.get(str(status), 0) < 0.98 * sum(self.statuses.values()):
                raise SystemExit(1)


def signed(count: int, issuer: str) -> tuple[str, list[str]]:
    """Return a key set, and as many JWTs that its key has signed."""
    document = json.loads(run("tokens", str(count), issuer))
    return json.dumps(document["jwks"]), document["tokens"]
