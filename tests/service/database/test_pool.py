"""The pool: its order, and connections that are dead or busy."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace

import asyncpg
import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import select

from app.core.errors import DatabaseUnavailable, problem_from_database_error
from app.database import pool
from app.database.session import Database, open_database
from app.settings import Settings
from tests.service.database.notes import Note

pytestmark = pytest.mark.committed

TITLES = select(Note.title)
# A plain read that takes its time.
SLOW = text("SELECT count(*) FROM pg_class a, pg_class b, pg_class c, pg_class d")


@pytest.fixture
async def small(database: Database, settings: Settings) -> AsyncIterator[Database]:
    """The test's database with a single connection, which has been used."""
    changes = {
        "database_url": database.engine.url,
        "database_pool_size": 1,
        "database_pool_timeout": 5,
    }
    async with open_database(settings.model_copy(update=changes)) as small:
        await read(small)
        yield small


async def read(database: Database) -> None:
    async with database.reading() as session:
        await session.exec(TITLES)


async def terminate_others(database: Database) -> None:
    """End the connections of other pools to the same database, and wait until they have ended."""
    async with database.engine.connect() as connection:
        ended = text(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await connection.execute(ended)


async def test_who_waits_is_served_before_who_comes_later(small: Database) -> None:
    order: list[str] = []

    async def use(name: str) -> None:
        await read(small)
        order.append(name)

    async with small.engine.connect():
        waiting = [asyncio.create_task(use(str(number))) for number in range(3)]
        await asyncio.sleep(0.1)
    # The connection has just been returned, and nobody has been woken yet.
    newcomer = asyncio.create_task(use("newcomer"))
    await asyncio.gather(newcomer, *waiting)

    assert order == ["0", "1", "2", "newcomer"]


async def test_who_gives_up_waiting_takes_no_connection_along(small: Database) -> None:
    async with small.engine.connect():
        waiting = [asyncio.create_task(read(small)) for _ in range(3)]
        await asyncio.sleep(0.1)
        waiting[0].cancel()
    # This one has been handed the connection already, and has not run since.
    waiting[1].cancel()
    async with asyncio.timeout(3):
        await waiting[2]
        await read(small)


async def test_who_waits_too_long_is_told(database: Database, settings: Settings) -> None:
    changes = {
        "database_url": database.engine.url,
        "database_pool_size": 1,
        "database_pool_timeout": 0.1,
    }
    async with open_database(settings.model_copy(update=changes)) as hasty:
        async with hasty.engine.connect():
            with pytest.raises(PoolTimeoutError):
                await read(hasty)
        await read(hasty)


async def test_a_connection_that_the_server_has_ended_is_replaced(
    database: Database, small: Database
) -> None:
    for _ in range(5):
        await terminate_others(database)
        await asyncio.sleep(0.01)
        await read(small)


async def test_one_that_idled_and_was_lost_without_a_word_is_replaced(
    database: Database, small: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await terminate_others(database)
    await asyncio.sleep(0.01)
    is_closed, not_yet = asyncpg.Connection.is_closed, iter([False])
    monkeypatch.setattr(
        asyncpg.Connection, "is_closed", lambda it: next(not_yet, None) is None and is_closed(it)
    )
    monkeypatch.setattr(pool, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 2))
    await read(small)


@asynccontextmanager
async def locked_notes(database: Database) -> AsyncIterator[AsyncConnection]:
    """Let everybody who reads notes wait until the end, or until the connection's rollback."""
    async with database.engine.connect() as connection:
        await connection.execute(text("LOCK TABLE note"))
        yield connection


async def terminate_readers(connection: AsyncConnection) -> None:
    """End the connection of somebody who waits for notes, as soon as there is one."""
    ended = text(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks"
        " WHERE relation = 'note'::regclass AND NOT granted"
    )
    async with asyncio.timeout(5):
        while not (await connection.scalars(ended)).all():  # noqa: ASYNC110 - it is the server's
            await asyncio.sleep(0.01)


async def test_a_plain_read_is_tried_again_when_its_connection_is_lost(
    database: Database, small: Database
) -> None:
    async with locked_notes(database) as connection, small.reading() as session:
        before = await session.scalar(text("SELECT count(*) FROM pg_class"))
        reading = asyncio.create_task(session.exec(TITLES))
        await terminate_readers(connection)
        await connection.rollback()
        assert before
        assert (await reading).all() == []
    await read(small)


async def test_it_is_tried_again_once(database: Database, small: Database) -> None:
    async with locked_notes(database) as connection:
        reading = asyncio.create_task(read(small))
        await terminate_readers(connection)
        await terminate_readers(connection)
        await connection.rollback()
        with pytest.raises(SQLAlchemyError):
            await reading
    await read(small)


async def test_without_another_connection_it_is_a_503(database: Database, small: Database) -> None:
    def refuse(*_: object) -> None:
        raise DatabaseUnavailable("refused")

    async with locked_notes(database) as connection:
        reading = asyncio.create_task(read(small))
        event.listen(small.engine.sync_engine, "do_connect", refuse, insert=True)
        await terminate_readers(connection)
        with pytest.raises(SQLAlchemyError) as found:
            await reading
    problem = problem_from_database_error(found.value)
    assert problem is not None
    assert problem.status == 503
    event.remove(small.engine.sync_engine, "do_connect", refuse)
    await read(small)


async def test_a_read_in_a_transaction_is_lost_with_it(database: Database, small: Database) -> None:
    async def read_in_transaction() -> None:
        async with small.sessionmaker.begin() as session:
            await session.scalar(text("SELECT set_config('app.written', 'true', true)"))
            await session.exec(TITLES)

    async with locked_notes(database) as connection:
        reading = asyncio.create_task(read_in_transaction())
        await terminate_readers(connection)
        await connection.rollback()
        with pytest.raises(SQLAlchemyError):
            await reading
    await read(small)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_task_in_the_middle_of_a_plain_read_spoils_no_connection(
    small: Database, fails: bool
) -> None:
    started: list[asyncio.Task[object]] = []

    async def leave_behind() -> None:
        async with small.sessionmaker() as session, session.begin():
            started.append(asyncio.create_task(session.scalar(SLOW)))
            await asyncio.sleep(0.2)
            if fails:
                raise LookupError

    with suppress(LookupError):
        await leave_behind()
    await read(small)
    with pytest.raises(SQLAlchemyError):
        await started.pop()
    await read(small)
