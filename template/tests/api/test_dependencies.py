"""What routes can ask for."""

from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import FastAPI, WebSocket
from starlette.types import Message

from app.api.dependencies import CurrentUser
from app.main import create_app
from app.settings import CurrentSettings, Settings
from template_tools.pytest_plugin import Bearer


@pytest.fixture
async def caller(
    application: FastAPI, client: httpx2.AsyncClient, settings: Settings
) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of an application with two more routes."""
    app = create_app(settings)
    app.state.database = application.state.database
    app.state.introspector = application.state.introspector

    @app.get("/audience")
    async def read_audience(settings: CurrentSettings) -> str:
        return settings.sso_audience

    @app.get("/email")
    async def read_email(user: CurrentUser) -> str:
        return user.email

    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as caller:
        yield caller


async def test_the_settings_are_those_of_the_application(
    caller: httpx2.AsyncClient, settings: Settings
) -> None:
    assert (await caller.get("/audience")).json() == settings.sso_audience


async def test_a_web_socket_has_the_settings_too(settings: Settings) -> None:
    app = create_app(settings)

    @app.websocket("/audience")
    async def send_audience(socket: WebSocket, settings: CurrentSettings) -> None:
        await socket.accept()
        await socket.send_text(settings.sso_audience)

    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/audience", "headers": [], "query_string": b""}
    await app(scope, receive, send)
    assert sent[1]["text"] == settings.sso_audience


async def test_a_caller_whom_the_service_does_not_know_is_not_the_current_user(
    caller: httpx2.AsyncClient, bearer: Bearer
) -> None:
    assert (await caller.get("/email", headers=bearer(username="alice"))).status_code == 403


async def test_a_caller_without_the_claim_that_tells_users_apart_is_refused_with_its_name(
    caller: httpx2.AsyncClient, bearer: Bearer
) -> None:
    response = await caller.get("/email", headers=bearer(username="alice", sub=None))
    assert response.status_code == 403
    assert "no claim sub" in response.json()["detail"]


async def test_a_caller_whom_the_service_knows_is_the_current_user(
    caller: httpx2.AsyncClient, bearer: Bearer
) -> None:
    alice = {"username": "alice", "email": "alice@example.com"}
    await caller.post("/api/v1/user/", json=alice, headers=bearer(scope="user:write"))
    response = await caller.get("/email", headers=bearer(username="alice"))
    assert response.json() == "alice@example.com"
