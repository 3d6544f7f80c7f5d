"""Sessions, transactions, and a database that is not there."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.errors import NotFound, add_exception_handlers
from app.database.session import Database, DbSession, create_engine, open_database
from app.settings import Settings
from template_tools.processes import free_port
from tests.service.database.notes import Note


@asynccontextmanager
async def calling(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def _note() -> Note:
    return Note(title="first")


async def test_a_request_that_fails_leaves_nothing_behind(
    database: Database, session: AsyncSession
) -> None:
    app = FastAPI()
    add_exception_handlers(app)
    app.state.database = database

    @app.post("/")
    async def write_then_fail(session: DbSession) -> None:
        session.add(_note())
        await session.flush()
        raise NotFound("Nothing here.")

    async with calling(app) as client:
        assert (await client.post("/")).status_code == 404
    assert (await session.exec(select(Note))).first() is None


@pytest.mark.committed
async def test_a_commit_that_fails_is_never_answered_with_success(database: Database) -> None:
    """The constraint is checked at the commit, when a plain dependency has answered already."""
    async with database.engine.begin() as connection:
        await connection.execute(
            text(
                "ALTER TABLE note ADD COLUMN parent uuid"
                " REFERENCES note DEFERRABLE INITIALLY DEFERRED"
            )
        )
    app = FastAPI()
    add_exception_handlers(app)
    app.state.database = database

    @app.post("/")
    async def refer_to_nobody(session: DbSession) -> None:
        session.add(_note())
        await session.flush()
        connection = await session.connection()
        await connection.execute(text("UPDATE note SET parent = gen_random_uuid()"))

    async with calling(app) as client:
        assert (await client.post("/")).status_code == 409
    async with database.sessionmaker() as session:
        assert (await session.exec(select(Note))).first() is None


@pytest.mark.committed
async def test_rows_stay_readable_after_the_commit(database: Database) -> None:
    async with database.sessionmaker.begin() as session:
        note = _note()
        session.add(note)
    assert note.title == "first"


async def test_a_database_that_is_not_there_is_a_503_with_a_time_to_retry(
    settings: Settings,
) -> None:
    url = settings.database_url.set(host="127.0.0.1", port=free_port())
    app = FastAPI()
    add_exception_handlers(app)

    @app.get("/")
    async def read(session: DbSession) -> None:
        await (await session.connection()).execute(text("SELECT 1"))

    async with (
        open_database(settings.model_copy(update={"database_url": url})) as app.state.database,
        calling(app) as client,
    ):
        response = await client.get("/")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.json()["type"] == "urn:problem:database-unavailable"


@pytest.mark.parametrize(
    "change", [{"password": "canary"}, {"database": "app_test_absent"}], ids=str
)
async def test_a_database_that_lets_nobody_in_is_a_503_and_the_log_says_why(
    settings: Settings, caplog: pytest.LogCaptureFixture, change: dict[str, str]
) -> None:
    url = settings.database_url.set(**change)  # type: ignore[arg-type]
    app = FastAPI()
    add_exception_handlers(app)

    @app.get("/")
    async def read(session: DbSession) -> None:
        await (await session.connection()).execute(text("SELECT 1"))

    async with (
        open_database(settings.model_copy(update={"database_url": url})) as app.state.database,
        calling(app) as client,
    ):
        response = await client.get("/")
    assert response.status_code == 503
    assert "Cannot connect to the database" in caplog.text
    assert "canary" not in caplog.text + response.text


async def test_a_pool_that_is_used_up_is_a_503(settings: Settings, database: Database) -> None:
    small = settings.model_copy(update={"database_pool_size": 1, "database_pool_timeout": 0.05})
    app = FastAPI()
    add_exception_handlers(app)

    @app.get("/")
    async def read(session: DbSession) -> None:
        await (await session.connection()).execute(text("SELECT 1"))

    async with open_database(small) as app.state.database, calling(app) as client:
        async with app.state.database.engine.connect():
            response = await client.get("/")
        assert response.status_code == 503
        assert (await client.get("/")).status_code == 200


async def test_a_statement_that_takes_too_long_is_ended_by_the_server(settings: Settings) -> None:
    hasty = settings.model_copy(
        update={"database_lock_timeout": 0.2, "database_statement_timeout": 0.3}
    )
    app = FastAPI()
    add_exception_handlers(app)

    @app.get("/")
    async def read(session: DbSession) -> None:
        await (await session.connection()).execute(text("SELECT pg_sleep(5)"))

    async with open_database(hasty) as app.state.database, calling(app) as client:
        assert (await client.get("/")).status_code == 504


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        ("lock_timeout", "1234ms"),
        ("statement_timeout", "5678ms"),
        ("idle_in_transaction_session_timeout", "15s"),
    ],
)
async def test_the_server_knows_the_limits_of_requests(
    settings: Settings, limit: str, value: str
) -> None:
    limited = settings.model_copy(
        update={
            "database_pgbouncer": False,
            "database_lock_timeout": 1.234,
            "database_statement_timeout": 5.678,
        }
    )
    async with open_database(limited) as database, database.engine.connect() as connection:
        assert (await connection.execute(text(f"SHOW {limit}"))).scalar() == value


async def test_an_error_does_not_repeat_the_values_of_its_statement(
    session: AsyncSession,
) -> None:
    for _ in range(2):
        session.add(Note(title="first", text="top secret"))

    with pytest.raises(IntegrityError, match="uq_note_title") as caught:
        await session.flush()

    assert "top secret" not in str(caught.value)


async def test_migrations_connect_without_the_limits_of_requests(settings: Settings) -> None:
    engine = create_engine(settings, pooled=False)
    async with engine.connect() as connection:
        assert (await connection.execute(text("SHOW statement_timeout"))).scalar() == "0"
    await engine.dispose()


async def test_times_are_utc_whatever_the_server_says(database: Database) -> None:
    async with database.engine.connect() as connection:
        assert (await connection.execute(text("SHOW timezone"))).scalar() == "UTC"
