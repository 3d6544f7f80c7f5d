"""One line in the log for each request, and the id by which its other lines are found."""

import logging
import re
import secrets
import time
from contextvars import ContextVar

from opentelemetry.trace import format_trace_id, get_current_span
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.routing import route_path

logger = logging.getLogger("app.request")

# Where ``introspect_token`` names the caller for the log, in the ASGI scope.
CALLER = "app.caller"
# What the lines of a request have in common, wherever in the service they are written.
REQUEST: ContextVar[dict[str, str]] = ContextVar("request")

# An id from outside is written into each line and sent on.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
# W3C Trace Context, version 00.
_TRACEPARENT = re.compile(rb"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
# Platforms ask for these every second or so, and nobody reads that all is well.
PROBES = {"/health", "/livez", "/readyz"}


class RequestLog:
    """Give each request an id, return it as ``X-Request-ID``, and log how the request ended.

    The line names the route and not the path, whose parameters and query are callers' data.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        found = _ids(scope)
        REQUEST.set(found)
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        header = (b"x-request-id", found["request_id"].encode())
        began = time.perf_counter()
        status: int | None = None
        is_complete = False

        async def send_with_id(message: Message) -> None:
            nonlocal status, is_complete
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], header]
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                # What runs after the response, such as a background task, is not waited for.
                is_complete = True
                _log(scope, status, began, is_complete=True)

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            if not is_complete:
                _log(scope, status, began, is_complete=False)


def _ids(scope: Scope) -> dict[str, str]:
    found = {"request_id": ""}
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            found["request_id"] = value.decode()
        elif name == b"traceparent" and (match := _TRACEPARENT.fullmatch(value)):
            found["trace_id"] = match[1].decode()
    # FastAPI's span of the request, if it records one.
    if "fastapi.telemetry" in scope and (span := get_current_span().get_span_context()).is_valid:
        found["trace_id"] = format_trace_id(span.trace_id)
    found["request_id"] = found["request_id"] or secrets.token_hex(8)
    return found


def _log(scope: Scope, status: int | None, began: float, *, is_complete: bool) -> None:
    route = route_path(scope)
    level = logging.INFO
    if not is_complete or status is None or status >= 500:
        level = logging.WARNING
    elif route in PROBES:
        level = logging.DEBUG
    if not logger.isEnabledFor(level):
        return
    milliseconds = round((time.perf_counter() - began) * 1000, 1)
    # The caller left, or the connection broke.
    ending = "" if is_complete else " incomplete"
    message = f"{scope['method']} {route} {status or 'unanswered'}{ending}"
    # By hand, because logger.log() looks for the line of code that called it.
    record = logging.LogRecord(
        logger.name, level, __file__, 0, f"{message} {milliseconds} ms", None, None
    )
    record.__dict__ |= {
        "method": scope["method"],
        "route": route,
        "status": status,
        "complete": is_complete,
        "duration_ms": milliseconds,
        "client": client[0] if (client := scope.get("client")) else None,
        **scope.get(CALLER, {}),
    }
    logger.handle(record)
