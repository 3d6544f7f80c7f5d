"""When the transaction of a session begins, and what is in it."""

from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from sqlalchemy import func, text
from sqlalchemy.orm import Session
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.database.session import Database, WriteInReadSession, open_database
from app.database.transactions import is_plain_read
from app.settings import Settings
from tests.service.database.forwarder import forwarding
from tests.service.database.notes import Note

TITLES = select(Note.title)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1",
        "\n  select a.id, count(*) FROM a WHERE a.b = $1::VARCHAR AND (a.c OR a.d) GROUP BY a.id",
        "SELECT a FROM b WHERE lower(c) = $1 AND d IN ($2::UUID, $3::UUID) LIMIT $4::INTEGER",
        "SELECT a FROM b WHERE EXISTS (SELECT FROM c WHERE NOT (c.d IS NULL)) ORDER BY a",
        "SELECT a.id, b.id FROM a LEFT OUTER JOIN (SELECT id FROM c) AS b ON (a.id = b.id)",
        "SELECT coalesce(sum(a), $1), CAST(b AS VARCHAR(10)) FROM c",
    ],
)
def test_a_plain_read_is_known(statement: str) -> None:
    assert is_plain_read(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO a VALUES (1)",
        "UPDATE a SET b = 1",
        "SAVEPOINT a",
        "SET LOCAL a = 1",
        "SHOW transaction_isolation",
        "LOCK TABLE a",
        "WITH a AS (DELETE FROM b RETURNING *) SELECT * FROM a",
        "SELECT a INTO b FROM c",
        "SELECT a FROM b FOR UPDATE",
        "SELECT a FROM b FOR NO KEY UPDATE SKIP LOCKED",
        "SELECT a FROM b for\nshare",
        "SELECT nextval('a')",
        "SELECT set_config('app.tenant', $1, true)",
        "SELECT pg_advisory_xact_lock ($1)",
        "SELECT a FROM b WHERE c > now()",
        "SELECT CURRENT_TIMESTAMP",
        'SELECT "Lower"(a), "f"(a) FROM b',
        "SELECT own.lower(a) FROM b",
        "SELECT lower(f(a)) FROM b",
        "SELECT f/**/(a) FROM b",
        "SELECT f -- (\n(a) FROM b",
        "SELECTED",
    ],
)
def test_in_doubt_a_statement_is_no_plain_read(statement: str) -> None:
    assert not is_plain_read(statement)


async def is_in_transaction(session: AsyncSession) -> bool:
    """Whether the connection of a session is in a transaction, by the driver."""
    connection = await session.run_sync(Session.connection)
    driver = connection.connection.driver_connection
    assert driver is not None
    found: bool = driver.is_in_transaction()
    return found


@pytest.fixture(params=["write", "read"])
async def own(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[AsyncSession]:
    """A session of each kind."""
    if request.param == "write":
        async with database.sessionmaker() as session, session.begin():
            yield session
    else:
        async with database.reading() as session:
            yield session


@pytest.mark.committed
class TestASession:
    async def test_begins_no_transaction_to_read(self, own: AsyncSession) -> None:
        await own.exec(TITLES)
        await own.get(Note, Note(title="").id)
        assert not await is_in_transaction(own)

    @pytest.mark.parametrize(
        "statement",
        [
            TITLES.with_for_update(key_share=True).where(col(Note.title) == "none"),
            select(func.pg_advisory_xact_lock_shared(1)),
            select(func.now()),
        ],
        ids=["lock", "function", "time"],
    )
    async def test_begins_one_for_what_is_more_than_a_read(
        self, database: Database, statement: object
    ) -> None:
        async with database.sessionmaker.begin() as session:
            await session.exec(TITLES)
            await session.exec(statement)  # type: ignore[call-overload]
            assert await is_in_transaction(session)
            await session.exec(TITLES)
            assert await is_in_transaction(session)

    async def test_is_a_transaction_from_its_first_write_to_its_end(
        self, database: Database
    ) -> None:
        with suppress(LookupError):
            async with database.sessionmaker.begin() as session:
                await session.exec(TITLES)
                session.add(Note(title="first"))
                await session.flush()
                assert (await session.exec(TITLES)).all() == ["first"]
                raise LookupError
        async with database.reading() as session:
            assert (await session.exec(TITLES)).all() == []

    async def test_keeps_what_a_savepoint_is_for(self, database: Database) -> None:
        async with database.sessionmaker.begin() as session:
            await session.exec(TITLES)
            with suppress(LookupError):
                async with session.begin_nested():
                    session.add(Note(title="inner"))
                    await session.flush()
                    raise LookupError
            session.add(Note(title="outer"))
        async with database.reading() as session:
            assert (await session.exec(TITLES)).all() == ["outer"]

    async def test_is_in_one_with_what_reaches_through_to_the_driver(
        self, database: Database
    ) -> None:
        """COPY, of which SQLAlchemy knows nothing."""
        with suppress(LookupError):
            async with database.sessionmaker.begin() as session:
                await session.exec(TITLES)
                raw = await (await session.connection()).get_raw_connection()
                assert raw.driver_connection is not None
                note = Note(title="copied")
                await raw.driver_connection.copy_records_to_table(
                    "note", records=[(note.id, note.title)], columns=["id", "title"]
                )
                raise LookupError
        async with database.reading() as session:
            assert (await session.exec(TITLES)).all() == []

    async def test_that_asks_for_a_stricter_isolation_has_it_from_its_first_read(
        self, database: Database
    ) -> None:
        async with database.sessionmaker.begin() as session:
            await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            before = (await session.exec(TITLES)).all()
            async with database.sessionmaker.begin() as other:
                other.add(Note(title="meanwhile"))
            assert (await session.exec(TITLES)).all() == before
        async with database.sessionmaker.begin() as session:
            await session.exec(TITLES)
            assert not await is_in_transaction(session)

    async def test_has_the_isolation_that_the_database_prescribes(
        self, database: Database, settings: Settings
    ) -> None:
        name = database.engine.url.database
        async with database.sessionmaker.begin() as session:
            change = f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'"
            await (await session.connection()).execute(text(change))
        strict = settings.model_copy(update={"database_url": database.engine.url})
        async with open_database(strict) as other, other.reading() as session:
            await session.exec(TITLES)
            assert await is_in_transaction(session)

    async def test_that_only_reads_is_refused_what_a_function_writes(
        self, database: Database
    ) -> None:
        with pytest.raises(WriteInReadSession):
            async with database.reading() as session:
                await session.exec(select(func.lo_creat(-1)))

    async def test_behind_pgbouncer_is_a_transaction_from_the_start(
        self, database: Database, settings: Settings
    ) -> None:
        changes = {"database_url": database.engine.url, "database_pgbouncer": True}
        async with open_database(settings.model_copy(update=changes)) as other:
            for sessionmaker in (other.sessionmaker, other.read_sessionmaker):
                async with sessionmaker.begin() as session:
                    await session.exec(TITLES)
                    assert await is_in_transaction(session)


@pytest.mark.committed
async def test_a_connection_that_does_not_even_report_a_timeout_is_not_used_again(
    database: Database, settings: Settings
) -> None:
    async with forwarding(database.engine.url) as forwarder:
        changes = {
            "database_url": database.engine.url.set(port=forwarder.port),
            "database_pool_size": 1,
            "database_command_timeout": 0.3,
        }
        async with open_database(settings.model_copy(update=changes)) as behind:
            async with behind.reading() as session:
                await session.exec(TITLES)
            forwarder.is_silent = True
            with pytest.raises(TimeoutError):
                async with behind.reading() as session:
                    await session.exec(TITLES)
            forwarder.is_silent = False
            async with behind.reading() as session:
                await session.exec(TITLES)
