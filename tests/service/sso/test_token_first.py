"""A caller without a good token has nothing else of a request looked at, whatever a route lists."""

import json
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

import httpx2
import pytest
from fastapi import (
    APIRouter,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Query,
    Request,
    Response,
    Security,
    WebSocket,
)
from pydantic import BaseModel
from starlette.types import Message

from app.core.errors import add_exception_handlers
from app.core.etag import IfMatch
from app.core.middleware import ErrorBoundary
from app.settings import Settings
from app.utils.sso.introspection import CurrentToken, introspect_token
from app.utils.sso.introspection_schema import TokenData
from app.utils.sso.resource_server.introspector import open_introspector
from app.utils.sso.resource_server.token_first import TokenFirst
from template_tools.pytest_plugin import Bearer
from tests.service.provider import Faults, RunningProvider
from tests.service.sso.assertions import Log
from tests.service.sso.metrics import Recorder


class Body(BaseModel):
    """The body of a route."""

    name: str


def refuse() -> None:
    """Be the check of a route that a team lists before the token."""
    raise HTTPException(418)


async def read_token(token: CurrentToken) -> TokenData:
    """Be a dependency that has the token among its own."""
    return token


Reader = Annotated[TokenData, Security(introspect_token, scopes=["report:read"])]


@dataclass
class Endpoint:
    """An endpoint that is an object, and has no hash."""

    async def __call__(self, _body: Body, _token: CurrentToken) -> None:
        """Be a route."""


async def set_tenant(request: Request) -> None:
    """Be what another dependency of the route builds on."""
    request.state.tenant = "a"


async def read_tenant(request: Request, _token: CurrentToken) -> str:
    """Build on ``set_tenant``."""
    return str(request.state.tenant)


def unordered_app(settings: Settings) -> FastAPI:
    """Return a service whose routes name everything else before the token."""
    app = FastAPI()
    app.state.settings = settings
    add_exception_handlers(app)
    mounted = FastAPI()
    add_exception_handlers(mounted)
    mounted.state = app.state
    app.mount("/mounted", mounted)

    @mounted.put("/inside")
    async def inside(_body: Body, _token: CurrentToken) -> None: ...

    app.put("/object")(Endpoint())

    @app.get("/query")
    async def query(_query: Annotated[Body, Query()], _token: CurrentToken) -> None: ...

    @app.put("/tenant", dependencies=[Depends(set_tenant)])
    async def tenant(_body: Body, tenant: Annotated[str, Depends(read_tenant)]) -> str:
        return tenant

    @app.websocket("/socket")
    async def socket(
        socket: WebSocket, _none: Annotated[None, Depends(refuse)], _token: CurrentToken
    ) -> None:
        await socket.accept()

    @app.put("/precondition")
    async def precondition(_if_match: IfMatch, _body: Body, _token: CurrentToken) -> None: ...

    @app.put("/check", dependencies=[Depends(refuse)])
    async def check(_body: Body, _token: CurrentToken) -> None: ...

    @app.put("/nested", dependencies=[Depends(refuse)])
    async def nested(_body: Body, _token: Annotated[TokenData, Depends(read_token)]) -> None: ...

    @app.put("/header")
    async def header(_x: Annotated[int, Header()], _body: Body, _token: CurrentToken) -> None: ...

    inner = APIRouter(dependencies=[Depends(refuse)])

    @inner.put("/routers")
    async def routers(_body: Body, _token: Reader) -> None: ...

    outer = APIRouter(prefix="/of", dependencies=[Depends(introspect_token)])
    outer.include_router(inner, prefix="/two")
    app.include_router(outer)

    @app.put("/public")
    async def public(body: Body) -> str:
        return body.name

    @app.put("/once")
    async def once(body: Body, _token: CurrentToken, _reader: Reader) -> str:
        return body.name

    async def shared(body: Body) -> str:
        return body.name

    app.put("/shared/public")(shared)
    app.put("/shared/protected", dependencies=[Depends(introspect_token)])(shared)
    app.put("/shared/scoped", dependencies=[Security(introspect_token, scopes=["a"])])(shared)

    app.add_middleware(TokenFirst)
    app.add_middleware(ErrorBoundary)
    return app


PROTECTED = ["/precondition", "/check", "/nested", "/header", "/of/two/routers", "/once"]
PROTECTED += ["/object", "/tenant", "/mounted/inside", "/shared/protected"]


@pytest.fixture
async def unordered(settings: Settings) -> AsyncIterator[FastAPI]:
    """The service with the unordered routes."""
    app = unordered_app(settings)
    async with open_introspector(settings) as app.state.introspector:
        yield app


@pytest.fixture
async def caller(unordered: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of that service."""
    transport = httpx2.ASGITransport(unordered)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as caller:
        yield caller


async def put(
    app: FastAPI, path: str, *headers: tuple[str, str], body: bytes = b"{"
) -> tuple[int, int]:
    """Send a request, and return its status and how often its body was asked for."""
    asked, sent = 0, list[Message]()

    async def receive() -> Message:
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers]
    scope = {"type": "http", "method": "PUT", "path": path, "headers": raw, "query_string": b""}
    await app(scope | {"client": ("192.0.2.1", 1), "app": app}, receive, send)
    return sent[0]["status"], asked


@pytest.mark.parametrize("path", PROTECTED)
@pytest.mark.parametrize("authorization", ["", "Bearer unknown", "Basic YTpi"])
async def test_no_body_is_read_for_a_caller_without_a_good_token(
    unordered: FastAPI, path: str, authorization: str
) -> None:
    headers = [("authorization", authorization)] if authorization else []
    assert await put(unordered, path, ("content-type", "application/json"), *headers) == (401, 0)


async def test_a_request_is_judged_by_its_body_once_its_token_is_good(
    caller: httpx2.AsyncClient, bearer: Bearer
) -> None:
    headers = bearer(scope="report:read") | {"Content-Type": "application/json"}
    broken = await caller.put("/once", content="{", headers=headers)
    assert broken.status_code == 422
    whole = await caller.put("/once", json={"name": "a"}, headers=bearer(scope="report:read"))
    assert (whole.status_code, whole.json()) == (200, "a")


async def test_the_scopes_of_a_route_are_named_before_its_body_is_read(
    caller: httpx2.AsyncClient, bearer: Bearer
) -> None:
    for headers, status in [({}, 401), (bearer(scope="other"), 403)]:
        response = await caller.put("/of/two/routers", content="{", headers=headers)
        assert response.status_code == status
        assert 'scope="report:read"' in response.headers["WWW-Authenticate"]


async def test_a_route_without_a_token_reads_its_body(caller: httpx2.AsyncClient) -> None:
    assert (await caller.put("/public", json={"name": "a"})).json() == "a"


async def test_a_function_of_several_routes_is_protected_where_it_asks_for_it(
    caller: httpx2.AsyncClient, bearer: Bearer
) -> None:
    statuses = [
        (await caller.put(f"/shared/{path}", json={"name": "a"}, headers=headers)).status_code
        for path in ("public", "protected", "scoped")
        for headers in ({}, bearer(scope="b"), bearer(scope="a"))
    ]
    assert statuses == [200, 200, 200, 401, 200, 200, 401, 403, 200]


async def test_a_token_is_looked_up_once_for_a_request(
    caller: httpx2.AsyncClient, bearer: Bearer, recorder: Recorder
) -> None:
    await caller.put("/once", json={"name": "a"}, headers=bearer(scope="report:read"))
    assert len(recorder["sso.token_cache.lookups"].amounts) == 1


@pytest.mark.parametrize("replaced", [introspect_token, read_token])
async def test_a_test_may_replace_the_check_or_what_takes_it(
    unordered: FastAPI, caller: httpx2.AsyncClient, replaced: Callable[..., object]
) -> None:
    user = TokenData(active=True, sub="a")
    unordered.dependency_overrides = {replaced: lambda: user, refuse: lambda: None}
    assert (await caller.put("/nested", json={"name": "a"})).status_code == 200
    other = await caller.put("/once", json={"name": "a"})
    assert other.status_code == (401 if replaced is read_token else 200)


async def test_dependencies_are_resolved_in_the_order_in_which_they_are_listed(
    caller: httpx2.AsyncClient, bearer: Bearer
) -> None:
    response = await caller.put("/tenant", json={"name": "a"}, headers=bearer())
    assert (response.status_code, response.json()) == (200, "a")


async def test_a_middleware_of_a_team_is_not_in_the_way(
    unordered: FastAPI, caller: httpx2.AsyncClient, bearer: Bearer
) -> None:
    @unordered.middleware("http")
    async def look(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        await request.body()
        return await call_next(request)

    response = await caller.put("/once", content="{", headers={"Content-Type": "application/json"})
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    headers = bearer(scope="report:read")
    assert (await caller.put("/once", json={"name": "a"}, headers=headers)).json() == "a"


async def test_a_bug_in_the_check_is_a_500_that_is_logged(
    unordered: FastAPI, caller: httpx2.AsyncClient, bearer: Bearer, log: Log
) -> None:
    unordered.state.introspector = None
    response = await caller.put("/once", json={"name": "a"}, headers=bearer())
    assert response.status_code == 500
    assert "Unhandled error in PUT" in log.text


async def test_no_query_is_parsed_for_a_caller_without_a_token(
    caller: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(*_about: object) -> None:
        pytest.fail("The query was parsed")

    monkeypatch.setattr("starlette.datastructures.parse_qsl", parse)
    monkeypatch.setattr("starlette.requests.cookie_parser", parse)
    response = await caller.get("/query?name=a", headers={"Cookie": "a=b"})
    assert response.status_code == 401


@pytest.mark.parametrize("bad", ["", "Bearer unknown"])
async def test_a_web_socket_is_refused_before_its_other_dependencies(
    unordered: FastAPI, bad: str
) -> None:
    headers = [(b"authorization", bad.encode())] if bad else []
    scope = {"type": "websocket", "path": "/socket", "headers": headers, "query_string": b""}
    sent = list[Message]()

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    about = {"extensions": {"websocket.http.response": {}}, "client": ("192.0.2.1", 1)}
    await unordered(scope | about | {"app": unordered}, receive, send)
    assert sent[0]["status"] == 401


async def test_an_outage_is_said_before_the_body_is_read(
    unordered: FastAPI, provider: RunningProvider
) -> None:
    authorization = f"Bearer {provider.mint()}"
    provider.faults = Faults(status=500)
    assert await put(unordered, "/check", ("authorization", authorization)) == (503, 0)


@pytest.mark.parametrize("header", ["if-match", "authorization", "x", "cookie", "content-type"])
async def test_a_long_header_costs_a_caller_without_a_token_next_to_nothing(
    unordered: FastAPI, header: str
) -> None:
    await put(unordered, "/precondition")
    value = '"a",' * 250_000
    tracemalloc.start()
    answer = await put(unordered, "/precondition", (header, value))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert answer == (401, 0)
    assert peak < 10 * len(value)


async def test_a_long_if_match_is_refused_before_it_is_parsed(
    caller: httpx2.AsyncClient, bearer: Bearer
) -> None:
    for value, status in [(",".join(['"1"'] * 256), 200), (",".join(['"1"'] * 257), 400)]:
        headers = bearer() | {"If-Match": value}
        response = await caller.put("/precondition", json={"name": "a"}, headers=headers)
        assert response.status_code == status, response.text
    assert "1024" in json.loads(response.text)["detail"]
