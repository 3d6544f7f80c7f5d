"""Migrations that every replica may start at once, and that never block the service for long.

``migrations/env.py`` puts them around Alembic: an advisory lock admits one migrator at a time, a
revision that waits too long for a table is rolled back and tried again, and none counts as
applied while an index is invalid.
"""

import asyncio
import logging
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.project import DOCUMENTATION
from app.core.settings import MigrationSettings

# alembic.ini sends this logger's messages to stderr.
logger = logging.getLogger("alembic.env")

# Replicas of different releases must use the same lock, so the number never changes.
_LOCK = 0x6D696772617465
_POLL_SECONDS = 0.25
_LONGEST_PAUSE = 15.0
# lock_not_available and deadlock_detected: the same statements may succeed a moment later.
_RETRIED = {"55P03", "40P01"}

# Limits that a role or a database may have are meant for requests.
_NO_TIMEOUTS = text(
    "SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN"
    " ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout')"
)
_INVALID_INDEXES = text("""
    SELECT indexrelid::regclass::text
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE NOT indisvalid
      -- A partitioned table's own index is invalid until each of the partitions has one.
      AND relkind = 'i'
      AND indrelid IN (SELECT to_regclass(name) FROM unnest(CAST(:tables AS text[])) AS name)
      -- Another session may be building it right now.
      AND indexrelid NOT IN (
          SELECT index_relid FROM pg_stat_progress_create_index WHERE index_relid IS NOT NULL
      )
    ORDER BY 1
""")

# What to do about an error, by its code or class of codes.
_ADVICE = {
    "23502": "The table has rows without a value for the column: give the column a server_default,"
    f" as {DOCUMENTATION}/add-a-field.md shows, or allow NULL. ",
    "23": "Rows that exist do not fulfil the constraint: change them first. ",
    "42501": "Migrate with a role that may do this: MIGRATION_DATABASE_URL. ",
    "42804": "Say how to convert the values: postgresql_using=... in op.alter_column. ",
}

type Plan = Callable[[tuple[str, ...], MigrationContext], Iterable[RevisionStep]]


class MigrationError(Exception):
    """The migrations cannot continue; the message says why, and what to do about it."""


class Migrator:
    """Runs one Alembic command on one connection."""

    def __init__(
        self, connection: AsyncConnection, settings: MigrationSettings, metadata: MetaData
    ) -> None:
        self._connection = connection
        self._lock_timeout = settings.migration_lock_timeout
        self._wait_timeout = settings.migration_wait_timeout
        self._metadata = metadata
        self._is_partly_committed = False
        self._revision: Script | None = None

    async def take_lock(self) -> None:
        """Wait until no other process migrates the database, and keep others out from then on.

        The lock belongs to the connection. A process that is killed therefore holds it until the
        server has ended its last statement, and no longer.

        Raises:
            MigrationError: Another process has held it for MIGRATION_WAIT_TIMEOUT.
        """
        await self._connection.execute(_NO_TIMEOUTS)
        deadline = time.monotonic() + self._wait_timeout
        if await self._try_lock():
            return
        logger.warning("Another process is migrating the database; waiting for it to finish.")
        # The lock is polled. CREATE INDEX CONCURRENTLY waits for all older statements to end: if
        # one of them waited in the server for the lock of that session, both would wait for ever.
        while not await self._try_lock():
            if time.monotonic() > deadline:
                raise MigrationError(
                    f"Another process is still migrating the database after {self._wait_timeout:g}"
                    " s (MIGRATION_WAIT_TIMEOUT). pg_locks has its pid beside the advisory lock, "
                    "and pg_stat_activity shows what it is doing."
                )
            await asyncio.sleep(_POLL_SECONDS)

    async def _try_lock(self) -> bool:
        result = await self._connection.execute(
            text("SELECT pg_try_advisory_lock(:lock)"), {"lock": _LOCK}
        )
        # The session keeps the lock when the transaction ends.
        await self._connection.commit()
        return bool(result.scalar_one())

    def plan_once(self, plan: Plan) -> Plan:
        """Make Alembic's plan continue, when it is run again, with the revisions that are left.

        Planned anew after one of two revisions, ``downgrade -2`` would take back two more.
        """
        steps: deque[RevisionStep] | None = None

        def remaining(heads: tuple[str, ...], context: MigrationContext) -> Iterator[RevisionStep]:
            nonlocal steps
            if steps is None:
                _refuse_unknown(heads, context)
                steps = deque(plan_with_one_head(plan)(heads, context))
            while steps:
                self._is_partly_committed = False
                self._revision = getattr(steps[0], "revision", None)  # A stamp has none.
                yield steps[0]
                # Alembic has committed a revision by the time that it asks for the next one.
                steps.popleft()

        return remaining

    async def run(self, run_migrations: Callable[[], None]) -> None:
        """Run the migrations; roll back and retry a revision that could not get a lock.

        A statement that waits for a lock on a table blocks everyone who comes after it, readers
        included. MIGRATION_LOCK_TIMEOUT ends its wait, and lets them pass.

        Raises:
            MigrationError: Retrying took longer than MIGRATION_WAIT_TIMEOUT, or the database
                refused a statement.
        """
        event.listen(self._connection.sync_connection, "begin", self._on_begin)
        waited = 0.0
        while True:
            try:
                return await self._connection.run_sync(lambda _: run_migrations())
            except DBAPIError as error:
                if error.connection_invalidated:
                    raise
                await self._connection.rollback()
                if self._is_partly_committed:
                    raise MigrationError(
                        "A revision failed after its autocommit_block had committed a part of it, "
                        f"so that it cannot simply run again: {error.orig}\n"
                        + await self._connection.run_sync(_remedy, self._metadata)
                    ) from error
                if getattr(error.orig, "sqlstate", None) not in _RETRIED:
                    raise MigrationError(self._describe(error)) from error
                if waited > self._wait_timeout:
                    raise MigrationError(
                        f"Gave up after waiting {waited:.0f} s for locks (MIGRATION_WAIT_TIMEOUT). "
                        "pg_stat_activity shows the long transactions that hold them. The "
                        "revisions so far are applied; run the migrations again."
                    ) from error
            pause = min(1 + waited, _LONGEST_PAUSE)
            waited += self._lock_timeout + pause
            logger.warning("Could not get a lock: rolled back, trying again in %.0f s.", pause)
            await asyncio.sleep(pause)

    def _describe(self, error: DBAPIError) -> str:
        """Say which revision failed, why, and what to do, without the values of rows."""
        cause = error.orig.__cause__ if error.orig else None
        message = str(cause.args[0]) if cause and cause.args else str(error.orig)
        statement = " ".join((error.statement or "").split())
        state: str = getattr(error.orig, "sqlstate", None) or ""
        advice = next((_ADVICE[key] for key in (state, state[:2]) if key in _ADVICE), "")
        if self._revision is None:
            return f"{message}, in: {statement} {advice}"
        return (
            f"{Path(self._revision.path).name} was rolled back: {message}, in:\n\n"
            f"  {statement}\n\n{advice}The revisions before it stay applied."
        )

    def _on_begin(self, connection: Connection) -> None:
        if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
            # An autocommit_block has committed what came before it. It has no lock timeout: CREATE
            # INDEX CONCURRENTLY blocks nobody while it waits, and would leave an invalid index.
            self._is_partly_committed = True
            return
        # SQLAlchemy's own transaction does not exist yet, so that it could not execute this.
        cursor = connection.connection.cursor()
        # Zero would mean no timeout.
        cursor.execute(f"SET LOCAL lock_timeout = {max(1, round(self._lock_timeout * 1000))}")
        cursor.close()

    def refuse_invalid_indexes(self, ctx: MigrationContext, **_: object) -> None:
        """Keep a revision from counting as applied while an index of our tables is invalid.

        CREATE INDEX CONCURRENTLY leaves an invalid index behind when it fails: each write pays
        for it, no query uses it, and IF NOT EXISTS takes it for a good one.

        Raises:
            MigrationError: There is such an index.
        """
        assert ctx.connection is not None  # noqa: S101 - only offline mode has no connection
        if invalid := _invalid_indexes(ctx.connection, self._metadata):
            raise MigrationError(_mend(invalid))


def read_history(scripts: ScriptDirectory) -> None:
    """Read the revisions' files.

    Raises:
        MigrationError: Two have the same identifier, or one follows a revision that has no file.
    """
    try:
        with warnings.catch_warnings(action="error"):
            scripts.get_heads()
    except (CommandError, UserWarning) as error:
        raise MigrationError(
            f"migrations/versions is not a history: {error}. A merge of two branches may have lost "
            "a file, or brought one with the identifier of another: put it back, or change the "
            "identifier (`revision`), and the `down_revision` of what follows."
        ) from error


def plan_with_one_head(plan: Plan) -> Plan:
    """Say what to do where Alembic's plan fails because the history has several heads."""

    def planned(heads: tuple[str, ...], context: MigrationContext) -> Iterable[RevisionStep]:
        assert context.script is not None  # noqa: S101 - a command has its scripts
        try:
            return [*plan(heads, context)]
        except CommandError as error:
            ends = context.script.get_heads()
            if len(ends) < 2:
                raise
            raise MigrationError(
                f"The history has {len(ends)} heads, {' and '.join(sorted(ends))}: branches that "
                "were merged have each added a revision. Join them with `uv run poe merge`, and "
                "try again."
            ) from error

    return planned


def _refuse_unknown(heads: tuple[str, ...], context: MigrationContext) -> None:
    assert context.script is not None  # noqa: S101 - a command has its scripts
    known = {script.revision for script in context.script.walk_revisions()}
    if unknown := [head for head in heads if head not in known]:
        raise MigrationError(
            f"The database is at {', '.join(unknown)}, and migrations/versions has no such "
            "revision: a newer release or another branch has migrated it, or the file is gone. "
            "Run `alembic downgrade` where the file is, or start this release without migrating. "
            "In development, `uv run poe db --fresh` begins with an empty database."
        )


def _invalid_indexes(connection: Connection, metadata: MetaData) -> list[str]:
    """Return the names of our tables' indexes that are neither valid nor being built."""
    quote = connection.dialect.identifier_preparer.format_table
    tables = [quote(table) for table in metadata.tables.values()]
    return list(connection.execute(_INVALID_INDEXES, {"tables": tables}).scalars())


def _remedy(connection: Connection, metadata: MetaData) -> str:
    invalid = _invalid_indexes(connection, metadata)
    return _mend(invalid) if invalid else "Repair the schema by hand, and stamp the revision."


def _mend(invalid: list[str]) -> str:
    drops = " ".join(f"DROP INDEX CONCURRENTLY {name};" for name in invalid)
    return f"Drop the index that was never finished, and run the migrations again: {drops}"
