"""The alerts of a rendered project in a real Prometheus, while a real service fails.

All durations in the rules are a sixtieth of what they are in the file: minutes are seconds.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Thread

import httpx2
import pytest

from tests.database.servers import Machine, Postgres
from tests.debian import Program
from tests.monitoring.conftest import (
    Prometheus,
    Provider,
    RunService,
    Service,
    running_prometheus,
)
from tests.monitoring.prometheus import ALERTS, alerts, metrics, queries, shortened
from tests.monitoring.test_runbook import RUNBOOK
from tests.processes import wait_until
from tests.projects import Projects

_FACTOR = 60
_SECONDS = 30
_ME = "/api/v1/user/me"


@dataclass(frozen=True)
class Monitored:
    """A service with requests, and the Prometheus that reads it."""

    service: Service
    prometheus: Prometheus

    def authenticate(self, provider: Provider) -> None:
        """Call with a new token from here on."""
        self.service.http.headers["Authorization"] = f"Bearer {provider.token()}"

    def wait_for_one(self, name: str) -> None:
        """Return when an alert fires, whatever others do."""
        alerts = self.prometheus.alerts
        wait_until(lambda: alerts().get(name) == "firing", _SECONDS, alerts)

    def wait_for(self, *names: str) -> None:
        """Return when these alerts fire, and no others."""

        def fire() -> bool:
            firing = {it for it, state in self.prometheus.alerts().items() if state == "firing"}
            return firing == {*names}

        wait_until(fire, _SECONDS, lambda: (names, self.prometheus.alerts()))

    @contextmanager
    def calls(self, path: str, at_once: int = 1, pause: float = 0.02) -> Iterator[None]:
        """Send requests, one after the other in each of some threads."""
        ends = Event()

        def call() -> None:
            while not ends.wait(pause):
                with suppress(httpx2.TransportError):
                    self.service.http.get(path)

        threads = [Thread(target=call) for _ in range(at_once)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ends.set()
            for thread in threads:
                thread.join()


@pytest.fixture(scope="module")
def monitored(
    projects: Projects,
    run_service: RunService,
    provider: Provider,
    prometheus_package: Program,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Monitored]:
    # Each request asks the provider.
    service = run_service(DATABASE_POOL_SIZE="2", TOKEN_CACHE_SECONDS="0")
    folder = tmp_path_factory.mktemp("prometheus")
    rules = folder / "alerts.yaml"
    text = (projects.rendered({}) / ALERTS).read_text("utf-8")
    rules.write_text(shortened(text, _FACTOR), "utf-8")
    with running_prometheus(prometheus_package, folder, service, rules=rules) as prometheus:
        monitored = Monitored(service, prometheus)
        monitored.authenticate(provider)
        with monitored.calls(_ME):
            prometheus.wait_for("sum(increase(http_server_request_duration_seconds_count[2s])) > 5")
            yield monitored


def test_none_fires_while_all_is_well(monitored: Monitored) -> None:
    monitored.wait_for()


def test_a_provider_that_is_down(monitored: Monitored, provider: Provider) -> None:
    provider.stop()
    monitored.wait_for("IdentityProviderDown", "RequestsFailing")
    provider.start()
    # It has forgotten the tokens that it gave out.
    monitored.authenticate(provider)
    monitored.wait_for()


@pytest.mark.long
def test_one_route_with_a_bug(monitored: Monitored) -> None:
    with monitored.calls("/items/1/bug", pause=0.8):
        monitored.wait_for("RouteFailing")
    [(labels, _)] = monitored.prometheus.query('ALERTS{alertname="RouteFailing"}')
    assert labels["http_route"] == "/items/{number}/bug"


def test_requests_that_wait_for_a_connection(monitored: Monitored) -> None:
    with monitored.calls("/sleep?seconds=1.5", at_once=8):
        monitored.wait_for_one("DatabasePoolExhausted")


def test_a_database_without_a_connection_left(monitored: Monitored) -> None:
    with monitored.calls("/error?state=53300", pause=0.3):
        monitored.wait_for_one("DatabaseOutOfResources")


def test_a_database_that_is_down(monitored: Monitored, database: Postgres) -> None:
    database.end()
    monitored.wait_for("MostReplicasNotReady", "RequestsFailing")
    database.start()
    monitored.wait_for()


def test_each_query_of_the_dashboard_has_found_something(
    monitored: Monitored, projects: Projects
) -> None:
    monitored.service.http.get(_ME, headers={"Authorization": "Bearer nonsense"})
    for panel, query in queries(projects.rendered({}), "60s").items():
        assert monitored.prometheus.query(query), (panel, query)


def test_each_metric_of_the_alerts_exists(monitored: Monitored, projects: Projects) -> None:
    # These are Kubernetes' and Prometheus' own.
    foreign = {"kube_job_failed", "ALERTS"}
    for alert in alerts(projects.rendered({})):
        for name in metrics(alert.expression) - foreign:
            assert monitored.prometheus.query(name), (alert.name, name)


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        ("sso-unavailable", "The identity provider does not answer as it should: "),
        ("sso-unavailable", "The identity provider has recovered"),
        ("database-unavailable", "Cannot connect to the database: "),
        ("database-unavailable", "The database can be reached again"),
        ("database-unavailable", "Database error answered with 503: TimeoutError"),
        ("database-unavailable", "Database error answered with 503: DBAPIError 53300"),
    ],
)
def test_the_log_has_what_the_runbook_looks_for(
    monitored: Monitored, problem: str, line: str
) -> None:
    """The line of each request names the problem, and another one the cause."""
    lines = monitored.service.lines()
    failed = [it for it in lines if it["logger"] == "app.request" and it["status"] == 503]
    assert failed
    assert all("problem" in it for it in failed)
    assert problem in {it["problem"] for it in failed}
    assert any(str(it["message"]).startswith(line) for it in lines)


def test_the_statements_of_the_runbook_run(machine: Machine, database: Postgres) -> None:
    for statement in re.findall(r"(?s)```sql\n(.*?)```", RUNBOOK):
        machine.run("psql", "-v", "ON_ERROR_STOP=1", "-c", statement, database.url)


@pytest.mark.long
def test_a_start_of_a_replica_is_seen(monitored: Monitored) -> None:
    """Several starts within the window take longer than it does here."""
    monitored.service.kill()
    monitored.service.start()
    monitored.prometheus.wait_for("changes(process_start_time_seconds[60s]) == 1")


@pytest.mark.long
def test_a_replica_that_is_gone(monitored: Monitored) -> None:
    monitored.service.kill()
    monitored.wait_for_one("MostReplicasNotReady")
