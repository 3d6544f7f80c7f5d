"""A replica of the database, which serves reads while it is available and up to date.

Otherwise the primary serves them; no request fails because the replica is down.
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession

logger = logging.getLogger(__name__)

# How often each process checks the replica.
CHECK_SECONDS = 5

# The replica's lag in seconds, or NULL if it is unknown. The age of the last replayed transaction
# would also grow while nobody writes, so a replica that is connected to the primary and has
# replayed all that it received has no lag. Nor has a server that is not, or no longer, a replica.
_LAG = text("""
    SELECT CASE
        WHEN NOT pg_is_in_recovery() THEN 0
        WHEN EXISTS (SELECT FROM pg_stat_wal_receiver)
            AND pg_last_wal_replay_lsn() >= pg_last_wal_receive_lsn() THEN 0
        ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())
    END::float
""")
# Aurora's answer to that query.
_NOT_SUPPORTED = "0A000"
_PING = text("SELECT 0.0::float")


class Replica:
    """Sessions on a replica, and whether it is usable.

    Args:
        engine: The replica's engine.
        sessionmaker: The factory of sessions that only read, on this engine.
        max_lag: How far it may lag behind the primary, in seconds.
        patience: How long to wait for a connection before the replica counts as down, in seconds.
            More than the pool's timeout, because a busy replica is not down.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        sessionmaker: async_sessionmaker[AsyncSession],
        *,
        max_lag: float,
        patience: float,
    ) -> None:
        self._engine = engine
        self._sessionmaker = sessionmaker
        self._max_lag = max_lag
        self._patience = patience
        self._problem: str | None = "it has not been checked yet"

    @property
    def is_usable(self) -> bool:
        """Whether reads go to the replica, by the last check or read."""
        return self._problem is None

    async def open_session(self) -> AsyncSession | None:
        """Return a connected session, or None if the primary must serve.

        Raises:
            sqlalchemy.exc.TimeoutError: All connections of the replica's pool are in use. The load
                does not move to the primary, which has to serve the writes.
        """
        if not self.is_usable:
            return None
        session = self._sessionmaker()
        try:
            with anyio.fail_after(self._patience):
                # Not that of the session itself, which would be in a transaction from here on.
                await session.run_sync(Session.connection)
        except BaseException as error:
            await session.close()
            if not isinstance(error, (OSError, DBAPIError)):
                raise
            self._learn(_reason(error))
            return None
        return session

    async def check(self) -> None:
        """Check that the replica answers, and how far it lags behind."""
        query = _PING if math.isinf(self._max_lag) else _LAG
        try:
            with anyio.fail_after(self._patience):
                async with self._engine.connect() as connection:
                    lag: float | None = (await connection.execute(query)).scalar()
        except PoolTimeoutError:
            return  # It is busy, and therefore not down.
        except Exception as error:  # Whatever the reason, the primary is the safe choice.
            self._learn(_reason(error))
        else:
            self._learn(self._judge(lag))

    def _judge(self, lag: float | None) -> str | None:
        if lag is None:
            return "it has replayed nothing yet, so its lag is unknown"
        return f"it lags more than {self._max_lag:g} s behind" if lag > self._max_lag else None

    def _learn(self, problem: str | None) -> None:
        """Remember what is wrong with the replica, or None, and log a change."""
        if problem == self._problem:
            return
        self._problem = problem
        if problem is None:
            logger.info("Reads go to the replica")
        else:
            logger.warning("Reads go to the primary instead of the replica: %s", problem)


def _reason(error: Exception) -> str:
    """Name the kind of error; its message may contain values, which stay out of logs."""
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    if state == _NOT_SUPPORTED:
        return "it cannot report its lag; DATABASE_REPLICA_MAX_LAG=inf does not ask for it"
    return f"it does not answer ({type(error).__name__}{f' {state}' if state else ''})"


@asynccontextmanager
async def watched(replica: Replica) -> AsyncIterator[Replica]:
    """Check the replica now, and regularly until the context ends."""

    async def watch() -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await replica.check()

    await replica.check()
    watching = asyncio.create_task(watch())
    try:
        yield replica
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
