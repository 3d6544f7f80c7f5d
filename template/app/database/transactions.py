"""When the transaction of a session begins: with its first statement that is not a plain read.

Under READ COMMITTED each statement sees what was committed before it began, so that a transaction
gives reads nothing, and its BEGIN and COMMIT are two round trips of three. A plain read before the
first other statement therefore runs by itself. As soon as something else is executed (a write, a
lock, a function that may do anything), everything up to the end is one transaction, as ever.

Nothing is lost with the connection of such a read, so that it is tried once again on a new one.
What becomes of a COMMIT whose connection is lost is unknown, and is said to be.
"""

import logging
import re
from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, cast

from sqlalchemy import Connection, event
from sqlalchemy.engine import ExceptionContext, ExecutionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from app.core.deadline import commit_begins
from app.core.errors import OutcomeUnknown

if TYPE_CHECKING:
    from sqlalchemy.dialects.postgresql.asyncpg import (
        AsyncAdapt_asyncpg_connection,
        AsyncAdapt_asyncpg_cursor,
    )
    from sqlalchemy.pool.base import _ConnectionFairy, _ConnectionRecord

logger = logging.getLogger(__name__)

# Execution options of the engines that sessions are bound to.
_BEGINS_LATE = "app_begins_late"
_READS_ONLY = "app_reads_only"
# What is noted of a connection: its transaction may have written, and is being committed.
MAY_HAVE_WRITTEN = "app_may_have_written"
_COMMITS = "app_commits"
# It is being closed, by somebody who does not wait for the statement on it.
_IS_CLOSING = "app_is_closing"

# What may stand before a parenthesis in a plain read. Any other word may be a function that writes,
# takes a lock, changes a setting, or is about the transaction, as now() is.
_HARMLESS = re.compile(
    """
    all | and | any | array | as | between | by | case | cast | distinct | else | except | exists
    | filter | from | group | having | ilike | in | intersect | is | join | lateral | like | limit
    | not | offset | on | or | over | partition | row | select | some | then | union | using
    | values | when | where | within
    | bit | char | character | decimal | float | numeric | time | timestamp | varchar | varying
    | abs | array_agg | array_length | avg | bool_and | bool_or | btrim | cardinality | ceil
    | char_length | coalesce | concat | count | date_trunc | dense_rank | extract | first_value
    | floor | greatest | json_agg | json_build_object | jsonb_agg | jsonb_build_object | lag
    | last_value | lead | least | left | length | lower | ltrim | max | min | mod | nullif
    | position | rank | replace | right | round | row_number | rtrim | starts_with | string_agg
    | substring | sum | to_char | trim | trunc | unnest | upper
    """,
    re.IGNORECASE | re.VERBOSE,
)
_BEFORE_PARENTHESIS = re.compile(r'([\w.$"]+)\s*\(')
# Locks and SELECT INTO; the time, which is that of the transaction; and comments, which could stand
# between a function and its parenthesis.
_HARMFUL = re.compile(r"\b(?:for|into|current_\w+|localtime\w*)\b|--|/\*", re.IGNORECASE)

# What begins a transaction, or is part of one, and stores nothing by itself.
_STORES_NOTHING = re.compile(r"\s*(?:savepoint|release|rollback|set|show|lock)\b", re.IGNORECASE)
_LOCKING_CLAUSE = re.compile(
    r"\bfor\s+(?:no\s+key\s+|key\s+)?(?:update|share)\b.*", re.IGNORECASE | re.DOTALL
)

# The connection broke in the middle of a statement, or the server has ended it: because an
# administrator wanted it, because of a crash, or because it stops.
_LOST = {"08003", "57P01", "57P02", "57P03"}


@lru_cache(maxsize=2000)
def is_plain_read(statement: str) -> bool:
    """Whether a statement reads and does nothing else, which is certain from its words.

    In doubt it is not: it then begins a transaction, which costs two round trips and no more.
    """
    if not re.match(r"\s*select\b", statement, re.IGNORECASE) or _HARMFUL.search(statement):
        return False
    return all(map(_HARMLESS.fullmatch, _BEFORE_PARENTHESIS.findall(statement)))


@lru_cache(maxsize=2000)
def may_write(statement: str) -> bool:
    """Whether a statement may store something, of which in doubt it is suspected."""
    if _STORES_NOTHING.match(statement):
        return False
    return not is_plain_read(_LOCKING_CLAUSE.sub("", statement))


def beginning_late(engine: AsyncEngine, *, late: bool, reads_only: bool) -> AsyncEngine:
    """Return the engine, with the same pool, for sessions.

    Args:
        engine: The engine, whose own connections stay as they are.
        late: Whether plain reads run outside a transaction.
        reads_only: Whether the transactions are READ ONLY, so that the database refuses writes.
    """
    dialect = engine.dialect
    if not event.contains(dialect, "do_execute", _execute):
        event.listen(dialect, "do_execute", _execute)
        event.listen(dialect, "do_execute_no_params", _execute_without_parameters)
        event.listen(dialect, "do_executemany", _prepare)
        event.listen(dialect, "handle_error", _say_what_is_unknown)
        event.listen(engine.sync_engine, "invalidate", _note_close)
        # SQLAlchemy has no event for it that costs other statements nothing.
        dialect.do_commit = partial(_commit, dialect.do_commit)  # type: ignore[method-assign]
    return engine.execution_options(**{_BEGINS_LATE: late, _READS_ONLY: reads_only})


def _prepare(
    cursor: "AsyncAdapt_asyncpg_cursor",
    statement: str,
    _parameters: object,
    context: ExecutionContext,
) -> None:
    """Decide whether the driver begins a transaction for a statement, if it is in none."""
    options = context.execution_options
    driver = cursor._adapt_connection
    if _READS_ONLY in options:
        if options[_READS_ONLY]:
            driver.readonly = True
        driver.autocommit = (
            options[_BEGINS_LATE]
            # A stricter level, of the connection or of the database, is a promise about all
            # statements.
            and "isolation_level" not in options
            and context.dialect.default_isolation_level == "READ COMMITTED"
            # A cursor on the server lives in a transaction.
            and not cursor.server_side
            and is_plain_read(statement)
        )
    connection = context.root_connection
    # SQLAlchemy's own statements on a new connection are in none that is committed.
    is_suspicious = connection.in_transaction() and not driver.autocommit and not driver.readonly
    if is_suspicious and may_write(statement):
        connection.info[MAY_HAVE_WRITTEN] = True


def _execute(
    cursor: "AsyncAdapt_asyncpg_cursor",
    statement: str,
    parameters: object,
    context: ExecutionContext,
) -> bool:
    """Execute a statement if it is to be tried again; return whether it was executed."""
    _prepare(cursor, statement, parameters, context)
    driver = cursor._adapt_connection
    options = context.execution_options
    # What others let the driver commit by itself may be a write, which must not run twice.
    is_own = _READS_ONLY in options and "isolation_level" not in options
    if not is_own or not driver.autocommit or driver._transaction is not None:
        return False
    try:
        cursor.execute(statement, parameters)  # type: ignore[no-untyped-call]
    except context.dialect.loaded_dbapi.Error as error:
        state = getattr(error, "sqlstate", None)
        is_lost = state in _LOST or (state is None and driver.driver_connection.is_closed())
        connection = context.root_connection
        # Closing takes a while, and would forget a connection that is opened meanwhile.
        has_ended = connection.closed or connection.invalidated or _IS_CLOSING in connection.info
        if not is_lost or has_ended:
            raise
        cursor = _reconnect(context, error)
        _prepare(cursor, statement, parameters, context)
        cursor.execute(statement, parameters)  # type: ignore[no-untyped-call]
    return True


def _execute_without_parameters(
    cursor: "AsyncAdapt_asyncpg_cursor", statement: str, context: ExecutionContext
) -> bool:
    return _execute(cursor, statement, (), context)


def _note_close(
    _connection: DBAPIConnection, entry: ConnectionPoolEntry, _error: BaseException | None
) -> None:
    entry.info[_IS_CLOSING] = True


def _reconnect(context: ExecutionContext, error: Exception) -> "AsyncAdapt_asyncpg_cursor":
    """Replace the connection, as the pool does for one that it finds dead.

    Raises:
        DatabaseUnavailable: There is no other connection.
    """
    proxy = cast("_ConnectionFairy", context.root_connection.connection)
    entry = cast("_ConnectionRecord", proxy._connection_record)
    entry.invalidate(error)
    proxy.dbapi_connection = entry.get_connection()
    context.cursor = proxy.cursor()
    return cast("AsyncAdapt_asyncpg_cursor", context.cursor)


def _commit(commit: Callable[[PoolProxiedConnection], None], proxy: PoolProxiedConnection) -> None:
    """Commit, and note meanwhile whether something is lost with the answer."""
    driver = cast("AsyncAdapt_asyncpg_connection", proxy.dbapi_connection)
    is_sent = driver._transaction is not None and not driver.driver_connection.is_closed()
    if not is_sent or not proxy.info.pop(MAY_HAVE_WRITTEN, False):
        commit(proxy)
        return
    commit_begins()
    proxy.info[_COMMITS] = True
    commit(proxy)
    del proxy.info[_COMMITS]


def _say_what_is_unknown(context: ExceptionContext) -> OutcomeUnknown | None:
    """Return the error of a write that the server has neither confirmed nor rejected."""
    connection, error = context.connection, context.original_exception
    if connection is None or connection.closed or connection.invalidated:
        return None
    driver = _driver(connection)
    is_commit = connection.info.pop(_COMMITS, False)
    is_write = is_commit or (
        driver.autocommit and context.statement is not None and may_write(context.statement)
    )
    is_answered = not driver.driver_connection.is_closed() and not isinstance(error, TimeoutError)
    if not is_write or is_answered or not isinstance(error, Exception):
        return None
    logger.error(
        "The connection to the database was lost during %s (%s): whether it was carried out is"
        " unknown",
        "COMMIT" if is_commit else "a write",
        getattr(error, "sqlstate", None) or type(error).__name__,
    )
    return OutcomeUnknown()


def has_nothing_to_commit(session: Session) -> bool:
    """Whether all that a session has done are plain reads, and nobody would hear of its commit.

    Its end is then no statement, and needs no greenlet to wait for one.
    """
    transaction = session._transaction
    if transaction is None:
        return True
    # Without a connection, a task that was left behind may be about to get one.
    if transaction.nested or not transaction._connections or not session._is_clean():
        return False
    if session.dispatch.before_commit or session.dispatch.after_commit:
        return False
    return all(_ends_in_silence(connection) for connection, *_ in transaction._connections.values())


def _ends_in_silence(connection: Connection) -> bool:
    """Whether nothing is sent when a connection is returned, by us, a driver or a listener."""
    if connection.closed or connection.invalidated:
        return False
    engine = connection.engine
    if engine.dispatch.commit or engine.dispatch.rollback or engine.pool.dispatch.reset:
        return False
    # Another driver than asyncpg's, on an engine of a team's own, counts as in a transaction.
    driver = _driver(connection)
    return getattr(driver, "_transaction", driver) is None


def begin_now(connection: Connection) -> None:
    """Let a connection be in a transaction from here on, whatever is executed.

    Who takes the connection of a session may reach through to the driver, and what was in the
    session's transaction must be in it still.
    """
    options = connection.get_execution_options()
    if options.get(_BEGINS_LATE):
        connection.execution_options(**{_BEGINS_LATE: False})
        connection.info[MAY_HAVE_WRITTEN] = not options[_READS_ONLY]
        if _driver(connection).autocommit:
            # Something was read already: there would be a transaction by now.
            connection.exec_driver_sql("SELECT 1")


def _driver(connection: Connection) -> "AsyncAdapt_asyncpg_connection":
    return cast("AsyncAdapt_asyncpg_connection", connection.connection.dbapi_connection)
