"""How Alembic reaches the database: through the service's own settings and models."""

import asyncio
import logging
from logging.config import fileConfig
from typing import Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from alembic.migration import MigrationContext
from alembic.operations.ops import MigrationScript
from sqlalchemy import Connection
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import AutoString, UTCDateTime

import app.database.model  # noqa: F401 - fills the metadata
from app.core.errors import DatabaseUnavailable
from app.core.settings import DatabaseSettings, load_settings
from app.database.session import create_engine


def render_item(kind: str, item: object, _autogen_context: AutogenContext) -> str | Literal[False]:
    """Write SQLModel's own types as SQLAlchemy's; a migration has no import for them."""
    if kind == "type" and isinstance(item, AutoString):
        return f"sa.String(length={item.length})" if item.length else "sa.String()"
    if kind == "type" and isinstance(item, UTCDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def skip_empty_revision(
    _context: MigrationContext, _revision: object, directives: list[MigrationScript]
) -> None:
    """Write no file where the models and the database agree; autogenerate would write one."""
    script = directives[0]
    # `alembic check` comes here too, with a script that has no message, and needs to keep it.
    if script.message and script.upgrade_ops and script.upgrade_ops.is_empty():
        directives.clear()
        logging.getLogger("alembic.env").warning("The models have not changed: nothing to write.")


def run_migrations(connection: Connection | None) -> None:
    """Run them in one transaction, or print their SQL where there is no connection."""
    context.configure(
        connection=connection,
        dialect_name="postgresql" if connection is None else None,
        literal_binds=connection is None,
        target_metadata=SQLModel.metadata,
        compare_type=True,
        compare_server_default=True,
        render_item=render_item,
        process_revision_directives=skip_empty_revision,
    )
    with context.begin_transaction():
        context.run_migrations()


async def migrate() -> None:
    """Connect, and run the migrations on that connection."""
    engine = create_engine(load_settings(DatabaseSettings), pooled=False)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(run_migrations)
    except DatabaseUnavailable as error:
        raise SystemExit(f"The database of DATABASE_URL is unavailable: {error.reason}") from None
    finally:
        await engine.dispose()


if context.config.config_file_name is not None:
    # Loggers that exist already, such as a test's, go on.
    fileConfig(context.config.config_file_name, disable_existing_loggers=False)

if context.is_offline_mode():
    run_migrations(None)
else:
    asyncio.run(migrate())
