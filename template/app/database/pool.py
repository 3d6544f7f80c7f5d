"""The pool of connections: fair to those who wait, and without connections that are dead."""

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry, PoolProxiedConnection
from sqlalchemy.util import await_only

from app.database.transactions import MAY_HAVE_WRITTEN

if TYPE_CHECKING:
    from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_connection

_IDLE_SINCE = "app_idle_since"


class FairPool(AsyncAdaptedQueuePool):
    """A pool that serves those who wait for a connection in the order in which they came.

    SQLAlchemy's own wakes the first of them, but a newcomer may be faster, and the first then waits
    again, at the end. Under load some requests would wait until they fail.
    """

    # It logs what SQLAlchemy's pools do, and is no part of the service's own logs.
    __module__ = AsyncAdaptedQueuePool.__module__

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments, **options)
        self._waiting = deque[asyncio.Future[ConnectionPoolEntry | None]]()
        # How many have waited in vain.
        self.timeouts = 0

    @property
    def waiting(self) -> int:
        """How many wait for a connection."""
        # A copy, because another thread may ask.
        return sum(not turn.done() for turn in self._waiting.copy())

    def _do_get(self) -> ConnectionPoolEntry:
        if not self._waiting and (self.checkedin() or self._overflow < self._max_overflow):
            return super()._do_get()
        # None stands for leave to open one, since somebody else could not.
        return await_only(self._wait()) or super()._do_get()

    async def _wait(self) -> ConnectionPoolEntry | None:
        turn: asyncio.Future[ConnectionPoolEntry | None] = asyncio.Future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(self._timeout):
                return await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._pass_on(turn.result())
            if isinstance(error, TimeoutError):
                self.timeouts += 1
                raise PoolTimeoutError("No connection became free in time") from None
            raise

    def _pass_on(self, entry: ConnectionPoolEntry | None) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(entry)
                return
        if entry is not None:
            super()._do_return_conn(entry)

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        self._pass_on(record)

    def _dec_overflow(self) -> Literal[True]:
        super()._dec_overflow()
        self._pass_on(None)
        return True


def keep_healthy(engine: AsyncEngine, *, trusted_seconds: float, pgbouncer: bool) -> None:
    """Let nobody get a connection that is dead, or in the middle of something.

    A test before each use would cost a fifth of a request. The driver knows at once when the other
    side closes a connection; what only idling connections suffer, such as a firewall that forgets
    them, is found by a test.

    Args:
        engine: The engine whose pool it is.
        trusted_seconds: How long a connection may have been idle to be used without a test.
        pgbouncer: Whether PgBouncer, in transaction mode, is in between.
    """

    def test(
        connection: DBAPIConnection,
        entry: ConnectionPoolEntry,
        _proxy: PoolProxiedConnection,
    ) -> None:
        idle_since = entry.info.get(_IDLE_SINCE)
        if idle_since is None:
            return  # It is new.
        if connection.driver_connection.is_closed():
            raise DisconnectionError
        if time.monotonic() - idle_since > trusted_seconds:
            # Behind PgBouncer the steps of a statement reach one server only in a transaction.
            connection.autocommit = not pgbouncer
            try:
                engine.dialect.do_ping(connection)
            except engine.dialect.loaded_dbapi.Error as error:
                raise InvalidatePoolError from error
            finally:
                connection.autocommit = False

    event.listen(engine.sync_engine, "checkout", test)
    event.listen(engine.sync_engine, "checkin", _leave_clean)
    event.listen(engine.sync_engine, "handle_error", _discard_after_timeout)


def _leave_clean(
    connection: "AsyncAdapt_asyncpg_connection | None", entry: ConnectionPoolEntry
) -> None:
    """Close a connection that is returned in the middle of a transaction or of a statement.

    A COMMIT or ROLLBACK fails while another task runs a statement on the connection, and each later
    request that got this connection would fail too.
    """
    if connection is None:
        return
    # The mutex is held for as long as a statement runs, in a transaction or not.
    if connection.driver_connection.is_in_transaction() or connection._execute_mutex.locked():
        entry.invalidate()
        return
    connection.autocommit = connection.readonly = False
    entry.info.pop(MAY_HAVE_WRITTEN, None)
    entry.info[_IDLE_SINCE] = time.monotonic()


def _discard_after_timeout(context: ExceptionContext) -> None:
    """Close a connection whose server did not even report the timeout of the statement."""
    if isinstance(context.original_exception, TimeoutError) and context.connection is not None:
        context.is_disconnect = True
        context.invalidate_pool_on_disconnect = False
