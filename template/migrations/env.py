"""Alembic's environment: the database, the models, and how revisions are run."""

import asyncio
import warnings
from logging.config import fileConfig
from typing import Any

from alembic import context
from sqlalchemy import Connection
from sqlalchemy.exc import SAWarning
from sqlmodel import SQLModel

import app.database.model  # noqa: F401 - fills the metadata
from app.core.errors import DatabaseUnavailable
from app.core.settings import MigrationSettings, load_settings
from app.database.session import create_engine
from migrations.autogenerate import complete_revision, only_ours, render_item
from migrations.migrator import MigrationError, Migrator, Plan, plan_with_one_head, read_history


def configure(connection: Connection | None, /, **options: Any) -> None:  # noqa: ANN401
    """Configure Alembic to run each revision in a transaction of its own.

    A revision that fails then leaves its predecessors applied, and one that needs to leave the
    transaction can: ``with op.get_context().autocommit_block()``.
    """
    context.configure(
        connection=connection,
        dialect_name="postgresql" if connection is None else None,
        literal_binds=connection is None,
        transaction_per_migration=True,
        target_metadata=SQLModel.metadata,
        compare_type=True,
        compare_server_default=True,
        include_schemas=True,
        render_item=render_item,
        process_revision_directives=complete_revision,
        **options,
    )


def run_migrations() -> None:
    """Run the command's revisions, or print their SQL in offline mode."""
    with context.begin_transaction():
        context.run_migrations()


async def migrate(plan: Plan) -> None:
    """Connect, wait until no other process migrates, and run the command."""
    settings = load_settings(MigrationSettings)
    url = settings.migration_database_url or settings.database_url
    direct = settings.model_copy(update={"database_url": url, "database_pgbouncer": False})
    engine = create_engine(direct, pooled=False)
    try:
        async with engine.connect() as connection:
            migrator = Migrator(connection, settings, SQLModel.metadata)
            sync = connection.sync_connection
            assert sync is not None  # noqa: S101 - it is open
            configure(
                sync,
                fn=migrator.plan_once(plan),
                include_name=only_ours(sync, context.script),
                on_version_apply=migrator.refuse_invalid_indexes,
            )
            # `alembic current` only reads, and need not wait for a process that migrates.
            if not context.get_context().opts.get("dont_mutate"):
                await migrator.take_lock()
            await migrator.run(run_migrations)
    except DatabaseUnavailable as error:
        setting = "MIGRATION_DATABASE_URL" if settings.migration_database_url else "DATABASE_URL"
        raise SystemExit(
            f"The database could not be reached: {error.reason}. See {setting}."
        ) from None
    finally:
        await engine.dispose()


# Only a configured context tells the command's plan, which migrate() wraps. This comes before the
# logging is set up, or Alembic would announce both contexts.
context.configure(dialect_name="postgresql")
plan: Plan = context.get_context().opts["fn"]

if context.config.config_file_name is not None:
    # Loggers that exist already, such as those of tests, stay enabled.
    fileConfig(context.config.config_file_name, disable_existing_loggers=False)

# SQLAlchemy reflects that a CHECK is NOT VALID yet, and then warns about its own option. Alembic
# does not compare CHECK constraints anyway.
warnings.filterwarnings("ignore", "Can't validate argument 'dialect_options'", SAWarning)

try:
    read_history(context.script)
    if context.is_offline_mode():
        configure(None, fn=plan_with_one_head(plan))
        run_migrations()
    else:
        asyncio.run(migrate(plan))
except MigrationError as error:
    raise SystemExit(f"The migrations have stopped: {error}") from None
