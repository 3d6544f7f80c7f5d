"""A collector of OpenTelemetry's, which decodes what it is sent with the official messages."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import override

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

type Attributes = dict[str, str | int]


class Collector:
    """What has been received until now."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.spans: list[Span] = []
        # In their last state, by name.
        self.metrics: dict[str, Metric] = {}
        self.resources: list[Resource] = []
        self.endpoint = ""
        # Cleared, it leaves those without an answer that send something.
        self.answers = threading.Event()
        self.answers.set()
        # Whether somebody waits for one.
        self.waiting = False

    def receive(self, path: str, body: bytes) -> None:
        """Take a request."""
        self.bodies.append(body)
        if path == "/v1/traces":
            for trace in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(trace.resource)
                self.spans += [it for scope in trace.scope_spans for it in scope.spans]
        elif path == "/v1/metrics":
            for found in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.resources.append(found.resource)
                self.metrics |= {
                    it.name: it for scope in found.scope_metrics for it in scope.metrics
                }

    def points(self, name: str) -> list[tuple[Attributes, float]]:
        """Return the attributes and the value, or the count, of each point of a metric."""
        metric = self.metrics[name]
        if metric.HasField("histogram"):
            points = metric.histogram.data_points
            return [(attributes(it.attributes), it.count) for it in points]
        numbers = metric.sum.data_points if metric.HasField("sum") else metric.gauge.data_points
        return [(attributes(it.attributes), it.as_int or it.as_double) for it in numbers]


def attributes(pairs: Iterator[KeyValue] | list[KeyValue]) -> Attributes:
    """Return attributes as a dictionary."""
    return {it.key: it.value.int_value or it.value.string_value for it in pairs}


@contextmanager
def collecting() -> Iterator[Collector]:
    """Listen on a port of this machine."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.waiting = True
            collector.answers.wait()
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            collector.receive(self.path, body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        @override
        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    collector.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield collector
    finally:
        collector.answers.set()
        server.shutdown()
        server.server_close()
        thread.join()
