"""Traces and metrics of the running service, as a collector receives them."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from opentelemetry.trace import (
    NonRecordingSpan,
    NoOpTracerProvider,
    SpanContext,
    TraceFlags,
    use_span,
)
from sqlalchemy import URL

from app.core.project import NAME, VERSION
from app.core.settings import ServerSettings
from app.core.telemetry import telemetry, telemetry_config
from app.settings import Settings
from app.utils.sso.resource_server.provider_client import ProviderClient
from template_tools.configuration import PROJECT_ROOT
from template_tools.processes import accepts_connections, free_port, wait_until
from tests.service.collector import Collector, attributes, collecting
from tests.service.provider import Faults, RunningProvider

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
# More than the end of a process takes, and less than an exporter of OpenTelemetry waits by itself.
SOON = 25
PROGRAM = """\
import sys
import app.server, app.main
from app.core.openapi import PUBLIC

@app.main.app.get("/items/{number}/bug", openapi_extra=PUBLIC)
async def bug(number: int) -> int:
    return number // 0

@app.main.app.get("/modules", openapi_extra=PUBLIC)
async def modules() -> list[str]:
    return [it for it in sys.modules if it.startswith(("opentelemetry.sdk", "google", "prom"))]

if __name__ == "__main__":
    app.server.main()
"""


@dataclass
class Service:
    """A service that runs, and is ended by SIGTERM."""

    http: httpx2.Client
    process: subprocess.Popen[bytes]
    log: Path

    def stop(self) -> None:
        """Have it export what is left."""
        self.process.terminate()
        assert self.process.wait(SOON) == -signal.SIGTERM, self.log.read_text()

    def lines(self, logger: str) -> list[dict[str, object]]:
        """Return what a logger, or those below it, has written."""
        lines: list[dict[str, object]] = [
            json.loads(line) for line in self.log.read_text("utf-8").splitlines()
        ]
        return [it for it in lines if f"{it['logger']}.".startswith(f"{logger}.")]


@pytest.fixture
def variables(settings: Settings, database_url: URL, provider: RunningProvider) -> dict[str, str]:
    return {
        "DATABASE_URL": database_url.render_as_string(hide_password=False),
        "ENVIRONMENT": "test",
        "SSO_ISSUER": settings.sso_issuer,
        "SSO_AUDIENCE": settings.sso_audience,
        "CLIENT_ID": settings.client_id,
        "CLIENT_SECRET": provider.config.client_secret,
        "LOG_FORMAT": "json",
        "PYTHONPATH": str(PROJECT_ROOT),
    }


@contextmanager
def serving(folder: Path, variables: dict[str, str]) -> Iterator[Service]:
    log, port = folder / "log", free_port()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "--port", str(port)],
            cwd=folder,
            env=os.environ | variables,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: accepts_connections(port), process, "The service")
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield Service(client, process, log)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture
def exporting(variables: dict[str, str], collector: Collector) -> dict[str, str]:
    return variables | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}


def test_a_request_is_a_span_with_the_id_that_is_in_its_line_of_the_log(
    tmp_path: Path, variables: dict[str, str], collector: Collector, provider: RunningProvider
) -> None:
    # Where a developer writes it.
    (tmp_path / ".env").write_text(f"OTEL_EXPORTER_OTLP_ENDPOINT={collector.endpoint}\n")
    often = {"ENVIRONMENT": "development", "OTEL_METRIC_EXPORT_INTERVAL": "200"}
    token = {"Authorization": f"Bearer {provider.mint()}"}
    with serving(tmp_path, variables | often) as service:
        wait_until(lambda: "app.ready" in collector.metrics, service.process, "The collector")
        # They have a value before anything happens.
        assert collector.points("app.ready") == [({}, 1)]
        assert collector.points("sso.breaker.state") == [({}, 0)]
        used = collector.points("db.client.connection.count")
        assert {str(it["db.client.connection.state"]) for it, _ in used} == {"idle", "used"}
        service.http.get("/api/v1/user/me", headers=token | TRACEPARENT)
        service.http.get("/api/v1/user/?limit=0", headers=token)
        service.http.get("/items/7/bug")
        service.http.get("/no/such/path")
        service.http.get("/livez")
        service.stop()
        lines = service.lines("app.request")
    spans = sorted(collector.spans, key=lambda it: it.start_time_unix_nano)
    assert [(it.name, attributes(it.attributes)["http.response.status_code"]) for it in spans] == [
        ("GET /api/v1/user/me", 200),
        ("GET /api/v1/user/", 403),
        ("GET /items/{number}/bug", 500),
        ("GET", 404),
    ]
    assert [it.trace_id.hex() for it in spans] == [it["trace_id"] for it in lines]
    assert (spans[0].trace_id.hex(), spans[0].parent_span_id.hex()) == (TRACE, PARENT)
    assert len({it.trace_id for it in spans}) == 4
    for resource in collector.resources:
        about = attributes(resource.attributes)
        assert (about["service.name"], about["service.version"]) == (NAME, VERSION)
        assert about["service.instance.id"]


def test_metrics_say_what_went_wrong_whatever_is_sampled(
    tmp_path: Path, exporting: dict[str, str], collector: Collector, provider: RunningProvider
) -> None:
    chosen = {
        "DATABASE_URL": f"postgresql://app:secret@127.0.0.1:{free_port()}/app",
        "OTEL_SERVICE_NAME": "orders",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0",
    }
    with serving(tmp_path, exporting | chosen) as service:
        token = {"Authorization": f"Bearer {provider.mint()}"}
        assert service.http.get("/api/v1/user/me", headers=token).status_code == 503
        provider.faults = Faults(status=500)
        other = {"Authorization": f"Bearer {provider.mint()}"}
        assert service.http.get("/api/v1/user/me", headers=other).status_code == 503
        # Its caller has decided that it is sampled.
        assert service.http.get("/items/7/bug", headers=TRACEPARENT).status_code == 500
        assert service.http.get("/readyz").status_code == 503
        service.stop()
        lines = service.lines("app.request")
    assert sorted(
        (str(it["error.type"]), it["http.response.status_code"], count)
        for it, count in collector.points("app.server_errors")
    ) == [("bug", 500, 1), ("database-unavailable", 503, 1), ("sso-unavailable", 503, 1)]
    errors = collector.points("app.database.errors")
    assert [it for it, _ in errors] == [{"db.response.status_code": "ConnectionRefusedError"}]
    calls = collector.points("sso.introspection.duration")
    assert {it["outcome"] for it, _ in calls} == {"active", "troubled"}
    requests = collector.points("http.server.request.duration")
    assert {it["http.route"]: it["http.response.status_code"] for it, _ in requests} == {
        "/api/v1/user/me": 503,
        "/items/{number}/bug": 500,
    }
    assert [it.trace_id.hex() for it in collector.spans] == [TRACE]
    assert all(re.fullmatch("[0-9a-f]{32}", str(it["trace_id"])) for it in lines[:3])
    about = attributes(collector.resources[0].attributes)
    assert (about["service.name"], about["deployment.environment"]) == ("orders", "test")


def test_without_an_endpoint_nothing_of_the_sdk_is_imported(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    with serving(tmp_path, variables) as service:
        assert service.http.get("/modules", headers=TRACEPARENT).json() == []
        service.stop()
        assert [it["trace_id"] for it in service.lines("app.request")] == [TRACE]


def test_a_collector_that_does_not_answer_holds_nothing(
    tmp_path: Path, exporting: dict[str, str], collector: Collector
) -> None:
    often = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "0.2",
        "OTEL_BSP_SCHEDULE_DELAY": "20",
        "OTEL_METRIC_EXPORT_INTERVAL": "20",
        # An end that waited for it would not be over in time.
        "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "120",
    }
    collector.answers.clear()
    with serving(tmp_path, exporting | often) as service:
        wait_until(lambda: collector.waiting, service.process, "The metrics")
        for _ in range(100):
            assert service.http.get("/items/7/bug").status_code == 500
        wait_until(lambda: bool(service.lines("opentelemetry")), service.process, "The exporter")
        for _ in range(100):
            assert service.http.get("/items/7/bug").status_code == 500
        service.stop()
        said = [str(it["message"]) for it in service.lines("opentelemetry")]
    assert len(said) == len({re.sub("[0-9.]+", "", it) for it in said}), said


@pytest.mark.parametrize(
    ("variables", "traces", "metrics"),
    [
        ({}, False, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, True, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c"}, True, False),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c"}, False, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, False, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}, False, False),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "otlp,console"},
            True,
            True,
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            False,
            False,
        ),
        ({"METRICS_PORT": "9464"}, False, True),
    ],
)
def test_what_is_recorded_is_what_the_environment_asks_for(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], traces: bool, metrics: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    config = telemetry_config(ServerSettings())
    assert (config["tracing"], config["metrics"]) == (traces, metrics)
    assert not any((config["logs"], config["operation_spans"], config["auto_configure"]))


@pytest.mark.parametrize("root_path", ["", "/orders"])
def test_probes_are_not_recorded_wherever_the_service_is(root_path: str) -> None:
    is_left_out = telemetry_config(ServerSettings())["exclude"]
    assert is_left_out is not None
    for path, expected in (("/livez", True), ("/readyz", True), ("/api/v1/user/me", False)):
        assert is_left_out({"path": root_path + path, "root_path": root_path}) is expected


async def test_a_port_for_metrics_needs_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prometheus would find a service without readiness, and wake somebody."""
    monkeypatch.setenv("METRICS_PORT", str(free_port()))
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with pytest.raises(SystemExit, match="METRICS_PORT needs OpenTelemetry's SDK"):
        async with telemetry(ServerSettings()):
            pass


async def test_variables_that_nobody_wants_followed_are_not_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    async with telemetry(ServerSettings()):
        pass
    assert caplog.messages == []


async def test_variables_that_cannot_be_followed_are_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "user:secret@c:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://c:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc")
    async with telemetry(ServerSettings()):
        pass
    assert caplog.messages == [
        "Traces are not exported: OTEL_EXPORTER_OTLP_ENDPOINT is no http:// or https:// URL",
        "Metrics are not exported: OTEL_EXPORTER_OTLP_PROTOCOL is grpc, not http/protobuf",
    ]


async def test_an_sdk_of_the_service_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("app.core.telemetry.get_tracer_provider", NoOpTracerProvider)
    assert telemetry_config(ServerSettings())["tracing"]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "app.core.telemetry_export", None)
    async with telemetry(ServerSettings()):
        pass
    assert caplog.messages == []
    monkeypatch.setenv("METRICS_PORT", str(free_port()))
    async with telemetry(ServerSettings()):
        pass
    assert caplog.messages == [
        "METRICS_PORT is not served, because the service has an SDK of its own"
    ]


@pytest.mark.parametrize("start", ["workers", "taken"])
def test_a_port_for_metrics_belongs_to_one_process(
    tmp_path: Path, variables: dict[str, str], collector: Collector, start: str
) -> None:
    port = collector.endpoint.rpartition(":")[2]
    workers = "2" if start == "workers" else "1"
    done = subprocess.run(
        [sys.executable, "-m", "app.server", "--port", str(free_port())],
        cwd=tmp_path,
        env=os.environ | variables | {"METRICS_PORT": port, "WEB_CONCURRENCY": workers},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    assert "The service cannot start: METRICS_PORT" in done.stdout + done.stderr


class _Echo(httpx2.AsyncBaseTransport):
    """Answers with the headers of the request."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        content = json.dumps(dict(request.headers)).encode()
        return httpx2.Response(200, stream=httpx2.ByteStream(content))


async def test_the_provider_is_told_the_trace() -> None:
    async with httpx2.AsyncClient(transport=_Echo()) as client:
        provider = ProviderClient(client, deadline_seconds=5)
        request = provider.prepare_post("http://provider.test/introspect", {})
        without = json.loads((await provider.post(request, {"token": "x"})).body)
        context = SpanContext(int(TRACE, 16), int(PARENT, 16), False, TraceFlags(1))
        with use_span(NonRecordingSpan(context)):
            found = json.loads((await provider.post(request, {"token": "x"})).body)
    assert "traceparent" not in without
    assert found == without | TRACEPARENT
