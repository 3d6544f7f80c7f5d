"""Middleware for every request, as plain ASGI: BaseHTTPMiddleware costs four times as much."""

import logging

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.errors import PROBLEM_MEDIA_TYPE, ContentTooLarge, InternalServerError

logger = logging.getLogger(__name__)

# Where ``introspect_token`` keeps what it knows of the request's token, in the ASGI scope.
TOKEN = "app.token"  # noqa: S105
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
}
_API_POLICY = "default-src 'none'; frame-ancestors 'none'"
# /docs and /redoc load their viewer from a CDN and run one inline script. They also connect to the
# identity provider, wherever that is.
_DOCS_POLICY = (
    "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; connect-src *; "
    "img-src 'self' data: https:; worker-src blob:; "
    "script-src 'unsafe-inline' 'self' https://cdn.jsdelivr.net; "
    "style-src 'unsafe-inline' https://cdn.jsdelivr.net https://fonts.googleapis.com; "
    "font-src https://fonts.gstatic.com"
)
_DOCS_PATHS = frozenset({"/docs", "/docs/oauth2-redirect", "/redoc"})


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
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                docs = scope["path"] in _DOCS_PATHS
                headers.setdefault("Content-Security-Policy", _DOCS_POLICY if docs else _API_POLICY)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self.app(scope, receive, send_with_headers)


class ErrorBoundary:
    """Answer an unhandled exception with a problem document, and log its traceback.

    Starlette's own handler raises the exception again after it has responded, and the server then
    closes the connection, on which the caller's next request may be under way.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def remember_start(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, remember_start)
        except Exception:
            if started:
                # The status has been sent; only a broken connection can still signal an error.
                raise
            logger.exception("Unhandled error in %s %s", scope["method"], ascii(scope["path"]))
            await InternalServerError().response()(scope, receive, send)


class BodyLimit:
    """Reject a request as soon as its body exceeds ``max_body_size`` bytes.

    A route can have a limit of its own, with FastAPI's parameter of the same name.
    """

    def __init__(self, app: ASGIApp, max_body_size: int) -> None:
        self.app = RequestBodyLimitMiddleware(app, max_body_size)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
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

        await self.app(scope, receive, send_problem)
