"""The database with the table of these tests."""

import pytest

from app.database.session import Database
from tests.database.notes import notes


@pytest.fixture
async def database(database: Database) -> Database:
    """The test's database; the table is rolled back, or thrown away, with everything else."""
    async with database.sessionmaker.begin() as session:
        await (await session.connection()).run_sync(notes.metadata.create_all)
    return database
