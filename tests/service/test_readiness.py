"""Whether this process should be sent requests."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from unittest.mock import Mock

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import event, text
from sqlalchemy.pool import QueuePool

from app.core.draining import drain
from app.core.rate_limited_log import RateLimitedLog
from app.database.session import Database, open_database
from app.settings import Settings
from app.utils.sso.resource_server.introspector import Introspector
from template_tools.databases import TestDatabases
from template_tools.processes import free_port
from tests.service.provider import Faults, RunningProvider

READY = {"status": "ok", "database": "ok", "migrations": "ok"}
MISSING = {"status": "unavailable", "database": "ok", "migrations": "missing"}


@pytest.fixture(autouse=True)
def fresh_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another test has logged is logged again."""
    log = RateLimitedLog(logging.getLogger("app.health"), time)
    monkeypatch.setattr("app.health.logger", log)


async def test_a_service_whose_database_is_migrated_is_ready(client: httpx2.AsyncClient) -> None:
    response = await client.get("/readyz")
    assert (response.status_code, response.json()) == (200, READY)
    assert (await client.head("/readyz")).status_code == 200


async def test_it_is_not_while_it_drains(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "has_begun", True)
    response = await client.get("/readyz")
    assert (response.status_code, response.json()) == (503, {"status": "draining"})
    assert (await client.head("/readyz")).status_code == 503
    for path in ("/livez", "/health"):
        assert (await client.get(path)).status_code == 200


async def test_it_is_not_without_its_database(
    settings: Settings, application: FastAPI, database: Database, client: httpx2.AsyncClient
) -> None:
    url = settings.database_url.set(host="127.0.0.1", port=free_port())
    async with open_database(settings.model_copy(update={"database_url": url})) as unreachable:
        application.state.database = unreachable
        response = await client.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"status": "unavailable", "database": "unavailable"}


@pytest.mark.parametrize("fault", [401, 500])
async def test_the_identity_provider_does_not_count(
    application: FastAPI,
    settings: Settings,
    client: httpx2.AsyncClient,
    provider: RunningProvider,
    provider_client: httpx2.AsyncClient,
    fault: int,
) -> None:
    """All replicas share it, and taking them all out would help nobody."""
    introspecting = settings.model_copy(update={"sso_mode": "introspect"})
    application.state.introspector = Introspector(provider_client, introspecting)
    provider.faults = Faults(status=fault)
    assert (await client.get("/readyz")).status_code == 200


@pytest.fixture
async def own_database(
    application: FastAPI, databases: TestDatabases, settings: Settings, database: Database
) -> AsyncIterator[Database]:
    """A database of its own, which the application uses and a test may spoil."""
    url = await databases.create()
    async with open_database(settings.model_copy(update={"database_url": url})) as own:
        application.state.database = own
        yield own
    application.state.database = database
    await databases.drop(url)


async def execute(database: Database, statement: str) -> None:
    async with database.engine.begin() as connection:
        await connection.execute(text(statement))


UNMIGRATED = ["ALTER TABLE alembic_version RENAME TO elsewhere", "DELETE FROM alembic_version"]


@pytest.mark.parametrize("statement", UNMIGRATED, ids=["no table", "no revision"])
async def test_it_is_not_before_the_migrations_and_then_it_is(
    client: httpx2.AsyncClient,
    own_database: Database,
    statement: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("app.health._KNOWN_SECONDS", 0)
    await execute(own_database, "CREATE TABLE applied AS SELECT * FROM alembic_version")
    await execute(own_database, statement)
    response = await client.get("/readyz")
    assert (response.status_code, response.json()) == (503, MISSING)
    assert "run `alembic upgrade head`" in caplog.text
    assert (await client.get("/health")).json() == {"status": "ok", "database": "ok"}

    await execute(own_database, "DROP TABLE IF EXISTS alembic_version")
    await execute(own_database, "ALTER TABLE applied RENAME TO alembic_version")
    response = await client.get("/readyz")
    assert (response.status_code, response.json()) == (200, READY)


async def test_a_database_that_a_newer_release_has_migrated_serves_this_one_too(
    client: httpx2.AsyncClient, own_database: Database
) -> None:
    await execute(own_database, "UPDATE alembic_version SET version_num = 'newer'")
    response = await client.get("/readyz")
    assert (response.status_code, response.json()) == (200, READY)


async def test_a_table_of_revisions_that_cannot_be_read_is_said(
    client: httpx2.AsyncClient, own_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """A role of the service may lack the right to, and has served until now."""
    await execute(own_database, "ALTER TABLE alembic_version RENAME version_num TO no_number")
    response = await client.get("/readyz")
    assert (response.status_code, response.json()) == (200, READY | {"migrations": "unknown"})
    assert "Cannot read alembic_version" in caplog.text


async def test_where_migrations_are_not_shipped_a_sentence_says_so(
    client: httpx2.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("app.health._VERSIONS", tmp_path / "nowhere")
    response = await client.get("/readyz")
    assert (response.status_code, response.json()) == (200, READY | {"migrations": "unknown"})
    assert "migrations/versions is missing or empty" in caplog.text


@pytest.mark.committed
async def test_asking_takes_no_connection_from_the_requests(
    client: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked_out: list[int] = []
    event.listen(
        database.engine.sync_engine.pool, "checkout", lambda *_about: checked_out.append(1)
    )
    answers = await asyncio.gather(*(client.get("/readyz") for _ in range(100)))
    assert {it.status_code for it in answers} == {200}
    assert len(checked_out) == 2, "one for the database, and one for its revisions"
    monkeypatch.setattr("app.health._KNOWN_SECONDS", 0)
    assert (await client.get("/readyz")).status_code == 200
    assert len(checked_out) == 3, "what is migrated is not asked again"


@pytest.mark.committed
@pytest.mark.parametrize("path", ["/readyz", "/health"])
async def test_a_pool_that_is_used_up_for_long_is_no_reason_while_requests_are_served(
    client: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Each request that ends shows that the database answers."""
    now = time.monotonic()
    monkeypatch.setattr("app.health.time", Mock(monotonic=lambda: now))
    assert (await client.get(path)).status_code == 200
    pool = database.engine.pool
    assert isinstance(pool, QueuePool)
    async with AsyncExitStack() as stack:
        for _ in range(pool.size() - 1):
            await stack.enter_async_context(database.engine.connect())
        for _ in range(5):
            now += 6
            async with database.engine.connect():
                assert (await client.get(path)).status_code == 200
