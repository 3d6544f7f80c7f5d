"""Middleware for every request, as plain ASGI: BaseHTTPMiddleware costs four times as much."""

import asyncio
import logging

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.deadline import RequestInProgress
from app.core.errors import (
    PROBLEM_MEDIA_TYPE,
    ContentTooLarge,
    InternalServerError,
    NotFound,
    explain_bug,
)
from app.core.routing import route_path

logger = logging.getLogger(__name__)

# Where ``introspect_token`` keeps what it knows of the request's token, in the ASGI scope.
TOKEN = "app.token"  # noqa: S105
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"strict-transport-security", b"max-age=31536000; includeSubDomains"),
    (b"cache-control", b"no-store"),
)
_API_POLICY = b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'"
# Pages load a viewer from another host and run one inline script. The viewer also connects to the
# identity provider, wherever that is.
_PAGE_POLICY = (
    "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; connect-src *; "
    "img-src 'self' data: https:; worker-src 'self' blob:; font-src 'self' data: https:; "
    "script-src 'unsafe-inline' 'self' {hosts}; style-src 'unsafe-inline' 'self' {hosts}"
)
_DOCS_HOSTS = "https://cdn.jsdelivr.net https://fonts.googleapis.com"
_DOCS_POLICY = _PAGE_POLICY.format(hosts=_DOCS_HOSTS).encode()
_OTHER_PAGES_POLICY = _PAGE_POLICY.format(hosts="https:").encode()


class SecurityHeaders:
    """Add security headers to every response, unless the route has set them."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message["headers"]]
                found = {name.lower(): value for name, value in headers}
                headers += [header for header in _HEADERS if header[0] not in found]
                if b"content-security-policy" not in found:
                    policy = _policy(scope, found.get(b"content-type", b""))
                    headers.append((b"content-security-policy", policy))
                message["headers"] = headers
            await send(message)

        await self.app(scope, receive, send_with_headers)


def _policy(scope: Scope, content_type: bytes) -> bytes:
    """Return what the response may load: nothing, unless it is a page that a browser can open.

    The path does not tell, because a proxy may have removed a prefix from it. A browser sends no
    token, so what a route with a token returns as HTML, such as an uploaded file, is no page.
    """
    if TOKEN in scope or not content_type.lower().startswith(b"text/html"):
        return _API_POLICY
    is_fastapi = getattr(scope.get("endpoint"), "__module__", "") == FastAPI.__module__
    return _DOCS_POLICY if is_fastapi else _OTHER_PAGES_POLICY


class WholePath:
    """Answer a path that ends in a line break with 404.

    Starlette's routes end in ``$``, which matches before it too: ``/health%0A`` would be
    ``/health``.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "lifespan" and scope["path"].endswith("\n"):
            await NotFound().response()(scope, receive, send)
        else:
            await self.app(scope, receive, send)


class ErrorBoundary:
    """Answer with a problem document what the application does not answer itself.

    That is an unhandled exception, which is logged with its traceback, and a request that takes
    longer than ``timeout`` seconds. Starlette's own handler raises the exception again after it has
    responded, and the server then closes the connection, on which the caller's next request may be
    under way.
    """

    def __init__(self, app: ASGIApp, timeout: float = 10) -> None:
        self.app = app
        self._timeout = timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = RequestInProgress(scope, receive, send, self._timeout)
        try:
            await self.app(scope, receive, request.send)
        except ClientDisconnect:
            # Nobody waits for an answer.
            return
        except asyncio.CancelledError:
            if not request.was_cancelled():
                raise
        except Exception as error:
            if request.has_ended:
                # It has been answered. What is done on the way out may fail, as what was waited for
                # does not answer.
                logger.warning("%s at the end of a request", type(error).__name__)
                return
            if request.has_started_response:
                # The status has been sent; only a broken connection can still signal an error.
                raise
            logger.error(
                "Unhandled error in %s %s%s",
                scope["method"],
                route_path(scope),
                explain_bug(error),
                exc_info=error,
            )
            await InternalServerError().response()(scope, receive, request.send)
        finally:
            request.finish()
            if request.answer is not None:
                await request.answer


class BodyLimit:
    """Reject a request as soon as its body exceeds ``max_body_size`` bytes.

    A route can have a limit of its own, with FastAPI's parameter of the same name.
    """

    def __init__(self, app: ASGIApp, max_body_size: int) -> None:
        self.app = app
        self._limited = RequestBodyLimitMiddleware(app, max_body_size)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http" or _has_no_body(scope):
            await self.app(scope, receive, send)
            return
        replaced = False

        async def send_problem(message: Message) -> None:
            """Replace Starlette's plain-text 413, and pass everything else on."""
            nonlocal replaced
            # Only the start of a response has a status.
            is_413 = message.get("status") == ContentTooLarge.status
            if is_413 and Headers(raw=message["headers"]).get("content-type") != PROBLEM_MEDIA_TYPE:
                replaced = True
                await ContentTooLarge().response()(scope, receive, send)
            if not replaced:
                await send(message)

        await self._limited(scope, receive, send_problem)


def _has_no_body(scope: Scope) -> bool:
    """Whether the request has none: HTTP/1.1 announces each body in its head (RFC 9112 §6.3)."""
    if scope["method"] not in {"GET", "HEAD"} or scope.get("http_version") not in {"1.0", "1.1"}:
        return False
    return not any(
        name in {b"content-length", b"transfer-encoding"} for name, _ in scope["headers"]
    )
