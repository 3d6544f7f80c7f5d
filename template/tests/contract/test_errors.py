"""Health, unknown paths and methods, and the transaction of a request that fails."""

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.exceptions import HTTPException
from fastapi.routing import iter_route_contexts
from sqlalchemy import Column, Integer, MetaData, Table, func, insert, select
from sqlalchemy.schema import CreateTable

from app.core.errors import Conflict
from app.database.session import Database, DbSession
from app.main import create_app
from app.settings import Settings
from tests.contract.probes import Probe, send

NOWHERE = "/contract-0198a1b2"
OURS = """\
The template answers this by itself. Look in app/hooks.py for a middleware, a mount or an exception
handler of yours that answers it otherwise, and let it leave this request alone."""
WHOLE = """\
A request whose route raises must leave nothing in the database, and one that succeeds must leave
everything. Let the session of a request be that of DbSession (app/database/session.py), and let no
dependency, middleware or exception handler of yours commit it or swallow an error."""
TABLE = Table("contract_0198a1b2", MetaData(), Column("number", Integer))


async def test_the_service_is_alive_and_healthy(client: httpx2.AsyncClient) -> None:
    for path in ("/livez", "/readyz", "/health"):
        response = await client.get(path)
        assert response.status_code == 200, f"{path}: {response.text}\n\n{OURS}"


@pytest.mark.usefixtures("client")
async def test_an_unknown_path_is_a_404(application: FastAPI) -> None:
    # A service may have a catch-all route, such as that of a single-page application.
    if any(
        (pattern := getattr(route, "path_regex", None)) and pattern.match(NOWHERE)
        for route in iter_route_contexts(application.routes)
    ):
        pytest.skip("the service has a catch-all route")
    answer = await send(application, Probe("", "GET", NOWHERE, frozenset()), {})
    assert answer.status == 404, OURS
    assert [*answer.faults_of_problem()] == [], OURS


@pytest.mark.usefixtures("client")
async def test_an_unknown_method_is_a_405_that_names_the_others(application: FastAPI) -> None:
    answer = await send(application, Probe("", "POST", "/health", frozenset()), {})
    assert answer.status == 405, OURS
    assert answer.headers.get("allow") == "GET, HEAD", OURS
    assert [*answer.faults_of_problem()] == [], OURS


@pytest.mark.committed
@pytest.mark.parametrize(
    ("error", "status"),
    [(None, 200), (Conflict(), 409), (HTTPException(404), 404), (RuntimeError("a bug"), 500)],
    ids=["none", "problem", "HTTPException", "bug"],
)
async def test_a_request_is_carried_out_as_a_whole_or_not_at_all(
    application: FastAPI,
    database: Database,
    settings: Settings,
    error: Exception | None,
    status: int,
) -> None:
    app = create_app(settings)
    app.state = application.state

    @app.post(NOWHERE)
    async def write(session: DbSession) -> None:
        await (await session.connection()).execute(insert(TABLE), {"number": 1})
        if error is not None:
            raise error

    # In front of a catch-all route.
    app.router.routes.insert(0, app.router.routes.pop())
    async with database.engine.begin() as connection:
        await connection.execute(CreateTable(TABLE))

    answer = await send(app, Probe("", "POST", NOWHERE, frozenset()), {})

    assert answer.status == status, WHOLE
    async with database.engine.connect() as connection:
        count = await connection.scalar(select(func.count()).select_from(TABLE))
    assert count == (1 if error is None else 0), WHOLE
