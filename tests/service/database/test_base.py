"""What every table has."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.orm.exc import StaleDataError
from sqlmodel.ext.asyncio.session import AsyncSession

from app.database.base import uuid7
from app.database.session import Database
from tests.service.database.notes import Note


async def _store(session: AsyncSession) -> Note:
    note = Note(title="first")
    session.add(note)
    await session.flush()
    return note


def test_keys_sort_by_the_time_of_their_making() -> None:
    before = datetime.now(UTC)
    keys = [uuid7() for _ in range(10_000)]

    assert {(key.version, key.variant) for key in keys} == {(7, "specified in RFC 4122")}
    assert len(set(keys)) == len(keys)
    assert keys == sorted(keys), "those of one millisecond too"
    times = [datetime.fromtimestamp((key.int >> 80) / 1000, UTC) for key in keys]
    assert times == sorted(times)
    assert before - timedelta(milliseconds=1) <= times[0] <= datetime.now(UTC)
    assert isinstance(keys[0], UUID)


async def test_the_database_sets_the_times_in_utc(session: AsyncSession) -> None:
    note = await _store(session)

    now = (await session.connection()).scalar(text("SELECT now()"))
    assert note.created_at == note.updated_at == await now
    assert note.created_at.utcoffset() == timedelta(0)


async def test_an_update_counts_the_version_and_moves_the_time(database: Database) -> None:
    async with database.sessionmaker.begin() as session:
        note = await _store(session)
        assert note.version == 1

        note.text = "changed"
        await session.flush()

        assert note.version == 2
        assert note.updated_at is not None


async def test_an_update_of_a_stale_row_is_refused(session: AsyncSession) -> None:
    note = await _store(session)
    await (await session.connection()).execute(text("UPDATE note SET version = 7"))

    note.text = "changed"
    with pytest.raises(StaleDataError):
        await session.flush()
