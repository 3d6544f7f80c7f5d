"""What every table has."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.orm.exc import StaleDataError
from sqlmodel.ext.asyncio.session import AsyncSession

from app.database.base import uuid7
from app.database.model.user import User
from app.database.session import Database


async def _store(session: AsyncSession) -> User:
    user = User(username="alice", email="alice@example.com")
    session.add(user)
    await session.flush()
    return user


def test_keys_sort_by_the_time_of_their_making() -> None:
    before = datetime.now(UTC)
    keys = [uuid7() for _ in range(100)]

    assert {(key.version, key.variant) for key in keys} == {(7, "specified in RFC 4122")}
    assert len(set(keys)) == 100
    times = [datetime.fromtimestamp((key.int >> 80) / 1000, UTC) for key in keys]
    assert times == sorted(times)
    assert before - timedelta(milliseconds=1) <= times[0] <= datetime.now(UTC)
    assert isinstance(keys[0], UUID)


async def test_the_database_sets_the_times_in_utc(session: AsyncSession) -> None:
    user = await _store(session)

    now = (await session.connection()).scalar(text("SELECT now()"))
    assert user.created_at == user.updated_at == await now
    assert user.created_at.utcoffset() == timedelta(0)


async def test_an_update_counts_the_version_and_moves_the_time(database: Database) -> None:
    async with database.sessionmaker.begin() as session:
        user = await _store(session)
        assert user.version == 1

        user.full_name = "Alice"
        await session.flush()

        assert user.version == 2
        assert user.updated_at is not None


async def test_an_update_of_a_stale_row_is_refused(session: AsyncSession) -> None:
    user = await _store(session)
    await (await session.connection()).execute(text("UPDATE user_account SET version = 7"))

    user.full_name = "Alice"
    with pytest.raises(StaleDataError):
        await session.flush()
