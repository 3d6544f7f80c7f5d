"""What happens around every request, as plain ASGI: BaseHTTPMiddleware costs four times as much."""

import logging

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.errors import PROBLEM_MEDIA_TYPE, ContentTooLarge, InternalServerError

logger = logging.getLogger(__name__)

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
}
_API_POLICY = "default-src 'none'; frame-ancestors 'none'"
# The pages of /docs and /redoc load their viewer from FastAPI's content network and run one
# inline script; they must also reach the identity provider, which the browser's user chooses.
_DOCS_POLICY = (
    "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; connect-src *; "
    "img-src 'self' data: https:; worker-src blob:; "
    "script-src 'unsafe-inline' 'self' https://cdn.jsdelivr.net; "
    "style-src 'unsafe-inline' https://cdn.jsdelivr.net https://fonts.googleapis.com; "
    "font-src https://fonts.gstatic.com"
)
_DOCS_PATHS = frozenset({"/docs", "/docs/oauth2-redirect", "/redoc"})


class SecurityHeaders:
    """Send the headers that keep a browser from misusing an answer.

    A route that sets one of them itself is left alone.
    """

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
    """Answer a bug with a problem document, and log its traceback.

    Starlette's own handler would raise the exception again after answering, and the server
    would close the connection under the caller's next request.
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
                # The status is out; a broken connection is the only honest signal left.
                raise
            logger.exception("Unhandled error in %s %s", scope["method"], ascii(scope["path"]))
            await InternalServerError().response()(scope, receive, send)


class BodyLimit:
    """Refuse a request whose body is larger than ``max_body_size`` bytes, as it arrives.

    A route may set another limit for itself, with FastAPI's parameter of that name.
    """

    def __init__(self, app: ASGIApp, max_body_size: int) -> None:
        self.app = RequestBodyLimitMiddleware(app, max_body_size)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        replaced = False

        async def send_problem(message: Message) -> None:
            """Pass everything on, but the limiter's refusal in plain text."""
            nonlocal replaced
            if message["type"] == "http.response.start" and _is_plain_refusal(message):
                replaced = True
                await ContentTooLarge().response()(scope, receive, send)
            if not replaced:
                await send(message)

        await self.app(scope, receive, send_problem)


def _is_plain_refusal(message: Message) -> bool:
    media_type = Headers(raw=message["headers"]).get("content-type")
    status: int = message["status"]
    return status == ContentTooLarge.status and media_type != PROBLEM_MEDIA_TYPE
