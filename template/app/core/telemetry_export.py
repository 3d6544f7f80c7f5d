"""OpenTelemetry's SDK: it is imported, and runs, only where telemetry is on."""

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Thread
from typing import override
from uuid import uuid4

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import set_tracer_provider
from prometheus_client import start_http_server

from app.core.draining import running_server
from app.core.project import NAME, VERSION
from app.core.settings import ServerSettings

# A collector that does not answer holds the end of the process for no longer.
_FLUSH_SECONDS = 3
_REPEATED_SECONDS = 60
_EXPORTERS = "opentelemetry.exporter.otlp.proto.http"


@contextmanager
def exporting(settings: ServerSettings, *, traces: bool, metrics: bool) -> Iterator[None]:
    """Set up the SDK, and at the end export what it still holds.

    Raises:
        SystemExit: METRICS_PORT cannot be listened on.
    """
    for name in ("metric_exporter", "trace_exporter"):
        logging.getLogger(f"{_EXPORTERS}.{name}").addFilter(_OnceAMinute())
    logging.getLogger("opentelemetry.util.re").addFilter(_without_value)
    resource = _resource()
    providers: list[TracerProvider | MeterProvider] = []
    with ExitStack() as stack:
        stack.callback(_shut_down, providers)
        if traces:
            tracer_provider = TracerProvider(resource=resource, shutdown_on_exit=False)
            tracer_provider.add_span_processor(_WithoutCallersData())
            tracer_provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
            set_tracer_provider(tracer_provider)
            providers.append(tracer_provider)
        readers: list[MetricReader] = []
        if metrics:
            readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
        if settings.metrics_port is not None:
            readers.append(PrometheusMetricReader(scope_info_enabled=False))
            stack.enter_context(_serving(settings.metrics_port))
        if readers:
            meter_provider = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
            set_meter_provider(meter_provider)
            providers.append(meter_provider)
        yield


def _resource() -> Resource:
    """Return what is exporting; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have precedence."""
    own = {
        "service.name": NAME,
        "service.version": VERSION,
        # The counters of two processes must not be taken for one that jumps.
        "service.instance.id": str(uuid4()),
    }
    return Resource.create(own | dict(OTELResourceDetector().detect().attributes))


@contextmanager
def _serving(port: int) -> Iterator[None]:
    """Serve the metrics where the API is served, in a thread that no request can hold up."""
    api = running_server()
    try:
        server, _ = start_http_server(port, api.config.host if api else "127.0.0.1")
    except OSError as error:
        raise SystemExit(
            f"The service cannot start: METRICS_PORT {port} cannot be listened on "
            f"({error.strerror}). Each process needs a port of its own, so run one worker."
        ) from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def _shut_down(providers: list[TracerProvider | MeterProvider]) -> None:
    """Export what is left. The SDK itself would wait for a collector for half a minute."""
    ends_at = time.monotonic() + _FLUSH_SECONDS
    threads = [Thread(target=it.shutdown, daemon=True) for it in providers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0, ends_at - time.monotonic()))


class _WithoutCallersData(SpanProcessor):
    """Hides the path and the query of a request, as the log does; ``http.route`` names the route.

    Both may have a secret in them.
    """

    @override
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        for name in ("url.path", "url.query"):
            if name in (span.attributes or ()):
                span.set_attribute(name, "REDACTED")


def _without_value(record: logging.LogRecord) -> bool:
    """Hide a part of OTEL_EXPORTER_OTLP_HEADERS that cannot be read: it may be a secret."""
    record.args = ("***",)
    return True


class _OnceAMinute(logging.Filter):
    """Lets each message pass once a minute: a collector may be down for long."""

    def __init__(self) -> None:
        super().__init__()
        self._next: dict[str, float] = {}

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now < self._next.get(record.msg, 0):
            return False
        self._next[record.msg] = now + _REPEATED_SECONDS
        return True
