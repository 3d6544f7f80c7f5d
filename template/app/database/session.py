"""The connection to PostgreSQL: the engine of the process, and the session of each request."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated

import anyio
from fastapi import Depends
from sqlalchemy import URL, Connection, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session as OrmSession
from sqlalchemy.orm import SessionTransaction
from sqlalchemy.pool import ConnectionPoolEntry, NullPool
from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.requests import HTTPConnection

from app.core.errors import DatabaseUnavailable
from app.core.settings import DatabaseSettings
from app.database.replica import Replica, watched

logger = logging.getLogger(__name__)

_READ_ONLY_TRANSACTION = "25006"


@dataclass(frozen=True, slots=True)
class Database:
    """What a process holds open: an engine, the maker of its sessions, and a replica if any."""

    engine: AsyncEngine
    sessionmaker: async_sessionmaker[AsyncSession]
    replica: Replica | None = None
    # What makes a session of the sessionmaker one that only reads.
    _read_only: dict[str, object] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        bind = self.sessionmaker.kw["bind"]
        if isinstance(bind, AsyncEngine):
            # The transaction begins with BEGIN READ ONLY, which costs nothing.
            options: dict[str, object] = {"bind": _read_only(bind)}
        else:
            # In a test, the sessions share a connection whose transaction has begun.
            options = {"sync_session_class": _ReadOnlySession}
        object.__setattr__(self, "_read_only", options)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """Give a session that only reads: on the replica if it can serve, else on the primary.

        Raises:
            WriteInReadSession: Something was to be written.
        """
        session = await self.replica.open_session() if self.replica else None
        session = session or self.sessionmaker(**self._read_only)
        try:
            async with session:
                yield session
                # Rows that were added by mistake are sent now, and refused.
                await session.commit()
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != _READ_ONLY_TRANSACTION:
                raise
            raise WriteInReadSession("A route that writes takes DbSession") from error

    async def ping(self, timeout: float = 1) -> None:  # noqa: ASYNC109 - a bound, not a convenience
        """Ask the database for an answer within ``timeout`` seconds.

        Raises:
            Exception: Whatever kept the answer from coming.
        """
        with anyio.fail_after(timeout):
            async with self.engine.connect() as connection:
                await connection.execute(text("SELECT 1"))


class WriteInReadSession(Exception):
    """A bug: something was to be written in a session that only reads."""


class _ReadOnlySession(Session):
    """A session whose transaction, or savepoint, is made read-only after it has begun."""


@event.listens_for(_ReadOnlySession, "after_begin")
def _refuse_writes(
    _session: OrmSession, _transaction: SessionTransaction, connection: Connection
) -> None:
    # At the end of a savepoint, PostgreSQL goes back to what the transaction around it may do;
    # without one, the rest of the test could not write.
    if connection.in_nested_transaction():
        connection.execute(text("SET TRANSACTION READ ONLY"))


def _read_only(engine: AsyncEngine) -> AsyncEngine:
    """Return the engine, with the same pool, for transactions that are read-only."""
    return engine.execution_options(postgresql_readonly=True)


def create_engine(settings: DatabaseSettings, *, pooled: bool = True) -> AsyncEngine:
    """Return an engine for the settings' database. It connects at the first use.

    A pooled one serves requests: it waits briefly for a connection, tests it before use, because
    the database may have restarted since the last one, and lets the server end what takes too
    long. The other is for migrations, whose statements may take their time.
    """
    if pooled:
        engine = _create_pooled_engine(settings, settings.database_url)
    else:
        engine = create_async_engine(
            settings.database_url, poolclass=NullPool, connect_args=_connect_args(settings)
        )
    event.listen(engine.sync_engine, "do_connect", _connect)
    return engine


def _create_pooled_engine(settings: DatabaseSettings, url: URL) -> AsyncEngine:
    server_settings = {"timezone": "UTC"}
    if not settings.database_pgbouncer:
        server_settings |= _limits(settings)
    engine = create_async_engine(
        url,
        pool_size=settings.database_pool_size,
        max_overflow=0,
        pool_timeout=settings.database_pool_timeout,
        pool_pre_ping=True,
        pool_recycle=1800,
        # A statement's parameters are the callers' data; they stay out of errors and logs.
        hide_parameters=True,
        connect_args=_connect_args(settings)
        | {
            "command_timeout": settings.database_command_timeout,
            "server_settings": server_settings,
        },
    )
    if settings.database_pgbouncer:
        event.listen(engine.sync_engine, "connect", _warn_without_limits, once=True)
    return engine


def _warn_without_limits(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    """Say which limits the server does not know; PgBouncer refuses those that a client brings."""
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
            "The database's server has no %s: behind PgBouncer these are set with"
            " ALTER ROLE %s SET ... (docs/scaling.md of the template)",
            missing,
            role,
        )


def _connect_args(settings: DatabaseSettings) -> dict[str, object]:
    arguments: dict[str, object] = {"timeout": settings.database_connect_timeout}
    if settings.database_pgbouncer:
        # The next transaction may get another server, which knows no statement of this one.
        arguments["statement_cache_size"] = 0
    return arguments


def _limits(settings: DatabaseSettings) -> dict[str, str]:
    """Return the settings with which the server ends what takes too long."""
    return {
        "lock_timeout": _milliseconds(settings.database_lock_timeout),
        "statement_timeout": _milliseconds(settings.database_statement_timeout),
        "idle_in_transaction_session_timeout": "15000",
    }


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))


def _connect(
    dialect: Dialect,
    _entry: ConnectionPoolEntry,
    arguments: tuple[object, ...],
    keywords: dict[str, object],
) -> DBAPIConnection:
    """Connect, and say of every way to fail that the database is unavailable."""
    try:
        return dialect.connect(*arguments, **keywords)
    except (OSError, dialect.loaded_dbapi.Error) as error:
        # The caller only learns that it is so; whoever reads the log can do something about it.
        reason = f"{type(error).__name__} {getattr(error, 'sqlstate', None) or ''}".rstrip()
        logger.error("Cannot connect to the database: %s", reason)
        raise DatabaseUnavailable(reason) from error


def create_sessionmaker(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Return the maker of sessions whose rows stay readable after the commit."""
    return async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)


@asynccontextmanager
async def open_database(settings: DatabaseSettings) -> AsyncIterator[Database]:
    """Hold the connections open for as long as the application runs."""
    async with AsyncExitStack() as stack:
        engine = create_engine(settings)
        stack.push_async_callback(engine.dispose)
        replica = None
        if settings.database_replica_url:
            replica_engine = _create_pooled_engine(settings, settings.database_replica_url)
            stack.push_async_callback(replica_engine.dispose)
            replica = await stack.enter_async_context(
                watched(_create_replica(settings, _read_only(replica_engine)))
            )
        yield Database(engine, create_sessionmaker(engine), replica)


def _create_replica(settings: DatabaseSettings, engine: AsyncEngine) -> Replica:
    return Replica(
        engine,
        create_sessionmaker(engine),
        max_lag=settings.database_replica_max_lag,
        patience=settings.database_pool_timeout + settings.database_connect_timeout,
    )


async def get_session(connection: HTTPConnection) -> AsyncGenerator[AsyncSession]:
    """Give a request its session and its one transaction.

    The transaction is committed when the route returns, or rolled back when it raises. Services
    flush; they never commit, so that a request is carried out as a whole or not at all.
    """
    database: Database = connection.app.state.database
    async with database.sessionmaker.begin() as session:
        yield session


# The scope is what makes the answer true: a plain dependency would commit after the response has
# been sent, and a commit that fails would have answered 200.
DbSession = Annotated[AsyncSession, Depends(get_session, scope="function")]


async def get_read_session(connection: HTTPConnection) -> AsyncGenerator[AsyncSession]:
    """Give a request that only reads its session: on the replica, if there is one.

    A replica is a moment behind: who reads what the same request, or the caller's last one, has
    written takes ``DbSession``. Declare it after the caller's token, because a session on a
    replica holds its connection from the start.
    """
    database: Database = connection.app.state.database
    async with database.reading() as session:
        yield session


ReadSession = Annotated[AsyncSession, Depends(get_read_session, scope="function")]
