"""The application as a whole."""

import asyncio
import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Annotated
from unittest.mock import Mock

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI, Security, WebSocket
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_dependant
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute, iter_route_contexts
from sqlalchemy import event
from sqlalchemy.pool import QueuePool
from starlette.routing import Route, Router
from starlette.types import Message, Receive, Scope, Send

from app.api.v1.user.router import read_me
from app.core.openapi import PUBLIC
from app.core.project import TITLE, VERSION
from app.database.session import Database, open_database
from app.main import create_app
from app.settings import Settings, get_settings
from app.utils.sso.authorization import require_roles
from app.utils.sso.introspection import CurrentToken, introspect_token
from app.utils.sso.introspection_schema import TokenData
from app.utils.sso.resource_server.introspector import Introspector
from app.utils.sso.resource_server.provider_errors import ProviderError
from template_tools.configuration import PROJECT_ROOT
from template_tools.processes import free_port
from template_tools.pytest_plugin import Bearer
from tests.contract.probes import Probe, send
from tests.contract.routes import operations
from tests.contract.test_access import handshake
from tests.service.provider import Faults, RunningProvider


async def _get(app: FastAPI, path: str, root_path: str = "", **headers: str) -> httpx2.Response:
    transport = httpx2.ASGITransport(app, root_path=root_path)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.get(path, headers=headers)


async def test_the_service_is_healthy_with_its_database(client: httpx2.AsyncClient) -> None:
    response = await client.get("/health")
    assert response.status_code == 200
    assert response.json() == {"status": "ok", "database": "ok"}


async def test_what_is_there_at_the_start_is_searched_for_garbage_after_the_end_again(
    settings: Settings,
) -> None:
    app = create_app(settings)
    # Another application may be open.
    gc.unfreeze()
    async with app.router.lifespan_context(app):
        assert gc.get_freeze_count() > 50_000
    assert gc.get_freeze_count() == 0


async def test_the_service_is_alive_and_not_healthy_without_its_database(
    settings: Settings, database: Database, application: FastAPI, client: httpx2.AsyncClient
) -> None:
    url = settings.database_url.set(host="127.0.0.1", port=free_port())
    async with open_database(settings.model_copy(update={"database_url": url})) as unreachable:
        application.state.database = unreachable

        health = await client.get("/health")
        liveness = await client.get("/livez")

    assert health.status_code == 503
    assert health.json() == {"status": "unavailable", "database": "unavailable"}
    assert liveness.status_code == 200


@pytest.mark.parametrize(
    ("fault", "expected_status", "provider_is"),
    [(500, 200, "unavailable"), (401, 503, "misconfigured")],
)
async def test_the_service_is_not_healthy_where_the_provider_refuses_it(
    application: FastAPI,
    settings: Settings,
    client: httpx2.AsyncClient,
    provider: RunningProvider,
    provider_client: httpx2.AsyncClient,
    fault: int,
    expected_status: int,
    provider_is: str,
) -> None:
    """An outage of the provider is everybody's: no replica is better off than another."""
    introspecting = settings.model_copy(update={"sso_mode": "introspect"})
    application.state.introspector = Introspector(provider_client, introspecting)
    provider.faults = Faults(status=fault)

    response = await client.get("/health")

    assert response.status_code == expected_status
    assert response.json()["identity_provider"] == provider_is


@pytest.mark.parametrize("status", [401, 403, 404, 429])
async def test_a_provider_that_refuses_a_service_that_has_worked_takes_no_replica_out(
    application: FastAPI,
    settings: Settings,
    client: httpx2.AsyncClient,
    provider: RunningProvider,
    provider_client: httpx2.AsyncClient,
    status: int,
) -> None:
    """A caller may have driven the provider to it, and no other replica would fare better."""
    introspecting = settings.model_copy(update={"sso_mode": "introspect"})
    introspector = Introspector(provider_client, introspecting)
    application.state.introspector = introspector
    await introspector.look_up(provider.mint())
    provider.faults = Faults(status=status)
    with pytest.raises(ProviderError):
        await introspector.look_up(provider.mint())

    response = await client.get("/health")

    expected = "unavailable" if status == 429 else "misconfigured"
    assert (response.status_code, response.json()["identity_provider"]) == (200, expected)


@pytest.mark.committed
async def test_asking_for_health_takes_no_connection_from_the_requests(
    application: FastAPI, client: httpx2.AsyncClient, database: Database
) -> None:
    """Anybody may ask, as often as they like."""
    checked_out: list[int] = []
    pool = database.engine.sync_engine.pool
    event.listen(pool, "checkout", lambda *_about: checked_out.append(1))

    answers = await asyncio.gather(*(client.get("/health") for _ in range(100)))

    assert {it.status_code for it in answers} == {200}
    assert len(checked_out) == 1


@pytest.mark.committed
async def test_a_database_that_is_busy_with_requests_is_not_down(
    client: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr("app.health.time", Mock(monotonic=lambda: now))
    assert (await client.get("/health")).status_code == 200
    pool = database.engine.pool
    assert isinstance(pool, QueuePool)
    async with AsyncExitStack() as stack:
        for _ in range(pool.size()):
            await stack.enter_async_context(database.engine.connect())
        statuses = []
        for _ in range(2):
            now += 6
            statuses.append((await client.get("/health")).status_code)
        assert statuses == [200, 503], "and not for ever: a database that is down looks alike"
    now += 1
    assert (await client.get("/health")).status_code == 200


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json"])
async def test_the_api_describes_itself_outside_production_only(
    settings: Settings, path: str
) -> None:
    production = settings.model_copy(update={"environment": "production"})

    assert (await _get(create_app(settings), path)).status_code == 200
    assert (await _get(create_app(production), path)).status_code == 404


async def test_the_description_names_the_service_the_provider_and_the_problems(
    settings: Settings,
) -> None:
    app = create_app(settings)

    @app.get("/protected")
    async def protected(
        _token: Annotated[
            TokenData, Security(introspect_token, scopes=["report:write", "report:read"])
        ],
    ) -> None:
        """A report."""

    document = (await _get(app, "/openapi.json")).json()

    assert (document["info"]["title"], document["info"]["version"]) == (TITLE, VERSION)
    scheme = document["components"]["securitySchemes"]["SSO"]
    discovery = f"{settings.sso_issuer}/.well-known/openid-configuration"
    assert scheme["openIdConnectUrl"] == discovery
    protected_route = document["paths"]["/protected"]["get"]
    assert protected_route["description"] == "A report.\n\nScope: `report:read`, `report:write`."
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for path in document["paths"].values():
        for operation in path.values():
            assert "application/problem+json" in operation["responses"]["default"]["content"]


@pytest.mark.parametrize("built", [1, 2])
async def test_a_protected_route_shows_both_ways_to_come_by_a_token_with_its_scopes(
    settings: Settings, built: int
) -> None:
    """However it depends on the token, and however often the description is asked for."""
    app, router = create_app(settings), APIRouter(dependencies=[Depends(introspect_token)])

    @app.get("/alias")
    async def alias(_token: CurrentToken) -> None: ...

    @app.get("/scopes")
    async def scopes(
        _token: Annotated[TokenData, Security(introspect_token, scopes=["report:write"])],
    ) -> None: ...

    @app.get("/roles")
    async def roles(
        _token: Annotated[TokenData, Security(require_roles("admin"), scopes=["report:write"])],
    ) -> None: ...

    @router.get("/router")
    async def routers() -> None: ...

    app.include_router(router)
    for _ in range(built):
        document = app.openapi()
    assert document["components"]["securitySchemes"].keys() == {"SSO", "Token"}
    for path, wanted in (
        ("/alias", []),
        ("/scopes", ["report:write"]),
        ("/roles", ["report:write"]),
        ("/router", []),
    ):
        operation = document["paths"][path]["get"]
        assert operation["security"] == [{"SSO": wanted}, {"Token": wanted}]
    assert document["paths"]["/livez"]["get"]["security"] == []


def test_nothing_of_the_description_is_resolved_at_each_request() -> None:
    assert get_dependant(path="/", call=introspect_token).dependencies == []


async def test_a_request_is_led_past_the_routes_of_other_resources(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, paths = create_app(settings), list[str]()
    monkeypatch.setattr(type(app.routes[-1]), "matches", Mock(side_effect=AssertionError))

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)
        paths.append(scope["route"].path)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(noting)) as client:
        assert (await client.get("http://test/api/v1/user/me")).status_code == 401
        assert (await client.get("http://test/livez")).status_code == 200
    assert paths == ["/api/v1/user/me", "/livez"]


def test_no_request_waits_for_a_thread(settings: Settings) -> None:
    """FastAPI calls a dependency that is not async in one, which costs more than routing does."""

    def calls(dependant: Dependant) -> Iterator[object]:
        yield dependant.call
        for it in dependant.dependencies:
            yield from calls(it)

    contexts = iter_route_contexts(create_app(settings).routes)
    found = {
        call
        for it in contexts
        if isinstance(it.original_route, APIRoute)
        for call in calls(it.dependant)
    }
    found.discard(introspect_token)
    assert found >= {read_me, get_settings}
    in_threads = {it for it in found if not (iscoroutinefunction(it) or isasyncgenfunction(it))}
    assert in_threads == set()


async def test_what_a_route_declares_itself_stays_in_the_description(settings: Settings) -> None:
    app = create_app(settings)

    @app.post("/declared", responses={422: {"description": "Ours."}})
    async def declared(body: dict[str, str]) -> None: ...

    responses = app.openapi()["paths"]["/declared"]["post"]["responses"]
    assert responses["422"]["description"] == "Ours."


NO_REQUEST = {"WEBSOCKET", "MOUNT"}


def routes_of_a_team(app: FastAPI) -> None:
    inner, outer = APIRouter(), APIRouter(prefix="/team")

    @inner.get("/with/", openapi_extra=PUBLIC)
    @inner.get("/without", openapi_extra=PUBLIC)
    @inner.get("/number/{number:int}", openapi_extra=PUBLIC)
    @inner.get("/day/{day}/", openapi_extra=PUBLIC)
    @inner.get("/key/{key}", openapi_extra=PUBLIC)
    @inner.get("/kind/{kind:uuid}", openapi_extra=PUBLIC)
    @inner.get("/file/{file:path}", openapi_extra=PUBLIC)
    async def answer() -> str:
        return "ok"

    @inner.websocket("/socket/{name}")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()

    outer.include_router(inner)
    app.include_router(outer)
    app.mount("/mounted", Router([Route("/here", lambda _: PlainTextResponse("ok"))]))


@pytest.mark.parametrize("root_path", ["", "/orders"])
@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ("/api/v1/user", "/api/v1/user/"),
        ("/api/v1/user/me/", "/api/v1/user/me"),
        ("/api/v1/user/0198a1b2-0000-7000-8000-000000000000/", "/api/v1/user/{user_id}"),
        ("/health/", "/health"),
        ("/docs/", "/docs"),
        ("/team/with", "/team/with/"),
        ("/team/without/", "/team/without"),
        ("/team/without///", "/team/without"),
        ("/team/number/7/", "/team/number/{number}"),
        ("/team/day/2026-11-29", "/team/day/{day}/"),
        ("/mounted", "/mounted/"),
    ],
)
async def test_an_address_with_another_slash_is_named_and_not_redirected_to(
    settings: Settings, asked: str, named: str, root_path: str
) -> None:
    """The redirect would go to whatever host the caller wrote into the Host header."""
    app = create_app(settings)
    routes_of_a_team(app)

    response = await _get(app, root_path + asked, root_path, Host="evil.example.com")

    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    detail = f"There is nothing at this address; the right one is {root_path}{named}"
    assert response.json()["detail"] == detail
    assert "evil" not in response.text
    assert "location" not in response.headers


@pytest.mark.parametrize("path", ["/", "/nowhere", "/nowhere/", "//", "/api/v1/", "/%0A"])
async def test_an_address_like_no_other_is_just_not_found(settings: Settings, path: str) -> None:
    response = await _get(create_app(settings), path)
    assert response.json() == {"type": "about:blank", "title": "Not Found", "status": 404}


async def test_a_row_that_does_not_exist_has_no_other_address(
    client: httpx2.AsyncClient, bearer: Bearer
) -> None:
    missing = "/api/v1/user/0198a1b2-0000-7000-8000-000000000000"
    response = await client.get(missing, headers=bearer(scope="user:read"))
    assert response.status_code == 404
    assert "address" not in response.text


@pytest.mark.parametrize("ending", ["%0A", "%0a", "/%0A", "%0D%0A"])
async def test_a_line_break_at_the_end_is_part_of_the_path(settings: Settings, ending: str) -> None:
    app = create_app(settings)
    routes_of_a_team(app)
    app.add_route("/plain", lambda _: PlainTextResponse("ok"))

    others = ["/docs", "/openapi.json", "/plain", "/mounted/here"]
    for method, path in [
        *((it.method, it.example) for it in operations(app) if it.method not in NO_REQUEST),
        *(("GET", path) for path in others),
    ]:
        answer = await send(app, Probe("", method, path + ending, frozenset()), {})
        assert answer.status == 404, (path, answer)


async def test_a_websocket_has_no_line_break_at_its_end(settings: Settings) -> None:
    app = create_app(settings)
    routes_of_a_team(app)
    assert (await handshake(app, "/team/socket/a", {})).status == 101
    assert (await handshake(app, "/team/socket/a%0A", {})).status == 404


async def test_pages_of_configured_origins_may_call_the_service(settings: Settings) -> None:
    origin = "https://app.example.com"
    app = create_app(settings.model_copy(update={"cors_origins": (origin,)}))

    allowed = await _get(app, "/livez", Origin=origin)
    refused = await _get(app, "/livez", Origin="https://evil.example.com")

    assert allowed.headers["access-control-allow-origin"] == origin
    assert "access-control-allow-origin" not in refused.headers


def test_a_missing_setting_stops_the_start_with_a_sentence() -> None:
    """Run as a server would: a traceback would hide the one line that matters."""
    environment = {name: value for name, value in os.environ.items() if name != "SSO_ISSUER"}
    run = subprocess.run(
        [sys.executable, "-c", "import app.main"],
        cwd=PROJECT_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 1
    assert "SSO_ISSUER is not set" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("mode", "imports"), [("introspect", False), ("jwt", True), ("both", True)]
)
def test_what_verifies_signatures_is_imported_at_the_start_and_only_if_it_is_needed(
    mode: str, imports: bool
) -> None:
    """It is an eighth of the start and of the memory; the first request must not wait for it."""
    code = (
        "import asyncio, sys, app.main; "
        "service = app.main.app; "
        "lifespan = app.main.open_introspector(service.state.settings); "
        "asyncio.run(lifespan.__aenter__()); "
        "print('cryptography' in sys.modules)"
    )
    environment = os.environ | {"SSO_MODE": mode, "TOKEN_CACHE_URL": ""}
    command = [sys.executable, "-c", code]
    printed = subprocess.check_output(command, cwd=PROJECT_ROOT, env=environment, text=True)
    assert printed.split()[-1] == str(imports)


def test_the_application_imports_no_development_tool() -> None:
    """They are not installed in production."""
    code = (
        "import sys, app.main; "
        "sys.exit(any(m.split('.')[0] == 'template_tools' for m in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, check=True)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/livez", 200),
        ("GET", "/api/v1/user/me", 200),
        ("GET", "/api/v1/user/", 200),
        ("GET", "/nowhere", 404),
        ("POST", "/api/v1/user/", 422),
    ],
)
async def test_a_request_leaves_nothing_to_the_garbage_collector(
    application: FastAPI, bearer: Bearer, method: str, path: str, status: int
) -> None:
    """What refers to itself stays until it is looked for, which costs more than the request."""
    token = bearer(scope="user:read user:write")["Authorization"]
    headers = [(b"host", b"test"), (b"authorization", token.encode())]

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def request() -> None:
        statuses = []

        async def send(message: Message) -> None:
            statuses.append(message.get("status"))

        scope: Scope = {"type": "http", "http_version": "1.1", "method": method, "path": path}
        scope.update(query_string=b"", headers=headers, client=("127.0.0.1", 1))
        await asyncio.create_task(application(scope, receive, send))
        assert statuses[0] == status

    for _ in range(3):
        await request()
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            await request()
        assert gc.collect() < 10
    finally:
        gc.enable()
