"""The application as a whole."""

import asyncio
import os
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from typing import Annotated
from unittest.mock import Mock

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI, Security
from fastapi.dependencies.utils import get_dependant
from sqlalchemy import event
from sqlalchemy.pool import QueuePool

from app.core.project import TITLE, VERSION
from app.database.session import Database, open_database
from app.main import create_app
from app.settings import Settings
from app.utils.sso.authorization import require_roles
from app.utils.sso.introspection import CurrentToken, introspect_token
from app.utils.sso.introspection_schema import TokenData
from app.utils.sso.resource_server.introspector import Introspector
from app.utils.sso.resource_server.provider_errors import ProviderError
from template_tools.configuration import PROJECT_ROOT
from template_tools.processes import free_port
from tests.service.provider import Faults, RunningProvider


async def _get(app: FastAPI, path: str, **headers: str) -> httpx2.Response:
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.get(path, headers=headers)


async def test_the_service_is_healthy_with_its_database(client: httpx2.AsyncClient) -> None:
    response = await client.get("/health")
    assert response.status_code == 200
    assert response.json() == {"status": "ok", "database": "ok"}


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


async def test_what_a_route_declares_itself_stays_in_the_description(settings: Settings) -> None:
    app = create_app(settings)

    @app.post("/declared", responses={422: {"description": "Ours."}})
    async def declared(body: dict[str, str]) -> None: ...

    responses = app.openapi()["paths"]["/declared"]["post"]["responses"]
    assert responses["422"]["description"] == "Ours."


async def test_a_path_with_another_slash_is_not_redirected(client: httpx2.AsyncClient) -> None:
    """The redirect would go to whatever host the caller wrote into the Host header."""
    assert (await client.get("/health/")).status_code == 404


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


def test_the_application_imports_no_development_tool() -> None:
    """They are not installed in production."""
    code = (
        "import sys, app.main; "
        "sys.exit(any(m.split('.')[0] == 'template_tools' for m in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, check=True)
