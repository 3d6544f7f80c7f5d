"""The line of each request, and the id that all lines of a request have."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

from app.core.errors import add_exception_handlers
from app.core.logs import JsonFormatter, LineFormatter
from app.core.middleware import ErrorBoundary
from app.core.request_log import REQUEST, RequestLog
from app.settings import Settings
from template_tools.pytest_plugin import Bearer
from tests.service.provider import RunningProvider

SECRET = "secret-7"


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What the service logs about its requests."""
    caplog.set_level(logging.DEBUG, logger="app.request")
    return caplog


def only(lines: pytest.LogCaptureFixture) -> logging.LogRecord:
    [record] = [it for it in lines.records if it.name == "app.request"]
    return record


@pytest.fixture
def service() -> FastAPI:
    app = FastAPI()
    add_exception_handlers(app)
    app.add_middleware(ErrorBoundary)
    app.add_middleware(RequestLog)

    @app.get("/items/{name}")
    async def item(name: str) -> dict[str, str]:
        async def id_of_a_task() -> str:
            return REQUEST.get()["request_id"]

        return {"name": name, "id": await asyncio.create_task(id_of_a_task())}

    @app.get("/fails")
    async def fails() -> None:
        raise RuntimeError

    @app.get("/refuses")
    async def refuses() -> None:
        raise HTTPException(418)

    @app.get("/breaks-off")
    async def breaks_off() -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            yield b"half"
            raise RuntimeError("the other half")

        return StreamingResponse(body())

    @app.get("/goes-on")
    async def goes_on() -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            yield b"all"

        return StreamingResponse(body(), background=BackgroundTask(asyncio.sleep, 0))

    @app.get("/livez")
    async def livez() -> str:
        return "ok"

    return app


@pytest.fixture
async def caller(service: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(service, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as caller:
        yield caller


@pytest.mark.parametrize("given", ["a", "7f3e.1B-2_c:9", "x" * 128])
async def test_the_id_of_a_caller_is_kept_and_returned(
    caller: httpx2.AsyncClient, given: str
) -> None:
    response = await caller.get("/items/1", headers={"X-Request-ID": given})
    assert response.headers["x-request-id"] == given
    assert response.json()["id"] == given


@pytest.mark.parametrize(
    "given", ["", " ", "a b", "-a", "x" * 129, "a\tb", "<script>", "a;b", 'a"b', "a,b", "\xe4"]
)
async def test_one_that_could_be_anything_is_replaced(
    caller: httpx2.AsyncClient, given: str
) -> None:
    response = await caller.get("/items/1", headers=[(b"X-Request-ID", given.encode("latin-1"))])
    assert re.fullmatch(r"[0-9a-f]{16}", response.headers["x-request-id"])


async def test_two_requests_have_two_ids(caller: httpx2.AsyncClient) -> None:
    found = await asyncio.gather(*(caller.get("/items/1") for _ in range(20)))
    assert len({response.json()["id"] for response in found}) == 20
    assert all(it.json()["id"] == it.headers["x-request-id"] for it in found)


@pytest.mark.parametrize("path", ["/fails", "/refuses", "/nowhere", "/breaks-off"])
async def test_a_failure_has_an_id_too(caller: httpx2.AsyncClient, path: str) -> None:
    assert (await caller.get(path)).headers["x-request-id"]


async def test_the_line_has_the_route_and_not_what_the_caller_wrote(
    caller: httpx2.AsyncClient, lines: pytest.LogCaptureFixture
) -> None:
    await caller.get(f"/items/{SECRET}?token={SECRET}")
    record = only(lines)
    assert re.fullmatch(r"GET /items/\{name\} 200 \d+\.\d ms", record.getMessage())
    assert record.levelno == logging.INFO
    assert vars(record).keys() >= {"method", "route", "status", "duration_ms"}
    assert SECRET not in str(vars(record))


@pytest.mark.parametrize(
    ("path", "level", "text"),
    [
        ("/refuses", logging.INFO, "GET /refuses 418"),
        ("/nowhere", logging.INFO, "GET (no route) 404"),
        ("/fails", logging.WARNING, "GET /fails 500"),
        ("/breaks-off", logging.WARNING, "GET /breaks-off 200 incomplete"),
        ("/goes-on", logging.INFO, "GET /goes-on 200"),
        ("/livez", logging.DEBUG, "GET /livez 200"),
        ("/docs", logging.INFO, "GET swagger_ui_html 200"),
    ],
)
async def test_each_request_has_one_line_that_says_how_it_ended(
    caller: httpx2.AsyncClient, lines: pytest.LogCaptureFixture, path: str, level: int, text: str
) -> None:
    await caller.get(path)
    record = only(lines)
    assert record.getMessage().startswith(text + " ")
    assert record.levelno == level


async def test_a_route_of_a_router_is_named_with_its_prefixes(
    client: httpx2.AsyncClient, bearer: Bearer, lines: pytest.LogCaptureFixture
) -> None:
    await client.get("/api/v1/user/me", headers=bearer())
    assert only(lines).getMessage().startswith("GET /api/v1/user/me ")


async def test_the_trace_of_the_caller_is_named(caller: httpx2.AsyncClient) -> None:
    seen: list[dict[str, str]] = []

    async def app(scope: object, receive: object, send: object) -> None:
        seen.append(REQUEST.get())

    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    for given in (
        f"00-{trace}-00f067aa0ba902b7-01",
        f"00-{trace}-x-01",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
    ):
        headers = [(b"traceparent", given.encode())]
        await RequestLog(app)({"type": "websocket", "headers": headers}, None, None)  # type: ignore[arg-type]
    assert [it.get("trace_id") for it in seen] == [trace, None, None]


async def test_the_caller_is_named_by_its_client_and_a_hash(
    client: httpx2.AsyncClient,
    bearer: Bearer,
    provider: RunningProvider,
    settings: Settings,
    lines: pytest.LogCaptureFixture,
) -> None:
    found: list[str] = []
    for subject in ("ana@example.com", "ben@example.com", "ana@example.com"):
        await client.get("/api/v1/user/me", headers=bearer(sub=subject, client_id="orders"))
        record = only(lines)
        assert vars(record)["client_id"] == "orders"
        assert subject not in str(vars(record))
        found.append(vars(record)["subject"])
        lines.clear()
    ana, ben, again = found
    assert re.fullmatch("[0-9a-f]{16}", ana)
    assert ana == again != ben


async def test_who_is_refused_for_a_scope_is_named_too(
    client: httpx2.AsyncClient, bearer: Bearer, lines: pytest.LogCaptureFixture
) -> None:
    await client.get("/api/v1/user/", headers=bearer(scope="nothing", sub="ana"))
    record = only(lines)
    assert vars(record)["status"] == 403
    assert vars(record)["subject"]


async def test_the_address_of_a_client_cannot_forge_a_line(
    service: FastAPI, lines: pytest.LogCaptureFixture
) -> None:
    address = 'a", "level": "error"}\n{"message": "forged'
    transport = httpx2.ASGITransport(service, client=(address, 0))
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as caller:
        await caller.get("/items/1")
    line = JsonFormatter().format(only(lines))
    assert "\n" not in line
    assert json.loads(line)["client"] == address
    assert address not in LineFormatter().format(only(lines))


async def test_the_line_of_a_failure_names_its_problem(
    caller: httpx2.AsyncClient, lines: pytest.LogCaptureFixture
) -> None:
    """The line about an outage may have been written long before."""
    lines.handler.setFormatter(JsonFormatter())
    await caller.get("/fails")
    await caller.get("/refuses")
    found = [json.loads(it) for it in lines.text.splitlines() if '"app.request"' in it]
    assert [it.get("problem") for it in found] == ["bug", None]
