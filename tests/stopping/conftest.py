"""Two instances of a rendered service, and the database that they share."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from tests.database.servers import Machine, Postgres, open_machine
from tests.debian import Program, find_or_skip
from tests.processes import free_ports, wait_until
from tests.projects import Projects, succeed

_PROGRAM = Path(__file__).parents[1] / "rendered" / "stopping.py"
# More than the pod's grace of the documentation.
_STOP_SECONDS = 45
_START_SECONDS = 60


@pytest.fixture(scope="module")
def machine(projects: Projects) -> Iterator[Machine]:
    with open_machine(projects) as machine:
        yield machine


@pytest.fixture(scope="module")
def environment(projects: Projects, machine: Machine) -> Iterator[dict[str, str]]:
    """The environment of the service, with a database that is migrated."""
    server = Postgres(machine, "server")
    server.start()
    project = projects.rendered({})
    environment = projects.environment() | {
        "DATABASE_URL": server.url,
        "PYTHONPATH": str(project),
        "ENVIRONMENT": "production",
        "SSO_ISSUER": "https://sso.example.com",
        "SSO_AUDIENCE": "service",
        "CLIENT_ID": "service",
        "CLIENT_SECRET": "secret",
        "LOG_LEVEL": "warning",
    }
    succeed(python(environment), "-m", "alembic", "upgrade", "head", cwd=project, env=environment)
    yield environment
    server.end()


def python(environment: dict[str, str]) -> Path:
    """Return the interpreter of the rendered projects."""
    return Path(environment["UV_PROJECT_ENVIRONMENT"]) / "bin" / "python"


type Written = Callable[[], list[int]]


@pytest.fixture
def written(environment: dict[str, str], machine: Machine) -> Written:
    """Empty the table of the numbers that the service writes; a call returns them."""

    def sql(statement: str) -> str:
        url = environment["DATABASE_URL"]
        return machine.run("psql", "-qAtX", url, "-c", statement).strip()

    sql("DROP TABLE IF EXISTS written")
    sql("CREATE TABLE written (number bigint NOT NULL)")
    return lambda: [int(line) for line in sql("TABLE written").splitlines()]


@pytest.fixture(scope="module")
def program(shared_folder: Path) -> Program:
    return find_or_skip("usr/sbin/nginx", "nginx", shared_folder)


class Instance:
    """An instance of the service, which can be restarted on its port."""

    def __init__(self, environment: dict[str, str], folder: Path, *options: str) -> None:
        [self.port] = free_ports(1)
        self._environment = environment
        self.log = folder / f"{self.port}.log"
        self._options = ("--port", str(self.port), *options)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run it, and return when it is ready."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [python(self._environment), _PROGRAM, *self._options],
                cwd=self.log.parent,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._process = process

        def is_ready() -> bool:
            assert process.poll() is None, self.log.read_text()[-2000:]
            with suppress(httpx2.TransportError):
                url = f"http://127.0.0.1:{self.port}/readyz"
                return httpx2.get(url, trust_env=False).status_code == 200
            return False

        wait_until(is_ready, _START_SECONDS, lambda: self.log.read_text()[-2000:])

    def stop(self) -> None:
        """End it as a platform does, and return when it has ended."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(_STOP_SECONDS)

    def connections(self) -> int:
        """Return how many sockets it has, which others than its callers need few of."""
        assert self._process is not None
        count = 0
        for entry in Path(f"/proc/{self._process.pid}/fd").iterdir():
            with suppress(OSError):
                count += str(entry.readlink()).startswith("socket:")
        return count

    def kill(self) -> None:
        """End it and its workers, whatever they do."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


type StartTwo = Callable[..., list[Instance]]


@pytest.fixture
def start_two(environment: dict[str, str], tmp_path: Path) -> Iterator[StartTwo]:
    """Start two instances, with options of the server and settings."""
    made: list[Instance] = []

    def start(*options: str, **settings: str) -> list[Instance]:
        for _ in range(2):
            made.append(Instance(environment | settings, tmp_path, *options))
            made[-1].start()
        return made

    yield start
    for instance in made:
        instance.kill()
