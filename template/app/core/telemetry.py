"""Traces and metrics by OpenTelemetry: where they go, and what FastAPI records of a request.

The variables are OpenTelemetry's own, such as ``OTEL_EXPORTER_OTLP_ENDPOINT``, and METRICS_PORT for
Prometheus. Without them nothing is recorded, and the SDK is not even imported.
"""

import logging
import os
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from dotenv import dotenv_values
from fastapi.telemetry import TelemetryConfig
from opentelemetry.trace import ProxyTracerProvider, get_tracer_provider

from app.core.request_log import PROBES
from app.core.settings import ServerSettings

logger = logging.getLogger(__name__)


def telemetry_config(settings: ServerSettings) -> TelemetryConfig:
    """Return what FastAPI records; what is off costs a request nothing.

    Its logs would have what users entered in them, and a span for each dependency costs more than
    the dependency.
    """
    _export_dotenv(settings)
    own = _has_own_sdk()
    return {
        "tracing": own or exports("TRACES"),
        "metrics": own or exports("METRICS") or settings.metrics_port is not None,
        "logs": False,
        "operation_spans": False,
        "auto_configure": False,
        "exclude": _is_probe,
    }


def exports(signal: str) -> bool:
    """Whether TRACES or METRICS are sent to a collector."""
    return _is_wanted(signal) and not _obstacle(signal)


def _is_wanted(signal: str) -> bool:
    exporters = os.environ.get(f"OTEL_{signal}_EXPORTER") or "otlp"
    is_on = not _is_disabled() and "otlp" in exporters.split(",")
    return is_on and bool(_otlp(signal, "ENDPOINT"))


def _is_disabled() -> bool:
    return os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"


def _otlp(signal: str, name: str) -> str | None:
    """Return a variable of the exporter: that of the signal, else that of all."""
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_{name}")
    return own or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}")


def _obstacle(signal: str) -> str | None:
    """Return what is wrong with the variables; a platform may have set them for other services."""
    endpoint, protocol = _otlp(signal, "ENDPOINT"), _otlp(signal, "PROTOCOL")
    if protocol not in {None, "http/protobuf"}:
        return f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}, not http/protobuf"
    if endpoint and not endpoint.startswith(("http://", "https://")):
        return "OTEL_EXPORTER_OTLP_ENDPOINT is no http:// or https:// URL"
    return None


@asynccontextmanager
async def telemetry(settings: ServerSettings) -> AsyncIterator[None]:
    """Record and export, as long as the application runs, what the environment asks for.

    Raises:
        SystemExit: METRICS_PORT cannot be listened on, or would have nothing to say.
    """
    for signal in ("TRACES", "METRICS"):
        if _is_wanted(signal) and (obstacle := _obstacle(signal)):
            logger.warning("%s are not exported: %s", signal.capitalize(), obstacle)
    if settings.metrics_port is not None and _is_disabled():
        raise SystemExit(
            "The service cannot start: METRICS_PORT needs OpenTelemetry's SDK. Unset "
            "OTEL_SDK_DISABLED, or METRICS_PORT; OTEL_TRACES_EXPORTER=none and "
            "OTEL_METRICS_EXPORTER=none keep the service from a collector."
        )
    is_off = not exports("TRACES") and not exports("METRICS") and settings.metrics_port is None
    if is_off or _has_own_sdk():
        if settings.metrics_port is not None:
            logger.warning("METRICS_PORT is not served, because the service has an SDK of its own")
        yield
        return
    # It takes a third of a second.
    from app.core.telemetry_export import exporting

    with exporting(settings, traces=exports("TRACES"), metrics=exports("METRICS")):
        yield


def _has_own_sdk() -> bool:
    """Whether the service has set up an SDK of its own, which is left as it is."""
    return not isinstance(get_tracer_provider(), ProxyTracerProvider)


def _export_dotenv(settings: ServerSettings) -> None:
    # The SDK knows the environment only.
    if file := settings.model_config.get("env_file"):
        for name, value in dotenv_values(str(file)).items():
            if name.startswith("OTEL_") and value:
                os.environ.setdefault(name, value)


def _is_probe(scope: MutableMapping[str, Any]) -> bool:
    """Whether a platform asks how the service is: ``app.ready`` tells, and users wait for none."""
    # Where a proxy removes a prefix, the server's path has it again.
    return scope["path"].removeprefix(scope.get("root_path", "")) in PROBES
