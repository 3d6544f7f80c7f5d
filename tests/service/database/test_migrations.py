"""The history of the schema, as a whole."""

import asyncio

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import URL

from template_tools.configuration import PROJECT_ROOT
from template_tools.test_database import TestDatabases, check, migrate


async def test_the_migrations_build_what_the_models_describe(database_url: URL) -> None:
    """A model that changed without a migration fails here: run `uv run poe revision`."""
    await asyncio.to_thread(check, database_url)


async def test_every_migration_can_be_taken_back_and_applied_again(
    databases: TestDatabases,
) -> None:
    url = await databases.create()
    await asyncio.to_thread(migrate, url, "base")
    await asyncio.to_thread(migrate, url, "head")
    await asyncio.to_thread(check, url)
    await databases.drop(url)


def test_the_history_has_one_head() -> None:
    """Two heads come from two branches that were merged: `alembic merge heads` joins them."""
    config = Config()
    config.set_main_option("script_location", str(PROJECT_ROOT / "migrations").replace("%", "%%"))
    assert len(ScriptDirectory.from_config(config).get_heads()) <= 1
