"""A replica of the database, which serves what only reads for as long as it answers and keeps up.

Whatever is wrong with it, the primary serves the reads instead; a request never fails because of
the replica's absence.
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
from sqlmodel.ext.asyncio.session import AsyncSession

logger = logging.getLogger(__name__)

# How old the knowledge about the replica may become. It is asked by the process, not by requests.
CHECK_SECONDS = 5

# How far the replica is behind, in seconds, or NULL where it cannot be known. The age of the last
# transaction alone would grow while nobody writes; a replica that receives from the primary and
# has replayed everything is not behind. A server that is no replica (any more) is not either.
_LAG = text("""
    SELECT CASE
        WHEN NOT pg_is_in_recovery() THEN 0
        WHEN EXISTS (SELECT FROM pg_stat_wal_receiver)
            AND pg_last_wal_replay_lsn() >= pg_last_wal_receive_lsn() THEN 0
        ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())
    END::float
""")
# What Aurora answers to that.
_NOT_SUPPORTED = "0A000"
_PING = text("SELECT 0.0::float")


class Replica:
    """The sessions on a replica, and what is known about it.

    Args:
        engine: Its connections, in transactions that are read-only.
        sessionmaker: The maker of sessions on this engine.
        max_lag: Seconds that it may be behind the primary.
        patience: Seconds after which a connection that has not come counts as absent. It is
            longer than the pool's own timeout: a replica with much to do is no absent one.
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
        self._problem: str | None = "nobody has asked yet"

    @property
    def is_usable(self) -> bool:
        """Whether reads go there, as far as is known."""
        return self._problem is None

    async def open_session(self) -> AsyncSession | None:
        """Return a session that has its connection, or None where the primary must serve.

        Raises:
            sqlalchemy.exc.TimeoutError: Every connection of the replica's pool is in use. The
                primary, which must serve the writes, is spared this load.
        """
        if not self.is_usable:
            return None
        session = self._sessionmaker()
        try:
            with anyio.fail_after(self._patience):
                await session.connection()
        except BaseException as error:
            await session.close()
            if not isinstance(error, (OSError, DBAPIError)):
                raise
            self._learn(_reason(error))
            return None
        return session

    async def check(self) -> None:
        """Ask the replica whether it is there, and how far behind."""
        query = _PING if math.isinf(self._max_lag) else _LAG
        try:
            with anyio.fail_after(self._patience):
                async with self._engine.connect() as connection:
                    lag: float | None = (await connection.execute(query)).scalar()
        except PoolTimeoutError:
            return  # It is busy serving; that says nothing else about it.
        except Exception as error:  # Whatever it is, the primary is the better choice.
            self._learn(_reason(error))
        else:
            self._learn(self._judge(lag))

    def _judge(self, lag: float | None) -> str | None:
        if lag is None:
            return "it has replayed nothing yet, so that nobody knows how far it is behind"
        return f"it is more than {self._max_lag:g} s behind" if lag > self._max_lag else None

    async def watch(self) -> None:
        """Check again and again."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await self.check()

    def _learn(self, problem: str | None) -> None:
        """Remember what is wrong with the replica, if anything, and log what is new."""
        if problem == self._problem:
            return
        self._problem = problem
        if problem is None:
            logger.info("Reads go to the replica")
        else:
            logger.warning("Reads go to the primary instead of the replica: %s", problem)


def _reason(error: Exception) -> str:
    """Say which kind of error it was; the values of a message do not belong in a log."""
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    if state == _NOT_SUPPORTED:
        return "it cannot tell how far it is behind; DATABASE_REPLICA_MAX_LAG=inf does not ask"
    return f"it does not answer ({type(error).__name__}{f' {state}' if state else ''})"


@asynccontextmanager
async def watched(replica: Replica) -> AsyncIterator[Replica]:
    """Know how the replica is for as long as the context lasts."""
    await replica.check()
    watching = asyncio.create_task(replica.watch())
    try:
        yield replica
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
