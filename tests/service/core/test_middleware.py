"""What surrounds every request."""

from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import FastAPI, HTTPException, Response, WebSocket
from fastapi.responses import StreamingResponse
from starlette.types import Message

from app.core.errors import add_exception_handlers
from app.core.middleware import BodyLimit, ErrorBoundary, SecurityHeaders


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

    @app.post("/echo")
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
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
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
