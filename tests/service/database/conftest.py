"""The database with the table of these tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.database.session import Database
from template_tools.databases import TestDatabases
from tests.service.database.history import History, connected
from tests.service.database.notes import notes


@pytest.fixture
async def database(database: Database) -> Database:
    """The test's database; the table is rolled back, or thrown away, with everything else."""
    async with database.sessionmaker.begin() as session:
        await (await session.connection()).run_sync(notes.metadata.create_all)
    return database


@pytest.fixture
async def history(
    databases: TestDatabases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[History]:
    """An empty history, on a database without tables, which this process migrates as well."""
    url = await databases.create()
    async with connected(url) as connection:
        await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    monkeypatch.setenv("DATABASE_URL", url.render_as_string(hide_password=False))
    yield History(tmp_path / "migrations", url)
    await databases.drop(url)
