"""Prometheus reads the metrics of a rendered service on a port of their own."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.database.servers import Postgres
from tests.debian import Program
from tests.monitoring.conftest import Provider, RunService, Service, running_prometheus
from tests.processes import wait_until
from tests.projects import REPOSITORY


@pytest.fixture(scope="module")
def service(run_service: RunService) -> Service:
    return run_service(DATABASE_POOL_SIZE="2", DATABASE_POOL_TIMEOUT="3")


def value(service: Service, series: str) -> float | None:
    """Return the value of a series: the metric, with its labels in their alphabetical order."""
    found = re.search(rf"^{re.escape(series)} (.+)$", service.metrics(), re.MULTILINE)
    return float(found[1]) if found else None


def test_prometheus_reads_what_requests_did(
    service: Service, provider: Provider, prometheus_package: Program, tmp_path: Path
) -> None:
    headers = {"Authorization": f"Bearer {provider.token()}"}
    for _ in range(2):
        assert service.http.get("/api/v1/user/me", headers=headers).status_code == 200
    assert service.http.get("/nowhere/at/all").status_code == 404
    assert service.http.get("/items/1/bug").status_code == 500
    with running_prometheus(prometheus_package, tmp_path, service) as prometheus:
        prometheus.wait_for("app_server_errors_total == 1")
        count = "http_server_request_duration_seconds_count"
        found = {
            (it.get("http_route"), it["http_response_status_code"]): value
            for it, value in prometheus.query(count)
        }
        # A path that leads nowhere becomes no label, and those who ask how the service is no count.
        assert found == {
            ("/api/v1/user/me", "200"): 2,
            (None, "404"): 1,
            ("/items/{number}/bug", "500"): 1,
        }
        assert prometheus.query('app_server_errors_total{error_type="bug"} == 1')
        assert prometheus.query("app_ready == 1")
        assert prometheus.query("sso_breaker_state == 0")
        assert prometheus.query('sso_token_cache_lookups_total{result="hit"} == 1')


def test_nothing_is_told_on_the_port_of_the_api_nor_on_another_host(service: Service) -> None:
    assert service.http.get("/metrics").status_code == 404
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"http://127.0.0.2:{service.metrics_port}/metrics", trust_env=False)


def test_metrics_are_served_while_the_pool_is_used_up(service: Service) -> None:
    primary = 'db_client_connection_pool_name="primary"'
    with ThreadPoolExecutor(5) as threads:
        calls = [threads.submit(service.http.get, "/sleep?seconds=5") for _ in range(5)]
        waiting = f"db_client_connection_pending_requests{{{primary}}}"
        wait_until(lambda: value(service, waiting) == 3, 10, service.metrics)
        used = f'db_client_connection_count{{{primary},db_client_connection_state="used"}}'
        assert value(service, used) == value(service, f"db_client_connection_max{{{primary}}}") == 2
        # Busy is no reason to take it out.
        assert value(service, "app_ready") == 1
        assert sorted(it.result().status_code for it in calls) == [200, 200, 503, 503, 503]
    assert value(service, waiting) == 0
    assert value(service, f"db_client_connection_timeouts_total{{{primary}}}") == 3


def test_errors_of_the_database_are_told_apart(service: Service, database: Postgres) -> None:
    for state, status in [("53300", 503), ("23505", 409), ("57014", 504)]:
        assert service.http.get(f"/error?state={state}").status_code == status
        assert (
            value(service, f'app_database_errors_total{{db_response_status_code="{state}"}}') == 1
        )
    cause = 'error_type="{}",http_response_status_code="{}"'
    timeout = cause.format("gateway-timeout", 504)
    assert value(service, f"app_server_errors_total{{{timeout}}}") == 1
    database.end()
    try:
        wait_until(lambda: value(service, "app_ready") == 0, 20, service.metrics)
        assert service.http.get("/sleep?seconds=0").status_code == 503
    finally:
        database.start()
    refused = 'app_database_errors_total{db_response_status_code="ConnectionRefusedError"}'
    assert (value(service, refused) or 0) > 0
    wait_until(lambda: value(service, "app_ready") == 1, 20, service.metrics)


def test_a_provider_that_is_down_is_told(service: Service, provider: Provider) -> None:
    token = provider.token()
    provider.kill()
    try:
        for number in range(6):
            headers = {"Authorization": f"Bearer {token}{number}"}
            assert service.http.get("/api/v1/user/me", headers=headers).status_code == 503
        assert value(service, "sso_breaker_state") == 2
        cause = 'error_type="sso-unavailable",http_response_status_code="503"'
        assert value(service, f"app_server_errors_total{{{cause}}}") == 6
    finally:
        provider.start()


def test_the_page_has_the_names_that_prometheus_sees(service: Service) -> None:
    page = (REPOSITORY / "docs" / "telemetry.md").read_text("utf-8")
    listed = set(re.findall(r"^\| `[\w.]+` \| .+? \| `(\w+)` \|", page, re.MULTILINE))
    served = set(re.findall(r"^# TYPE (\w+)", service.metrics(), re.MULTILINE))
    own = {it for it in served if not it.startswith(("process_", "python_", "target_"))}
    # No token has been refused.
    assert own == listed - {"sso_token_refusals_total"}
