"""The servers that the tests of this folder share, and a service before them."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
import pytest

from tests.database.servers import Machine, Postgres, open_machine
from tests.identity_providers.serving import served
from tests.processes import free_ports
from tests.projects import Projects

_SERVICE = Path(__file__).parents[1] / "rendered" / "database.py"


@pytest.fixture(scope="module")
def machine(projects: Projects) -> Iterator[Machine]:
    with open_machine(projects) as machine:
        yield machine


@pytest.fixture(scope="module")
def primary(machine: Machine) -> Iterator[Postgres]:
    """A server with an empty table."""
    server = Postgres(machine, "primary")
    server.start()
    server.sql("CREATE TABLE item (id serial PRIMARY KEY, name text NOT NULL)")
    yield server
    server.end()


@dataclass(frozen=True)
class Service:
    """A running service, and what it logs."""

    http: httpx2.Client
    log: Path

    def said(self) -> str:
        """Return what was logged until now."""
        return self.log.read_text("utf-8")

    @contextmanager
    def under_load(self, callers: int) -> Iterator[Counter[int]]:
        """Read without a pause in so many threads; at the end, the statuses are counted."""
        over, seen = threading.Event(), Counter[int]()

        def call(_: int) -> list[int]:
            statuses = []
            while not over.is_set():
                statuses.append(self.http.get("/items").status_code)
            return statuses

        with ThreadPoolExecutor(callers) as threads:
            calls = [threads.submit(call, number) for number in range(callers)]
            try:
                yield seen
            finally:
                # The threads are waited for: they must end where the block fails, too.
                over.set()
            for done in calls:
                seen.update(done.result())


type Run = Callable[..., Service]


@pytest.fixture(scope="module")
def run(projects: Projects) -> Iterator[Run]:
    """Start a service of a rendered project with some settings."""
    with ExitStack() as stack:

        def start(url: str, **settings: str) -> Service:
            folder = Path(stack.enter_context(TemporaryDirectory()))
            [port] = free_ports(1)
            environment = projects.environment() | {
                "DATABASE_URL": url,
                "PYTHONPATH": str(projects.rendered({})),
                "PYTHONDONTWRITEBYTECODE": "1",
            }
            python = Path(environment["UV_PROJECT_ENVIRONMENT"]) / "bin" / "python"
            base = f"http://127.0.0.1:{port}"
            stack.enter_context(
                served(
                    *(python, _SERVICE, str(port)),
                    folder=folder,
                    env=environment | settings,
                    until=f"{base}/ready",
                )
            )
            http = httpx2.Client(base_url=base, trust_env=False, timeout=15)
            return Service(stack.enter_context(http), folder / "server.log")

        yield start
