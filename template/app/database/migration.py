"""Migrations that every replica may start at once, and that never hold up the service for long.

This is what ``migrations/env.py`` adds to Alembic: one migrator at a time, a short wait for each
lock with another attempt after it, and a look at the indexes before a revision counts as applied.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator

from alembic.runtime.migration import MigrationContext, RevisionStep
from sqlalchemy import Connection, MetaData, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.settings import MigrationSettings

# What alembic.ini sends to the standard error.
logger = logging.getLogger("alembic.env")

# Replicas of different releases have to agree on the lock: the number never changes.
_LOCK = 0x6D696772617465
_POLL_SECONDS = 0.25
_LONGEST_PAUSE = 15.0
# lock_not_available and deadlock_detected: what fails today may succeed in a moment.
_PASSING = {"55P03", "40P01"}

_INVALID_INDEXES = text("""
    SELECT indexrelid::regclass::text
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE NOT indisvalid
      -- A partitioned table's own index is invalid until each of the partitions has one.
      AND relkind = 'i'
      AND indrelid IN (SELECT to_regclass(name) FROM unnest(CAST(:tables AS text[])) AS name)
      -- Somebody may be building it at this moment.
      AND indexrelid NOT IN (
          SELECT index_relid FROM pg_stat_progress_create_index WHERE index_relid IS NOT NULL
      )
    ORDER BY 1
""")

type Plan = Callable[[tuple[str, ...], MigrationContext], Iterable[RevisionStep]]


class MigrationError(Exception):
    """The migrations cannot go on; the message says why, and what to do about it."""


class Migrator:
    """One command of Alembic's, on one connection.

    The lock belongs to the connection that migrates. A process that is killed therefore keeps it
    until the server has ended its last statement, and no longer.
    """

    def __init__(
        self, connection: AsyncConnection, settings: MigrationSettings, metadata: MetaData
    ) -> None:
        self._connection = connection
        self._metadata = metadata
        self._lock_timeout = settings.migration_lock_timeout
        self._wait_timeout = settings.migration_wait_timeout
        self._steps: list[RevisionStep] = []
        self._done = 0
        self._commits = 0
        self._waiting_since: float | None = None

    async def take_turn(self) -> None:
        """Wait until no other migrator is at work, and hold the others off from then on.

        The lock is asked for again and again. CREATE INDEX CONCURRENTLY waits for every statement
        that is older, so that one which waited for the lock in the database would be a deadlock.

        Raises:
            MigrationError: Another migrator is at work for longer than MIGRATION_WAIT_TIMEOUT.
        """
        # The limits that a role or a database may have are meant for requests.
        for limit in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            await self._connection.execute(text(f"SET {limit} = 0"))
        deadline = time.monotonic() + self._wait_timeout
        waiting = False
        while not await self._try_lock():
            if not waiting:
                logger.warning("Another migrator is at work: waiting until it has ended.")
                waiting = True
            if time.monotonic() > deadline:
                raise MigrationError(
                    f"Another migrator is at work for more than {self._wait_timeout:g} s "
                    "(MIGRATION_WAIT_TIMEOUT). pg_stat_activity shows what it does; it has the "
                    "pid that pg_locks names beside the advisory lock."
                )
            await asyncio.sleep(_POLL_SECONDS)

    async def _try_lock(self) -> bool:
        result = await self._connection.execute(
            text("SELECT pg_try_advisory_lock(:lock)"), {"lock": _LOCK}
        )
        # A session keeps its lock beyond the transaction.
        await self._connection.commit()
        return bool(result.scalar_one())

    def take_over(self, context: MigrationContext) -> None:
        """Have Alembic's plan go on, the next time that it runs, where it has stopped.

        Made anew after one of two revisions, the plan of ``downgrade -2`` would be two more.
        """
        plan: Plan = context.opts["fn"]

        def steps_left(heads: tuple[str, ...], context: MigrationContext) -> Iterator[RevisionStep]:
            _refuse_unknown(heads, context)
            self._steps = self._steps or list(plan(heads, context))
            for step in self._steps[self._done :]:
                self._commits = 0
                yield step
                # Alembic has committed it when it asks for the next one.
                self._done += 1
                self._waiting_since = None

        # It could be given to context.configure(), but that is where one learns what it was.
        context._migrations_fn = steps_left

    async def run(self, run_migrations: Callable[[], None]) -> None:
        """Run the migrations; a revision that cannot have a lock begins again a little later.

        Whoever queues for a lock on a table holds up all who come after, readers as well. So each
        wait ends after MIGRATION_LOCK_TIMEOUT, and the queue moves on.

        Raises:
            MigrationError: A revision had no luck for MIGRATION_WAIT_TIMEOUT, or failed when a
                part of it had been committed.
        """
        event.listen(self._connection.sync_connection, "begin", self._limit_waits)
        event.listen(self._connection.sync_connection, "commit", self._count_commit)
        while True:
            try:
                await self._connection.run_sync(lambda _: run_migrations())
            except DBAPIError as error:
                if self._done >= len(self._steps) or error.connection_invalidated:
                    raise
                await self._connection.rollback()
                if self._commits:
                    raise MigrationError(await self._half_done(error)) from error
                if getattr(error.orig, "sqlstate", None) not in _PASSING:
                    raise
                await self._pause()
            else:
                return

    def _limit_waits(self, connection: Connection) -> None:
        # Outside a transaction stands CREATE INDEX CONCURRENTLY, which holds up nobody while it
        # waits; a limit would leave an invalid index.
        if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
            return
        # SQLAlchemy's side of the transaction does not exist yet, and cannot be asked to execute.
        cursor = connection.connection.cursor()
        # Zero would be no limit at all.
        cursor.execute(f"SET LOCAL lock_timeout = {max(1, round(self._lock_timeout * 1000))}")
        cursor.close()

    def _count_commit(self, _connection: Connection) -> None:
        self._commits += 1

    async def _pause(self) -> None:
        """Wait, the longer the longer it has been going on.

        Raises:
            MigrationError: It has been going on for too long.
        """
        now = time.monotonic()
        self._waiting_since = self._waiting_since or now
        waited = now - self._waiting_since
        step = self._steps[self._done]
        if waited > self._wait_timeout:
            raise MigrationError(
                f"Gave up after {waited:.0f} s (MIGRATION_WAIT_TIMEOUT): {step} needs a lock that "
                "other transactions hold. pg_stat_activity shows the long ones. What came before "
                "it is applied; run the migrations again."
            )
        pause = min(1 + waited, _LONGEST_PAUSE)
        logger.warning(
            "A table is in use for more than %g s: %s begins again in %.0f s.",
            self._lock_timeout,
            step,
            pause,
        )
        await asyncio.sleep(pause)

    async def _half_done(self, error: DBAPIError) -> str:
        message = (
            f"{self._steps[self._done]} has failed: {error.orig}\nThe part of it before, or in, "
            "its autocommit_block is committed, so it cannot simply begin again. "
        )
        invalid = await self._connection.run_sync(_invalid_indexes, self._metadata)
        await self._connection.rollback()
        return message + (_mend(invalid) if invalid else "Mend the schema by hand, and stamp it.")

    def refuse_invalid_indexes(self, ctx: MigrationContext, *_: object, **__: object) -> None:
        """Keep a revision from counting as applied while an index of our tables is invalid.

        CREATE INDEX CONCURRENTLY leaves one where it fails. It costs at each write, serves no
        query, and keeps IF NOT EXISTS from building another.

        Raises:
            MigrationError: There is one.
        """
        assert ctx.connection is not None  # noqa: S101 - only migrations on paper have none
        if invalid := _invalid_indexes(ctx.connection, self._metadata):
            raise MigrationError(_mend(invalid))


def _refuse_unknown(heads: tuple[str, ...], context: MigrationContext) -> None:
    """Return if there is a file for each revision that the database is at.

    Raises:
        MigrationError: There is none for one.
    """
    assert context.environment_context is not None  # noqa: S101 - env.py is run by one
    known = {script.revision for script in context.environment_context.script.walk_revisions()}
    if unknown := [head for head in heads if head not in known]:
        raise MigrationError(
            f"The database is at {', '.join(unknown)}, and migrations/versions has no such "
            "revision: a newer release or another branch has migrated it, or the file is gone. "
            "Run `alembic downgrade` where the file is, or this release without migrating."
        )


def _invalid_indexes(connection: Connection, metadata: MetaData) -> list[str]:
    """Return the names of our tables' indexes that are neither usable nor being built."""
    quote = connection.dialect.identifier_preparer.format_table
    tables = [quote(table) for table in metadata.tables.values()]
    return list(connection.execute(_INVALID_INDEXES, {"tables": tables}).scalars())


def _mend(invalid: list[str]) -> str:
    drops = " ".join(f"DROP INDEX CONCURRENTLY {name};" for name in invalid)
    return (
        f"An index that was never finished is in the way: {', '.join(invalid)}. Drop it, and run "
        f"the migrations again: {drops}"
    )
