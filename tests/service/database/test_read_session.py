"""Sessions that only read: never a write, on a replica while it can serve, else on the primary."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import URL, text
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.errors import add_exception_handlers
from app.core.settings import DatabaseSettings, load_settings
from app.database.session import (
    Database,
    DbSession,
    ReadSession,
    WriteInReadSession,
    open_database,
)
from app.settings import Settings
from template_tools.databases import TestDatabases
from template_tools.processes import free_port
from tests.service.database.forwarder import Forwarder, forwarding
from tests.service.database.notes import Note, notes


@asynccontextmanager
async def serving(
    database: Database, holding: asyncio.Event | None = None
) -> AsyncIterator[httpx2.AsyncClient]:
    """Serve the titles of the notes, each time with another kind of session.

    `holding` is set as soon as `/slow` has its connection.
    """
    app = FastAPI()
    add_exception_handlers(app)
    app.state.database = database

    @app.get("/")
    async def read(session: ReadSession) -> list[str]:
        return [*await session.exec(select(Note.title))]

    @app.get("/own")
    async def read_own(session: DbSession) -> list[str]:
        return [*await session.exec(select(Note.title))]

    @app.get("/slow")
    async def read_until_cancelled(session: ReadSession) -> None:
        await session.connection()
        if holding is not None:
            holding.set()
        await asyncio.Event().wait()

    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def add(session: AsyncSession) -> None:
    session.add(Note(title="late"))


async def flush(session: AsyncSession) -> None:
    session.add(Note(title="early"))
    await session.flush()


async def execute(session: AsyncSession) -> None:
    await (await session.connection()).execute(text("DELETE FROM note"))


type Write = Callable[[AsyncSession], Awaitable[None]]


@pytest.mark.parametrize("write", [add, flush, execute])
async def test_a_write_in_a_read_session_is_a_bug(database: Database, write: Write) -> None:
    with pytest.raises(WriteInReadSession):
        async with database.reading() as session:
            await write(session)
    async with database.sessionmaker.begin() as session:
        await write(session)


@pytest.mark.committed
@pytest.mark.parametrize("write", [add, flush, execute])
async def test_a_connection_may_write_again_after_a_read_session(
    database: Database, settings: Settings, write: Write
) -> None:
    one = {"database_url": database.engine.url, "database_pool_size": 1}
    async with open_database(settings.model_copy(update=one)) as small:
        with pytest.raises(WriteInReadSession):
            async with small.reading() as session:
                await write(session)
        async with small.sessionmaker.begin() as session:
            await write(session)


async def test_a_read_session_sees_what_the_test_has_written(
    database: Database, session: AsyncSession
) -> None:
    session.add(Note(title="first"))
    await session.commit()
    async with serving(database) as client:
        assert (await client.get("/")).json() == ["first"]


async def test_a_read_session_leaves_the_connection_alone_until_it_reads(
    settings: Settings,
) -> None:
    url = settings.database_url.set(port=free_port())
    async with (
        open_database(settings.model_copy(update={"database_url": url})) as database,
        database.reading() as session,
    ):
        assert not session.in_transaction()


async def test_the_replica_s_url_is_read_like_the_primary_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(
        "DATABASE_REPLICA_URL", "postgres://reader:p%40ss@replica/app?sslmode=require"
    )
    url = load_settings(DatabaseSettings).database_replica_url
    assert url is not None
    assert url.drivername == "postgresql+asyncpg"
    assert url.query == {"ssl": "require"}
    monkeypatch.setenv("DATABASE_REPLICA_URL", "mysql://canary@replica/app")
    with pytest.raises(SystemExit) as refusal:
        load_settings(DatabaseSettings)
    assert "DATABASE_REPLICA_URL" in str(refusal.value)
    assert "canary" not in str(refusal.value)


@pytest.fixture
async def replica_url(databases: TestDatabases, settings: Settings) -> AsyncIterator[URL]:
    """A database that is told from the primary by its only row."""
    url = await databases.create()
    async with open_database(settings.model_copy(update={"database_url": url})) as database:
        async with database.engine.begin() as connection:
            await connection.run_sync(notes.metadata.create_all)
        async with database.sessionmaker.begin() as session:
            session.add(Note(title="replica"))
    yield url
    await databases.drop(url)


@pytest.fixture
async def forwarder(replica_url: URL) -> AsyncIterator[Forwarder]:
    """The way to the replica."""
    async with forwarding(replica_url) as forwarder:
        yield forwarder


@pytest.fixture
def with_replica(
    database: Database, settings: Settings, replica_url: URL, forwarder: Forwarder
) -> Settings:
    """The settings for a primary without rows, and a replica behind the forwarder."""
    changes: dict[str, object] = {
        "database_url": database.engine.url,
        "database_replica_url": replica_url.set(port=forwarder.port),
        "database_pool_size": 1,
        "database_pool_timeout": 0.1,
    }
    return settings.model_copy(update=changes)


@pytest.fixture
async def replicated(with_replica: Settings) -> AsyncIterator[Database]:
    """The database of those settings."""
    async with open_database(with_replica) as database:
        yield database


@pytest.mark.committed
class TestAReplica:
    async def test_it_serves_the_reads(self, replicated: Database) -> None:
        async with serving(replicated) as client:
            assert (await client.get("/")).json() == ["replica"]
            assert (await client.get("/own")).json() == []

    async def test_it_takes_no_write(self, replicated: Database) -> None:
        with pytest.raises(WriteInReadSession):
            async with replicated.reading() as session:
                session.add(Note(title="first"))

    async def test_the_primary_serves_while_it_is_gone(
        self, replicated: Database, forwarder: Forwarder, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert replicated.replica is not None
        async with serving(replicated) as client:
            assert (await client.get("/")).json() == ["replica"]
            await forwarder.close()
            for _ in range(3):
                assert (await client.get("/")).json() == []
                await replicated.replica.check()
            assert caplog.text.count("Reads go to the primary") == 1

            await forwarder.open()
            await replicated.replica.check()
            assert (await client.get("/")).json() == ["replica"]

    async def test_only_the_first_request_waits_for_one_that_is_silent(
        self, with_replica: Settings, forwarder: Forwarder
    ) -> None:
        hasty = with_replica.model_copy(update={"database_connect_timeout": 0.4})
        async with open_database(hasty) as replicated, serving(replicated) as client:
            forwarder.is_silent = True
            begin = time.monotonic()
            for _ in range(40):
                assert (await client.get("/")).json() == []
            # Half a second for each would be more.
            assert time.monotonic() - begin < 15

    async def test_it_may_be_gone_at_the_start(
        self, database: Database, settings: Settings
    ) -> None:
        changes: dict[str, object] = {
            "database_url": database.engine.url,
            "database_replica_url": database.engine.url.set(port=free_port()),
        }
        async with (
            open_database(settings.model_copy(update=changes)) as replicated,
            serving(replicated) as client,
        ):
            assert (await client.get("/")).json() == []

    async def test_one_that_is_busy_does_not_send_its_load_to_the_primary(
        self, replicated: Database
    ) -> None:
        assert replicated.replica is not None
        holding = asyncio.Event()
        async with serving(replicated, holding) as client:
            slow = asyncio.create_task(client.get("/slow"))
            async with asyncio.timeout(20):
                await holding.wait()
            response = await client.get("/")
            assert response.status_code == 503
            assert response.json()["type"] == "urn:problem:database-unavailable"
            assert replicated.replica.is_usable
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow


async def test_behind_pgbouncer_the_limits_are_the_server_s_and_their_absence_is_logged(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        open_database(settings.model_copy(update={"database_pgbouncer": True})) as database,
        database.engine.connect() as connection,
    ):
        assert (await connection.execute(text("SHOW statement_timeout"))).scalar() == "0"
        assert (await connection.execute(text("SHOW timezone"))).scalar() == "UTC"
    assert "has no idle_in_transaction_session_timeout, lock_timeout" in caplog.text


async def test_behind_pgbouncer_no_statement_stays_on_the_server(settings: Settings) -> None:
    async with (
        open_database(settings.model_copy(update={"database_pgbouncer": True})) as database,
        database.engine.connect() as connection,
    ):
        for _ in range(3):
            statement = text("SELECT count(*) FROM pg_prepared_statements WHERE name <> :name")
            assert (await connection.execute(statement, {"name": ""})).scalar() == 0
