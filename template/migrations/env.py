"""How Alembic reaches the database: through the service's own settings and models."""

import asyncio
import warnings
from logging.config import fileConfig

from alembic import context
from sqlalchemy import Connection
from sqlalchemy.exc import SAWarning
from sqlmodel import SQLModel

import app.database.model  # noqa: F401 - fills the metadata
from app.core.errors import DatabaseUnavailable
from app.core.settings import MigrationSettings, load_settings
from app.database.migration import MigrationError, Migrator
from app.database.session import create_engine
from migrations.autogenerate import complete_revision, render_item


def configure(connection: Connection | None, migrator: Migrator | None = None) -> None:
    """Tell Alembic how to migrate: each revision in a transaction of its own.

    So one that fails takes none of its predecessors with it, and one that has to leave the
    transaction may do so, by ``op.get_context().autocommit_block()``.
    """
    context.configure(
        connection=connection,
        dialect_name="postgresql" if connection is None else None,
        literal_binds=connection is None,
        transaction_per_migration=True,
        target_metadata=SQLModel.metadata,
        compare_type=True,
        compare_server_default=True,
        render_item=render_item,
        process_revision_directives=complete_revision,
        on_version_apply=migrator.refuse_invalid_indexes if migrator else None,
    )
    if migrator:
        migrator.take_over(context.get_context())


def run_migrations() -> None:
    """Run them, or print their SQL where there is no connection."""
    with context.begin_transaction():
        context.run_migrations()


async def migrate() -> None:
    """Connect, wait until nobody else migrates, and run the migrations on that connection."""
    settings = load_settings(MigrationSettings)
    url = settings.migration_database_url or settings.database_url
    direct = settings.model_copy(update={"database_url": url, "database_pgbouncer": False})
    engine = create_engine(direct, pooled=False)
    try:
        async with engine.connect() as connection:
            migrator = Migrator(connection, settings, SQLModel.metadata)
            await connection.run_sync(configure, migrator)
            # `alembic current` only reads; it answers while another process migrates, too.
            if not context.get_context().opts.get("dont_mutate"):
                await migrator.take_turn()
            await migrator.run(run_migrations)
    finally:
        await engine.dispose()


if context.config.config_file_name is not None:
    # Loggers that exist already, such as a test's, go on.
    fileConfig(context.config.config_file_name, disable_existing_loggers=False)

# What autogenerate reads of a check that is not valid yet is too much for SQLAlchemy's own class.
# Checks are not compared anyway.
warnings.filterwarnings("ignore", "Can't validate argument 'dialect_options'", SAWarning)

if context.is_offline_mode():
    configure(None)
    run_migrations()
else:
    try:
        asyncio.run(migrate())
    except DatabaseUnavailable as error:
        raise SystemExit(f"The database of DATABASE_URL is unavailable: {error.reason}") from None
    except MigrationError as error:
        raise SystemExit(f"The migrations have stopped. {error}") from None
