"""Reading rows as the services do."""

from collections.abc import Sequence
from uuid import UUID

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import ORMExecuteState
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.errors import NotFound, PreconditionFailed, problem_from_database_error
from app.core.etag import Precondition
from app.core.pagination import PageQuery
from app.core.schema import Boolean, Integer, ShortText
from app.database.base import uuid7
from app.database.queries import find_row, list_rows, lock_row
from app.database.session import Database
from tests.service.database.notes import Note


class NoteQuery(PageQuery):
    title: ShortText | None = None


class CountQuery(PageQuery):
    number: Integer | None = None
    done: Boolean | None = None


@pytest.fixture
async def notes(session: AsyncSession, database: Database) -> Sequence[Note]:
    """Five of them, in the order of their creation."""
    notes = [Note(title=f"note {number}") for number in range(5)]
    for note in notes:
        session.add(note)
        await session.flush()
    return notes


async def test_a_row_is_found_by_its_key(session: AsyncSession, notes: Sequence[Note]) -> None:
    assert await find_row(session, Note, notes[3].id) is notes[3]


async def test_a_row_that_the_session_has_is_not_read_again(
    session: AsyncSession, notes: Sequence[Note]
) -> None:
    reads: list[ORMExecuteState] = []
    event.listen(session.sync_session, "do_orm_execute", reads.append)
    assert await find_row(session, Note, notes[3].id) is notes[3]
    assert reads == []


@pytest.mark.committed
async def test_a_session_without_rows_reads_the_one_that_it_is_asked_for(
    database: Database,
) -> None:
    async with database.sessionmaker.begin() as session:
        session.add(note := Note(title="first"))
    async with database.reading() as session:
        found = await find_row(session, Note, note.id)
        assert found.title == "first"
        assert await find_row(session, Note, note.id) is found
        with pytest.raises(NotFound):
            await find_row(session, Note, uuid7())
    async with database.reading() as session:
        with pytest.raises(NotFound):
            await find_row(session, Note, uuid7())


@pytest.mark.parametrize("key", [UUID(int=0), UUID(int=2**128 - 1), uuid7()])
async def test_a_key_of_nobody_is_not_found(session: AsyncSession, key: UUID) -> None:
    with pytest.raises(NotFound):
        await find_row(session, Note, key)
    with pytest.raises(NotFound):
        await lock_row(session, Note, key, Precondition(None))


@pytest.mark.parametrize("tags", [{"2"}, {""}, {"01"}, set()])
async def test_a_row_in_another_state_is_not_locked(
    session: AsyncSession, notes: Sequence[Note], tags: set[str]
) -> None:
    with pytest.raises(PreconditionFailed):
        await lock_row(session, Note, notes[0].id, Precondition(frozenset(tags)))


@pytest.mark.parametrize("tags", [None, frozenset({"1"}), frozenset({"7", "1"})])
async def test_a_row_in_the_expected_state_is_locked(
    session: AsyncSession, notes: Sequence[Note], tags: frozenset[str] | None
) -> None:
    assert await lock_row(session, Note, notes[0].id, Precondition(tags)) is notes[0]


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6, 100])
async def test_pages_of_every_size_show_each_row_once(
    session: AsyncSession, notes: Sequence[Note], limit: int
) -> None:
    seen: list[Note] = []
    cursor: UUID | None = None
    while cursor is not None or not seen:
        query = PageQuery.model_construct(cursor=cursor, limit=limit)
        rows = await list_rows(session, Note, query)
        assert len(rows.items) <= limit
        seen += rows.items
        cursor = rows.last
    assert seen == notes


@pytest.mark.parametrize("limit", [2, 50])
async def test_the_order_is_that_of_the_keys_wherever_the_rows_lie(
    session: AsyncSession, database: Database, limit: int
) -> None:
    """Written in another order than their keys', and read without the help of an index."""
    keys = [UUID(int=number) for number in (3, 1, 5, 2, 4)]
    for key in keys:
        session.add(Note(id=key, title=f"note {key.int}"))
        await session.flush()
    connection = await session.connection()
    await connection.execute(text("SET LOCAL enable_indexscan = off"))
    await connection.execute(text("SET LOCAL enable_bitmapscan = off"))

    rows = await list_rows(session, Note, PageQuery(limit=limit))

    assert [note.id for note in rows.items] == sorted(keys)[:limit]


@pytest.mark.parametrize(
    ("cursor", "number"), [(UUID(int=0), 5), (UUID(int=2**128 - 1), 0)], ids=["first", "last"]
)
async def test_a_cursor_that_was_made_up_is_only_a_place_in_the_order(
    session: AsyncSession, notes: Sequence[Note], cursor: UUID, number: int
) -> None:
    rows = await list_rows(session, Note, PageQuery.model_construct(cursor=cursor, limit=50))
    assert len(rows.items) == number
    assert rows.last is None


@pytest.mark.parametrize("title", ["%", "_", "note%", "NOTE 1", "' OR 1=1 --", "note 1 --"])
async def test_a_filter_is_compared_and_never_interpreted(
    session: AsyncSession, notes: Sequence[Note], title: str
) -> None:
    assert (await list_rows(session, Note, NoteQuery(title=title))).items == []


async def test_a_filter_leaves_what_is_equal(session: AsyncSession, notes: Sequence[Note]) -> None:
    assert (await list_rows(session, Note, NoteQuery(title="note 1"))).items == [notes[1]]


async def test_a_filter_may_be_false_or_zero() -> None:
    query = CountQuery.model_validate({"number": "0", "done": "false"})
    assert query.filters() == {"number": 0, "done": False}


@pytest.mark.committed
async def test_a_row_is_locked_while_others_add_what_refers_to_it(
    session: AsyncSession, notes: Sequence[Note], database: Database
) -> None:
    """Where they never cease, a lock that waits for them all would never be had."""
    key = notes[0].id
    await session.commit()
    async with database.sessionmaker.begin() as other:
        # What PostgreSQL does for a foreign key, until the transaction that has inserted it ends.
        await (await other.connection()).execute(
            text("SELECT FROM note WHERE id = :key FOR KEY SHARE"), {"key": key}
        )
        async with database.sessionmaker.begin() as changing:
            row = await lock_row(changing, Note, key, Precondition(frozenset({"1"})))
            row.text = "changed meanwhile"


@pytest.mark.committed
async def test_a_row_that_is_locked_is_nobody_else_s(
    session: AsyncSession, notes: Sequence[Note], database: Database
) -> None:
    key = notes[0].id
    await session.commit()
    async with database.sessionmaker.begin() as first, database.sessionmaker() as second:
        await lock_row(first, Note, key, Precondition(None))
        await (await second.connection()).execute(text("SET LOCAL lock_timeout = '1ms'"))
        with pytest.raises(DBAPIError, match="lock timeout"):
            await lock_row(second, Note, key, Precondition(None))


@pytest.mark.committed
async def test_a_statement_whose_table_was_just_migrated_can_be_tried_again(
    database: Database,
) -> None:
    """The connection remembers the plan of a statement that selects every column."""
    select = text("SELECT * FROM note")
    async with database.engine.connect() as connection:
        await connection.execute(select)
        await connection.commit()
        async with database.engine.begin() as migration:
            await migration.execute(text("ALTER TABLE note ADD COLUMN later text"))

        with pytest.raises(DBAPIError) as caught:
            await connection.execute(select)
        problem = problem_from_database_error(caught.value)
        assert problem is not None
        assert problem.status == 503
        await connection.rollback()
        await connection.execute(select)
