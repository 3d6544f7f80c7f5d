"""Prometheus reads the metrics of a rendered service on a port of their own."""

from pathlib import Path

import httpx2
import pytest

from tests.debian import Program
from tests.monitoring.conftest import Provider, RunService, running_prometheus


def test_prometheus_reads_what_requests_did(
    run_service: RunService, provider: Provider, prometheus_package: Program, tmp_path: Path
) -> None:
    service = run_service()
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
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"http://127.0.0.2:{service.metrics_port}/metrics", trust_env=False)
    assert service.http.get("/metrics").status_code == 404
