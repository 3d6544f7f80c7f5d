"""The connection to PostgreSQL: the engine of the process, and the session of each request."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

import anyio
from fastapi import Depends
from sqlalchemy import event, text
from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.requests import HTTPConnection

from app.core.errors import DatabaseUnavailable
from app.core.settings import DatabaseSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Database:
    """What a process holds open: one engine, and the maker of its sessions."""

    engine: AsyncEngine
    sessionmaker: async_sessionmaker[AsyncSession]

    async def ping(self, timeout: float = 1) -> None:  # noqa: ASYNC109 - a bound, not a convenience
        """Ask the database for an answer within ``timeout`` seconds.

        Raises:
            Exception: Whatever kept the answer from coming.
        """
        with anyio.fail_after(timeout):
            async with self.engine.connect() as connection:
                await connection.execute(text("SELECT 1"))


def create_engine(settings: DatabaseSettings, *, pooled: bool = True) -> AsyncEngine:
    """Return an engine for the settings' database. It connects at the first use.

    A pooled one serves requests: it waits briefly for a connection, tests it before use, because
    the database may have restarted since the last one, and lets the server end what takes too
    long. The other is for migrations, whose statements may take their time.
    """
    connect_args: dict[str, object] = {"timeout": settings.database_connect_timeout}
    if not pooled:
        engine = create_async_engine(
            settings.database_url, poolclass=NullPool, connect_args=connect_args
        )
    else:
        connect_args["command_timeout"] = settings.database_command_timeout
        connect_args["server_settings"] = {
            "timezone": "UTC",
            "lock_timeout": _milliseconds(settings.database_lock_timeout),
            "statement_timeout": _milliseconds(settings.database_statement_timeout),
            "idle_in_transaction_session_timeout": "15000",
        }
        engine = create_async_engine(
            settings.database_url,
            pool_size=settings.database_pool_size,
            max_overflow=0,
            pool_timeout=settings.database_pool_timeout,
            pool_pre_ping=True,
            pool_recycle=1800,
            # A statement's parameters are the callers' data; they stay out of errors and logs.
            hide_parameters=True,
            connect_args=connect_args,
        )
    event.listen(engine.sync_engine, "do_connect", _connect)
    return engine


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
    """Hold the engine open for as long as the application runs."""
    engine = create_engine(settings)
    try:
        yield Database(engine, create_sessionmaker(engine))
    finally:
        await engine.dispose()


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
