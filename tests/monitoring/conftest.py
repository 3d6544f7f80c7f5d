"""A rendered service with its database and its identity provider, and a Prometheus that reads it.

Prometheus is Debian's. Where it cannot be installed its tests are skipped, unless
REQUIRE_PROMETHEUS is set.
"""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
import yaml

from tests.database.servers import Machine, Postgres, open_machine
from tests.debian import Program, find_or_skip
from tests.processes import free_ports, wait_until
from tests.projects import Projects, succeed

_PROGRAM = Path(__file__).parents[1] / "rendered" / "monitored.py"
_START_SECONDS = 60
_STOP_SECONDS = 45
_AUDIENCE = "my-service"
_SECRET = "a-secret-of-the-tests-0123456789"


class Process:
    """A program that is started, and ended as a platform does it."""

    def __init__(
        self, command: Sequence[str | Path], folder: Path, env: Mapping[str, str], url: str
    ) -> None:
        self._command, self._folder, self._env, self._url = command, folder, env, url
        self.log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run it, and return when its URL answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._answers, _START_SECONDS, self.said)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.said()
        with suppress(httpx2.TransportError):
            return httpx2.get(self._url, trust_env=False).status_code == 200
        return False

    def said(self) -> str:
        """Return what it has written."""
        return self.log.read_text("utf-8")

    def stop(self, seconds: float = _STOP_SECONDS) -> None:
        """End it by SIGTERM, and fail if that takes longer."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(seconds)

    def kill(self) -> None:
        """End it and its workers, whatever they do."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class Provider(Process):
    """The development identity provider, which can be stopped and started again."""

    issuer: str

    def token(self, **claims: object) -> str:
        """Return a new access token."""
        wanted = {"username": "dev", "scope": "openid profile email"} | claims
        url = f"{self.issuer}/dev/tokens"
        response = httpx2.post(url, json=wanted, auth=("app", _SECRET), trust_env=False)
        return str(response.raise_for_status().json()["access_token"])


class Service(Process):
    """A service that serves the API on one port and its metrics on another."""

    http: httpx2.Client
    port: int
    metrics_port: int

    def lines(self) -> list[dict[str, object]]:
        """Return what it has logged."""
        return [json.loads(line) for line in self.said().splitlines()]

    def metrics(self) -> str:
        """Return what Prometheus would read."""
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        return httpx2.get(url, trust_env=False, timeout=10).raise_for_status().text


@pytest.fixture(scope="module")
def machine(projects: Projects) -> Iterator[Machine]:
    with open_machine(projects) as machine:
        yield machine


@pytest.fixture(scope="module")
def database(machine: Machine, projects: Projects) -> Iterator[Postgres]:
    """A database that is migrated; ``end()`` and ``start()`` stop it and start it again."""
    server = Postgres(machine, "server")
    server.start()
    env = projects.environment() | {"DATABASE_URL": server.url}
    succeed(python(env), "-m", "alembic", "upgrade", "head", cwd=projects.rendered({}), env=env)
    yield server
    server.end()


def python(environment: Mapping[str, str]) -> Path:
    """Return the interpreter of the rendered projects."""
    return Path(environment["UV_PROJECT_ENVIRONMENT"]) / "bin" / "python"


@pytest.fixture(scope="module")
def provider(projects: Projects, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    env = projects.environment() | {
        "PYTHONPATH": str(projects.rendered({})),
        "DEV_PROVIDER_AUDIENCE": _AUDIENCE,
        "DEV_PROVIDER_CLIENT_SECRET": _SECRET,
    }
    [port] = free_ports(1)
    issuer = f"http://127.0.0.1:{port}"
    command: list[str | Path] = [python(env), "-m", "template_tools.provider", "--port", str(port)]
    provider = Provider(command, tmp_path_factory.mktemp("provider"), env, f"{issuer}/jwks")
    provider.issuer = issuer
    provider.start()
    yield provider
    provider.kill()


type RunService = Callable[..., Service]


@pytest.fixture(scope="module")
def run_service(
    projects: Projects,
    database: Postgres,
    provider: Provider,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunService]:
    """Start a service with some settings, such as ``DATABASE_POOL_SIZE="2"``."""
    with ExitStack() as stack:

        def run(**settings: str) -> Service:
            port, metrics_port = free_ports(2)
            env = projects.environment() | {
                "PYTHONPATH": str(projects.rendered({})),
                "DATABASE_URL": database.url,
                "ENVIRONMENT": "development",
                "LOG_FORMAT": "json",
                "SSO_ISSUER": provider.issuer,
                "SSO_AUDIENCE": _AUDIENCE,
                "CLIENT_ID": "app",
                "CLIENT_SECRET": _SECRET,
                "METRICS_PORT": str(metrics_port),
            }
            url = f"http://127.0.0.1:{port}"
            service = Service(
                [python(env), _PROGRAM, "--port", str(port)],
                tmp_path_factory.mktemp("service"),
                env | settings,
                f"{url}/livez",
            )
            service.port, service.metrics_port = port, metrics_port
            service.http = stack.enter_context(
                httpx2.Client(base_url=url, trust_env=False, timeout=20)
            )
            stack.callback(service.kill)
            service.start()
            return service

        yield run


@dataclass(frozen=True)
class Prometheus:
    """A server that reads the metrics of services several times a second."""

    url: str
    program: Program

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return the labels and the value of each series of an expression."""
        parameters = {"query": expression}
        answer = httpx2.get(f"{self.url}/api/v1/query", params=parameters, trust_env=False)
        found = answer.raise_for_status().json()["data"]["result"]
        return [(it["metric"], float(it["value"][1])) for it in found]

    def alerts(self) -> dict[str, str]:
        """Return the state of each alert that is not inactive: pending or firing."""
        answer = httpx2.get(f"{self.url}/api/v1/alerts", trust_env=False).raise_for_status()
        return {it["labels"]["alertname"]: it["state"] for it in answer.json()["data"]["alerts"]}

    def wait_for(self, expression: str, seconds: float = 30) -> None:
        """Return when an expression has a value; one with a comparison has none if it is false."""
        wait_until(lambda: bool(self.query(expression)), seconds, lambda: expression)


@pytest.fixture(scope="session")
def prometheus_package(shared_folder: Path) -> Program:
    """The program; ``promtool`` stands beside it."""
    return find_or_skip("usr/bin/prometheus", "prometheus", shared_folder)


@contextmanager
def running_prometheus(
    program: Program, folder: Path, *services: Service, rules: Path | None = None
) -> Iterator[Prometheus]:
    """Read the metrics of services, and evaluate the alerts of a file."""
    [port] = free_ports(1)
    configuration = folder / "prometheus.yml"
    targets = [f"127.0.0.1:{it.metrics_port}" for it in services]
    configuration.write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "250ms", "evaluation_interval": "250ms"},
                "rule_files": [str(rules)] if rules else [],
                "scrape_configs": [
                    {"job_name": "my-service", "static_configs": [{"targets": targets}]}
                ],
            }
        )
    )
    server = Process(
        [
            program.path,
            f"--config.file={configuration}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        folder,
        os.environ | program.env,
        f"http://127.0.0.1:{port}/-/ready",
    )
    try:
        server.start()
        yield Prometheus(f"http://127.0.0.1:{port}", program)
    finally:
        server.kill()
