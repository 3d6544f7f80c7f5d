"""The connection to PostgreSQL: the engine of the process, and the session of each request."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from dataclasses import dataclass
from typing import Annotated, Any

import anyio
from fastapi import Depends
from sqlalchemy import URL, Connection, Engine, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect
from sqlalchemy.exc import DBAPIError, IllegalStateChangeError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import SessionTransaction
from sqlalchemy.pool import ConnectionPoolEntry, NullPool
from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.requests import HTTPConnection

from app.core.errors import DatabaseUnavailable
from app.core.project import DOCUMENTATION
from app.core.rate_limited_log import RateLimitedLog
from app.core.settings import DatabaseSettings
from app.database.metrics import count_error, observe
from app.database.pool import FairPool, keep_healthy
from app.database.replica import Replica, watched
from app.database.transactions import begin_now, beginning_late, has_nothing_to_commit

logger = logging.getLogger(__name__)

_READ_ONLY_TRANSACTION = "25006"
# Where FastAPI keeps, in the ASGI scope, what ends when the route returns.
_ENDS_WITH_ROUTE = "fastapi_function_astack"


@dataclass(frozen=True, slots=True)
class Database:
    """The engine of a process, the factories of its sessions, and its replica if there is one.

    The sessions of ``read_sessionmaker`` are on the primary, in read-only transactions.
    """

    engine: AsyncEngine
    sessionmaker: async_sessionmaker[AsyncSession]
    read_sessionmaker: async_sessionmaker[AsyncSession]
    replica: Replica | None = None

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """Open a session that only reads: on the replica if it is usable, else on the primary.

        Raises:
            WriteInReadSession: Something was written.
        """
        session = await self.replica.open_session() if self.replica else None
        session = session or self.read_sessionmaker()
        try:
            yield session
            # Rows that were added by mistake are flushed now, and the database refuses them.
            if not has_nothing_to_commit(session.sync_session):
                with _to_its_end():
                    await session.commit()
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != _READ_ONLY_TRANSACTION:
                raise
            raise WriteInReadSession("A route that writes must take DbSession") from error
        finally:
            await _end(session)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncSession]:
        """Open a session with one transaction, which is committed unless there is an exception."""
        # Who commits within it is told at the next statement: no other transaction begins.
        session = self.sessionmaker(autobegin=False)
        # Nothing is sent yet. `async with session.begin()` would take a greenlet for it, whose
        # stack the kernel maps and unmaps.
        session.sync_session.begin()
        try:
            yield session
            # Not if the route has ended it, or has gone on after a flush that failed.
            if session.is_active and not has_nothing_to_commit(session.sync_session):
                with _to_its_end():
                    await session.commit()
        except BaseException:
            with _to_its_end():
                await session.rollback()
            raise
        finally:
            await _end(session)

    async def ping(self, timeout: float = 1) -> None:  # noqa: ASYNC109 - a bound, not a convenience
        """Run a trivial query within ``timeout`` seconds.

        Raises:
            Exception: The database did not answer, for whatever reason.
        """
        with anyio.fail_after(timeout):
            async with self.engine.connect() as connection:
                await connection.execute(text("SELECT 1"))


class WriteInReadSession(Exception):
    """A bug: a route that writes has taken ``ReadSession``."""


class SessionEnded(InvalidRequestError):
    """A bug: a session was used after the end of its request, or of its ``async with`` block."""


class SingleUseSession(Session):
    """A session that refuses to be used after its end.

    SQLAlchemy would begin another transaction, which nobody commits, on a connection that nobody
    returns to the pool.
    """

    has_ended = False

    def get_bind(self, *arguments: Any, **options: Any) -> Engine | Connection:  # noqa: ANN401
        """Return what the next statement runs on."""
        self._refuse_after_end()
        return super().get_bind(*arguments, **options)

    def close(self) -> None:
        """End the session for good."""
        self.has_ended = True
        super().close()

    def connection(self, *arguments: Any, **options: Any) -> Connection:  # noqa: ANN401
        """Return the connection, which is in a transaction from here on."""
        connection = super().connection(*arguments, **options)
        begin_now(connection)
        return connection

    def _autobegin_t(self, begin: bool = False) -> SessionTransaction:
        self._refuse_after_end()
        return super()._autobegin_t(begin)

    def _refuse_after_end(self) -> None:
        if self.has_ended:
            raise SessionEnded(
                "This session has ended, as that of a request does when the route returns. What"
                " runs later (a background task, the body of a streaming response) opens its own:"
                " take `database: AppDatabase`, and then `async with"
                " database.sessionmaker.begin() as session` to write, or `async with"
                f" database.reading() as session` to read. See {DOCUMENTATION}/sessions.md"
            )


async def _end(session: AsyncSession) -> None:
    """Close a session, even if a task that was left behind is still using it."""
    if has_nothing_to_commit(session.sync_session):
        # Nor is there anything to wait for.
        with suppress(IllegalStateChangeError):
            session.sync_session.close()
            return
    with _to_its_end():
        await asyncio.shield(asyncio.create_task(_close(session)))


def _to_its_end() -> anyio.CancelScope:
    """Protect the end of a session from a task group or a time limit around the application."""
    return anyio.CancelScope(shield=True)


async def _close(session: AsyncSession) -> None:
    try:
        await session.close()
    except IllegalStateChangeError:
        # A statement is about to run. The session refuses the next one, and the connection cannot
        # be used again.
        while True:
            await asyncio.sleep(0.01)
            with suppress(IllegalStateChangeError):
                return await session.invalidate()


def create_engine(settings: DatabaseSettings, *, pooled: bool = True) -> AsyncEngine:
    """Return an engine for the settings' database; it connects when it is first used.

    A pooled engine serves requests: it waits briefly for a connection, and lets the server cancel
    what takes too long. The other one is for migrations, whose statements may take long.
    """
    if pooled:
        engine = _create_pooled_engine(settings, settings.database_url, trusted_seconds=1)
    else:
        engine = create_async_engine(
            settings.database_url, poolclass=NullPool, connect_args=_connect_args(settings)
        )
    event.listen(engine.sync_engine, "do_connect", _Connector())
    return engine


def _create_pooled_engine(
    settings: DatabaseSettings, url: URL, *, trusted_seconds: float
) -> AsyncEngine:
    server_settings = {"timezone": "UTC"}
    if not settings.database_pgbouncer:
        server_settings |= {
            "lock_timeout": _milliseconds(settings.database_lock_timeout),
            "statement_timeout": _milliseconds(settings.database_statement_timeout),
            "idle_in_transaction_session_timeout": "15000",
        }
    engine = create_async_engine(
        url,
        poolclass=FairPool,
        pool_size=settings.database_pool_size,
        max_overflow=0,
        pool_timeout=settings.database_pool_timeout,
        pool_recycle=1800,
        # Parameters are callers' data, and belong in no error message and no log.
        hide_parameters=True,
        connect_args=_connect_args(settings)
        | {
            "command_timeout": settings.database_command_timeout,
            "server_settings": server_settings,
        },
    )
    pgbouncer = settings.database_pgbouncer
    keep_healthy(engine, trusted_seconds=trusted_seconds, pgbouncer=pgbouncer)
    if pgbouncer:
        event.listen(engine.sync_engine, "connect", _warn_without_limits, once=True)
    return engine


def _warn_without_limits(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    """Warn about timeouts that the server lacks; PgBouncer refuses to let a client set them."""
    cursor = connection.cursor()
    cursor.execute(
        "SELECT current_user, string_agg(name, ', ' ORDER BY name) FROM pg_settings"
        " WHERE setting = '0' AND name IN"
        " ('lock_timeout', 'statement_timeout', 'idle_in_transaction_session_timeout')"
    )
    [(role, missing)] = cursor.fetchall()
    cursor.close()
    connection.rollback()
    if missing:
        logger.warning(
            "The database has no %s. Behind PgBouncer, set it with ALTER ROLE %s SET ...; see %s",
            missing,
            role,
            f"{DOCUMENTATION}/scaling.md",
        )


def _connect_args(settings: DatabaseSettings) -> dict[str, object]:
    arguments: dict[str, object] = {"timeout": settings.database_connect_timeout}
    if settings.database_pgbouncer:
        # The next transaction may run on another server connection, without these statements.
        arguments["statement_cache_size"] = 0
    return arguments


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))


# Why a server refuses a connection, by the code of its error.
_REFUSALS = {
    "28000": "{user} may not connect to {database} from here, or must use TLS: see pg_hba.conf",
    "28P01": "the password of {user} is wrong, or there is no such user",
    "3D000": "there is no database {database}",
}


class _Connector:
    """Connects, and logs when and why the database cannot be reached, and when it can again."""

    def __init__(self) -> None:
        self._log = RateLimitedLog(logger)
        # What was last logged; None is that it can be reached.
        self._reason: str | None = None

    def __call__(
        self,
        dialect: Dialect,
        _entry: ConnectionPoolEntry,
        arguments: tuple[object, ...],
        keywords: dict[str, object],
    ) -> DBAPIConnection:
        """Connect, and turn every failure to do so into ``DatabaseUnavailable``."""
        try:
            connection = dialect.connect(*arguments, **keywords)
        except (OSError, dialect.loaded_dbapi.Error) as error:
            count_error(error)
            # The caller only learns that it failed; the reason is for those who read the log.
            state = getattr(error, "sqlstate", None) or ""
            reason = f"{type(error).__name__} {state}".rstrip()
            if state in _REFUSALS:
                names = {name: keywords.get(name) for name in ("user", "database")}
                reason += f" ({_REFUSALS[state].format(**names)})"
            said = reason != self._reason and self._log.failed(
                "Cannot connect to the database: %s", reason
            )
            if said:
                self._reason = reason
            raise DatabaseUnavailable(reason) from error
        if self._reason is not None and self._log.recovered("The database can be reached again"):
            self._reason = None
        return connection


def create_sessionmaker(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Return a factory of sessions whose rows stay readable after the commit."""
    return async_sessionmaker(
        engine,
        class_=AsyncSession,
        sync_session_class=SingleUseSession,
        expire_on_commit=False,
    )


@asynccontextmanager
async def open_database(settings: DatabaseSettings) -> AsyncIterator[Database]:
    """Open the engines for as long as the application runs."""
    async with AsyncExitStack() as stack:
        engine = create_engine(settings)
        observe("primary", engine)
        # Behind PgBouncer the steps of a statement reach one server only in a transaction.
        late = not settings.database_pgbouncer
        stack.push_async_callback(engine.dispose)
        replica = None
        if settings.database_replica_url:
            # Tested before each use, so that the primary can serve while it does not answer.
            replica_engine = _create_pooled_engine(
                settings, settings.database_replica_url, trusted_seconds=0
            )
            observe("replica", replica_engine)
            stack.push_async_callback(replica_engine.dispose)
            replica = Replica(
                replica_engine,
                create_sessionmaker(beginning_late(replica_engine, late=late, reads_only=True)),
                max_lag=settings.database_replica_max_lag,
                patience=settings.database_pool_timeout + settings.database_connect_timeout,
            )
            await stack.enter_async_context(watched(replica))
        yield Database(
            engine,
            create_sessionmaker(beginning_late(engine, late=late, reads_only=False)),
            create_sessionmaker(beginning_late(engine, late=late, reads_only=True)),
            replica,
        )


async def get_database(connection: HTTPConnection) -> Database:
    """Return the application's database, for sessions that outlive a request or live shorter."""
    database: Database = connection.app.state.database
    return database


AppDatabase = Annotated[Database, Depends(get_database)]


async def _until_the_route_returns[T](
    connection: HTTPConnection, context: AbstractAsyncContextManager[T]
) -> T:
    """Enter a context that ends when the route returns, before the response is sent.

    FastAPI does so for a generator of function scope, through two more context managers and a
    cancel scope for each request, which cost a twentieth of it.
    """
    stack: AsyncExitStack = connection.scope[_ENDS_WITH_ROUTE]
    return await stack.enter_async_context(context)


async def get_session(connection: HTTPConnection) -> AsyncSession:
    """Open the session of a request, in its one transaction.

    It commits when the route returns and rolls back when the route raises. Services flush and
    never commit, so that a request is carried out as a whole or not at all.
    """
    database = await get_database(connection)
    return await _until_the_route_returns(connection, database._transaction())


# It commits before the response is sent: a failing commit after it would already have been answered
# with 200. The scope keeps FastAPI from letting what ends later depend on it.
DbSession = Annotated[AsyncSession, Depends(get_session, scope="function")]


async def get_read_session(connection: HTTPConnection) -> AsyncSession:
    """Open the session of a request that only reads: on the replica, if there is one.

    A replica lags behind: a route that must see what the same request, or the caller's previous
    one, wrote takes ``DbSession``. Declare a ``ReadSession`` after the caller's token, because a
    session on a replica holds its connection from the start.
    """
    database = await get_database(connection)
    return await _until_the_route_returns(connection, database.reading())


ReadSession = Annotated[AsyncSession, Depends(get_read_session, scope="function")]
