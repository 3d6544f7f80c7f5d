"""What surrounds every request."""

import re
from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, StreamingResponse
from starlette.routing import Mount, Route, Router
from starlette.types import Message

from app.core.errors import add_exception_handlers
from app.core.middleware import BodyLimit, ErrorBoundary, SecurityHeaders
from app.core.openapi import PUBLIC
from app.main import create_app
from app.settings import Settings
from app.utils.sso.introspection import CurrentToken
from template_tools.pytest_plugin import Bearer

# The policy of what is no page.
NOTHING = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"


@pytest.fixture
def service() -> FastAPI:
    app = FastAPI()
    add_exception_handlers(app)
    app.add_middleware(BodyLimit, max_body_size=100)
    app.add_middleware(ErrorBoundary)
    app.add_middleware(SecurityHeaders)

    @app.get("/plain")
    async def plain(response: Response) -> str:
        response.headers["Cache-Control"] = "max-age=60"
        return "ok"

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.close()

    @app.api_route("/echo", methods=["GET", "POST"])
    async def echo(body: dict[str, str]) -> dict[str, str]:
        return body

    @app.post("/refuses")
    async def refuses() -> None:
        raise HTTPException(413, "Fifty bytes are enough.")

    @app.get("/breaks-off")
    async def breaks_off() -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            yield b"half"
            raise RuntimeError("the other half")

        return StreamingResponse(body())

    return app


@pytest.fixture
async def caller(service: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(service)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_every_answer_tells_the_browser_to_be_careful(caller: httpx2.AsyncClient) -> None:
    headers = (await caller.get("/nowhere")).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert (
        headers["content-security-policy"]
        == "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"
    )
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["strict-transport-security"].startswith("max-age=")
    assert headers["cache-control"] == "no-store"


async def test_a_header_that_a_route_has_set_stays(caller: httpx2.AsyncClient) -> None:
    assert (await caller.get("/plain")).headers["cache-control"] == "max-age=60"


async def test_the_docs_page_may_load_its_viewer(caller: httpx2.AsyncClient) -> None:
    policy = (await caller.get("/docs")).headers["content-security-policy"]
    assert "script-src" in policy
    assert "frame-ancestors 'none'" in policy


async def test_an_answer_that_breaks_off_breaks_the_connection(caller: httpx2.AsyncClient) -> None:
    """The status has been sent; nothing but a broken connection can still tell the caller."""
    with pytest.raises(RuntimeError, match="the other half"):
        await caller.get("/breaks-off")


async def _in_chunks() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield b" " * 50


@pytest.mark.parametrize("content", [b" " * 101, _in_chunks()], ids=["declared", "chunked"])
async def test_a_body_that_is_too_large_is_refused_with_a_problem(
    caller: httpx2.AsyncClient, content: bytes | AsyncIterator[bytes]
) -> None:
    response = await caller.post("/echo", content=content)

    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.json()["title"] == "Content Too Large"


@pytest.mark.parametrize(("version", "method"), [("2", "GET"), ("2", "POST"), ("1.1", "POST")])
async def test_a_body_that_no_header_announces_is_limited(
    service: FastAPI, version: str, method: str
) -> None:
    """HTTP/2 needs no header for it, and not each server may be strict about HTTP/1.1."""
    received: list[Message] = [{"type": "http.request", "body": b" " * 101, "more_body": False}]
    sent: list[Message] = []

    async def receive() -> Message:
        return received.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "http_version": version, "method": method, "path": "/echo"}
    await service({**scope, "headers": [], "query_string": b""}, receive, send)
    assert sent[0]["status"] == 413


async def test_a_route_may_refuse_a_body_in_its_own_words(caller: httpx2.AsyncClient) -> None:
    response = await caller.post("/refuses")
    assert response.status_code == 413
    assert response.json()["detail"] == "Fifty bytes are enough."


async def test_a_body_within_the_limit_arrives(caller: httpx2.AsyncClient) -> None:
    assert (await caller.post("/echo", json={"a": "b"})).json() == {"a": "b"}


async def test_a_websocket_passes_untouched(service: FastAPI) -> None:
    received: list[Message] = []
    incoming: list[Message] = [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "hello"},
    ]

    async def receive() -> Message:
        return incoming.pop(0)

    async def send(message: Message) -> None:
        received.append(message)

    scope = {"type": "websocket", "path": "/socket", "headers": [], "query_string": b""}
    await service(scope, receive, send)

    assert [message["type"] for message in received] == [
        "websocket.accept",
        "websocket.send",
        "websocket.close",
    ]


VIEWER = "<script src=https://unpkg.com/viewer></script>"


def with_viewers(settings: Settings) -> FastAPI:
    """Return the service with pages of a team's own, as it could add them in its hooks."""
    app = create_app(settings)
    other = FastAPI()
    folder = Mount(
        "/files",
        Router([Route("/index.html", lambda _: HTMLResponse(VIEWER))]),
    )

    @app.get("/reference", include_in_schema=False, openapi_extra=PUBLIC)
    async def reference() -> HTMLResponse:
        return get_swagger_ui_html(openapi_url="/openapi.json", title="Reference")

    @app.get("/listed", openapi_extra=PUBLIC, response_class=HTMLResponse)
    async def listed() -> str:
        return VIEWER

    @app.get("/own", openapi_extra=PUBLIC)
    async def own() -> HTMLResponse:
        return HTMLResponse(VIEWER, headers={"Content-Security-Policy": "script-src 'self'"})

    @app.get("/upload")
    async def upload(_token: CurrentToken) -> HTMLResponse:
        return HTMLResponse(VIEWER)

    app.add_route("/plain", lambda _: HTMLResponse(VIEWER))
    app.mount("/other", other)
    app.router.routes.append(folder)
    return app


async def policy_of(app: FastAPI, path: str, root_path: str = "", **headers: str) -> str:
    """Call as uvicorn does: a root path is a part of the path."""
    transport = httpx2.ASGITransport(app, root_path=root_path)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        response = await client.get(root_path + path, headers=headers)
        assert response.status_code == 200, path
        return response.headers["content-security-policy"]


PAGES = ["/other/docs", "/other/docs/oauth2-redirect", "/other/redoc"]
TEAMS_PAGES = ["/reference", "/listed", "/plain", "/files/index.html"]


@pytest.mark.parametrize("root_path", ["", "/orders", "/docs", "/a/b"])
@pytest.mark.parametrize("path", [*PAGES, *TEAMS_PAGES])
async def test_a_page_may_load_its_viewer_wherever_it_is_served(
    settings: Settings, path: str, root_path: str
) -> None:
    policy = await policy_of(with_viewers(settings), path, root_path)

    host = "https:" if path in TEAMS_PAGES else "https://cdn.jsdelivr.net"
    assert re.search(rf"script-src 'unsafe-inline' 'self' {host}[ ;]", policy)
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("root_path", ["", "/docs"])
@pytest.mark.parametrize("path", ["/livez", "/openapi.json"])
async def test_what_is_no_page_may_load_nothing(
    settings: Settings, path: str, root_path: str
) -> None:
    policy = await policy_of(create_app(settings), path, root_path)
    assert policy == NOTHING


async def test_what_needs_a_token_is_no_page(settings: Settings, bearer: Bearer) -> None:
    """A browser cannot open it, and it may be a file that somebody else has uploaded."""
    policy = await policy_of(with_viewers(settings), "/upload", **bearer())
    assert policy == NOTHING


async def test_a_page_may_have_a_policy_of_its_own(settings: Settings) -> None:
    assert await policy_of(with_viewers(settings), "/own") == "script-src 'self'"


async def test_a_service_may_have_its_docs_elsewhere(settings: Settings) -> None:
    app = FastAPI(docs_url="/api/reference", redoc_url=None)
    app.add_middleware(SecurityHeaders)
    assert "script-src" in await policy_of(app, "/api/reference", "/orders")


async def test_who_leaves_while_sending_is_not_an_error_of_the_service(
    service: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    @service.post("/raw")
    async def raw(request: Request) -> int:
        return len(await request.body())

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "method": "POST", "path": "/raw", "headers": [], "query_string": b""}
    await service(scope, receive, send)
    assert not caplog.records
