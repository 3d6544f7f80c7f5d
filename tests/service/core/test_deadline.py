"""How long a request may take, whatever it waits for, and what ends it before."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable

import httpx2
import pytest
from fastapi import APIRouter, FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.deadline import client_left, request_timeout
from app.core.errors import add_exception_handlers
from app.core.middleware import ErrorBoundary
from app.core.routing import RouteIndex
from app.database.session import Database
from app.main import create_app
from app.server import _GRACEFUL_SECONDS
from app.settings import Settings
from app.utils.sso.introspection import CurrentToken
from app.utils.sso.resource_server.introspector import Introspector
from template_tools.pytest_plugin import Bearer
from tests.service.provider import Faults, RunningProvider

DEADLINE = 0.3
LATEST = DEADLINE + 1.5
LATE = "urn:problem:deadline-exceeded"
BODY = '{"name": "first"}'


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    add_exception_handlers(app)
    app.add_middleware(ErrorBoundary, timeout=DEADLINE)
    return app


async def call(
    app: ASGIApp, method: str, path: str, content: AsyncIterator[bytes] | None = None
) -> httpx2.Response:
    """Call the application as a server does: in a task of its own."""
    transport = httpx2.ASGITransport(app)
    headers = {"Content-Type": "application/json"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        request = client.request(method, path, content=content, headers=headers)
        return await asyncio.create_task(request)


async def assert_late(app: FastAPI, path: str = "/", method: str = "GET") -> httpx2.Response:
    started = time.monotonic()
    response = await call(app, method, path)
    assert time.monotonic() - started < LATEST
    assert response.status_code == 504
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == LATE
    assert "retry-after" not in response.headers
    return response


class Waits:
    """A middleware of a team's own that waits, for what nobody knows."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(20)
        await self.app(scope, receive, send)


class Dispatches(BaseHTTPMiddleware):
    """One of the kind that runs the route in another task."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


def build(settings: Settings, database: Database, introspector: Introspector) -> FastAPI:
    app = create_app(settings.model_copy(update={"request_timeout": DEADLINE}))
    app.state.database, app.state.introspector = database, introspector
    return app


@pytest.mark.parametrize("middleware", [Waits, Dispatches])
async def test_the_service_s_own_middleware_is_part_of_a_request(
    settings: Settings,
    database: Database,
    introspector: Introspector,
    monkeypatch: pytest.MonkeyPatch,
    middleware: type[Waits | Dispatches],
) -> None:
    def configure(app: FastAPI) -> None:
        app.add_middleware(middleware)

    monkeypatch.setattr("app.hooks.configure", configure)
    app = build(settings, database, introspector)

    @app.get("/slow")
    async def slow() -> None:
        await asyncio.sleep(20)

    response = await assert_late(app, "/slow")
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_so_is_the_provider(
    settings: Settings,
    database: Database,
    introspector: Introspector,
    provider: RunningProvider,
    bearer: Bearer,
) -> None:
    if settings.sso_mode == "jwt":
        pytest.skip("nobody is asked about a token")
    app = build(settings, database, introspector)
    headers = bearer()

    @app.get("/token")
    async def token(_token: CurrentToken) -> None: ...

    provider.faults = Faults(latency=3)
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        started = time.monotonic()
        response = await asyncio.create_task(client.get("/token", headers=headers))
        assert time.monotonic() - started < LATEST
        assert response.json()["type"] == LATE


async def test_who_leaves_while_others_wait_for_the_same_answer_does_not_take_it_away(
    settings: Settings,
    database: Database,
    introspector: Introspector,
    provider: RunningProvider,
    bearer: Bearer,
) -> None:
    if settings.sso_mode == "jwt":
        pytest.skip("nobody is asked about a token")
    app = create_app(settings)
    app.state.database, app.state.introspector = database, introspector
    scopes: list[Scope] = []

    @app.get("/token")
    async def token(_token: CurrentToken) -> str:
        return "read"

    async def noted(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await app(scope, receive, send)

    provider.faults = Faults(latency=0.5)
    headers = bearer()
    transport = httpx2.ASGITransport(noted)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        first = asyncio.create_task(client.get("/token", headers=headers))
        await asyncio.sleep(0.1)
        second = asyncio.create_task(client.get("/token", headers=headers))
        await asyncio.sleep(0.1)
        client_left(scopes[0])
        assert (await second).status_code == 200
        # Nothing was sent to who has left.
        with pytest.raises(AssertionError):
            await first
    assert provider.introspection_calls == 1


async def test_a_thread_is_not_waited_for(app: FastAPI) -> None:
    @app.get("/")
    def block() -> None:
        time.sleep(3)

    await assert_late(app)


async def test_a_route_that_will_not_be_cancelled_is_answered_for_once(app: FastAPI) -> None:
    @app.get("/")
    async def stay() -> str:
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            await asyncio.sleep(0.1)
        return "late"

    conversation = Conversation(app, "GET")
    await conversation.task
    assert [it.get("status") for it in conversation.sent] == [504, None]


async def test_what_fails_on_the_way_out_is_no_error_of_the_request(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    @app.get("/")
    async def fail() -> None:
        try:
            await asyncio.sleep(20)
        finally:
            raise LookupError

    await assert_late(app)
    assert {it.levelno for it in caplog.records if it.name.startswith("app.")} == {logging.WARNING}
    assert "LookupError" in caplog.text


async def _slowly() -> AsyncIterator[bytes]:
    for part in (BODY[:5], BODY[5:]):
        await asyncio.sleep(DEADLINE * 0.75)
        yield part.encode()


async def read(body: dict[str, str]) -> str:
    return body["name"]


def _direct(app: FastAPI) -> None:
    app.post("/")(request_timeout(20)(read))


def _indexed(app: FastAPI) -> None:
    app.router.routes.insert(0, RouteIndex(app.router))
    _direct(app)


def _included(app: FastAPI) -> None:
    inner, outer = APIRouter(), APIRouter()
    inner.post("/")(request_timeout(20)(read))
    outer.include_router(inner)
    app.include_router(outer)


def _mounted(app: FastAPI) -> None:
    inner = FastAPI()
    _direct(inner)
    app.mount("/", inner)


@pytest.mark.parametrize("add", [_direct, _indexed, _included, _mounted])
async def test_a_route_can_ask_for_more_before_its_body_is_read(
    app: FastAPI, add: Callable[[FastAPI], None]
) -> None:
    add(app)
    response = await call(app, "POST", "/", _slowly())
    assert (response.status_code, response.json()) == (200, "first")


async def test_a_route_that_does_not_ask_is_late_with_its_body(app: FastAPI) -> None:
    @app.post("/")
    async def read(body: dict[str, str]) -> None:
        del body

    assert (await call(app, "POST", "/", _slowly())).json()["type"] == LATE


async def test_what_a_route_asks_for_is_a_deadline_too(app: FastAPI) -> None:
    @app.get("/")
    @request_timeout(DEADLINE * 2)
    async def slow() -> None:
        await asyncio.sleep(20)

    started = time.monotonic()
    assert (await call(app, "GET", "/")).json()["type"] == LATE
    assert DEADLINE * 2 <= time.monotonic() - started < LATEST


async def test_a_web_socket_has_no_deadline(app: FastAPI) -> None:
    @app.websocket("/")
    async def say(websocket: WebSocket) -> None:
        await websocket.accept()
        await asyncio.sleep(DEADLINE * 1.5)
        await websocket.send_text("late")

    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/", "headers": [], "query_string": b""}
    await app(scope | {"subprotocols": []}, receive, send)
    assert {"type": "websocket.send", "text": "late"} in sent


class Conversation:
    """A request to an application, of which a test has every part."""

    def __init__(self, app: ASGIApp, method: str) -> None:
        self.scope: Scope = {
            "type": "http",
            "method": method,
            "path": "/",
            "headers": [],
            "query_string": b"",
        }
        self.sent: list[Message] = []
        self._has_body = True
        self.task = asyncio.create_task(self._talk(app))

    async def _talk(self, app: ASGIApp) -> None:
        await app(self.scope, self._receive, self._send)

    async def _receive(self) -> Message:
        if not self._has_body:
            await asyncio.sleep(20)
        self._has_body = False
        return {"type": "http.request", "body": b"", "more_body": False}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)


@pytest.mark.parametrize(
    ("method", "is_cancelled"), [("GET", True), ("HEAD", True), ("POST", False), ("PUT", False)]
)
async def test_who_leaves_ends_a_read_and_no_write(
    app: FastAPI, method: str, is_cancelled: bool
) -> None:
    ended: list[str] = []

    @app.api_route("/", methods=[method])
    async def slow() -> None:
        await asyncio.sleep(0.1)
        ended.append(method)

    conversation = Conversation(app, method)
    await asyncio.sleep(0.05)
    client_left(conversation.scope)
    await conversation.task
    assert ended == ([] if is_cancelled else [method])
    assert bool(conversation.sent) is not is_cancelled


async def test_who_leaves_a_stream_ends_it_as_the_server_says(app: FastAPI) -> None:
    @app.get("/")
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"first"
            await asyncio.sleep(0.1)
            yield b"last"

        return StreamingResponse(parts())

    conversation = Conversation(app, "GET")
    await asyncio.sleep(0.05)
    client_left(conversation.scope)
    await conversation.task
    assert b"last" in [it.get("body") for it in conversation.sent]


async def test_a_server_that_cancels_a_request_is_obeyed(app: FastAPI) -> None:
    @app.get("/")
    async def slow() -> None:
        await asyncio.sleep(20)

    conversation = Conversation(app, "GET")
    await asyncio.sleep(0.05)
    conversation.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await conversation.task
    # Also if the request had ended by itself.
    conversation = Conversation(app, "GET")
    await asyncio.sleep(0.05)
    client_left(conversation.scope)
    conversation.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await conversation.task


def test_each_timeout_is_shorter_than_that_of_who_waits_for_it(settings: Settings) -> None:
    waiting = [
        settings.database_lock_timeout,
        settings.database_statement_timeout,
        settings.database_command_timeout,
        settings.request_timeout,
        _GRACEFUL_SECONDS,
    ]
    assert waiting == sorted({*waiting})
    assert settings.request_timeout == 10
