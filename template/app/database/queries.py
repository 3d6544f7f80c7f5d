"""The queries that the services of all resources share, for any table.

They flush and never commit: a request is one transaction. What the database refuses at a flush is
an ``IntegrityError``, answered with 409 or 422.
"""

from functools import cache, lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import Integer, bindparam, inspect
from sqlalchemy.orm import Mapper
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from app.core.errors import NotFound
from app.core.etag import Precondition
from app.core.pagination import PageQuery, Rows
from app.database.base import TableBase


async def find_row[T: TableBase](session: AsyncSession, table: type[T], key: UUID) -> T:
    """Return the row with a key.

    Raises:
        NotFound: There is none.
    """
    row: T | None
    if session.identity_map:
        row = await session.get(table, key)
    else:
        # A session without rows cannot have this one, and get() builds its statement each time.
        found = await session.exec(_with_key(table), params={"key": key})
        # A collection that is joined repeats the row.
        row = found.unique().one_or_none()
    if row is None:
        raise NotFound
    return row


async def lock_row[T: TableBase](
    session: AsyncSession, table: type[T], key: UUID, precondition: Precondition
) -> T:
    """Return the row of a key, locked until the transaction ends.

    Of several callers who change the same row at once, each therefore sees what the one before has
    made of it.

    Raises:
        NotFound: There is none.
        PreconditionFailed: It is not in the state that the caller has read.
    """
    options = {"populate_existing": True}
    found = await session.exec(_locked(table), params={"key": key}, execution_options=options)
    row: T | None = found.one_or_none()
    if row is None:
        raise NotFound
    precondition.check(row)
    return row


@cache
def _with_key[T: TableBase](table: type[T]) -> SelectOfScalar[T]:
    return select(table).where(col(table.id) == bindparam("key"))


@cache
def _locked[T: TableBase](table: type[T]) -> SelectOfScalar[T]:
    # FOR NO KEY UPDATE, as an UPDATE itself takes. FOR UPDATE would wait for every transaction that
    # inserts a row with a foreign key to this one, and on a busy table they never end.
    return _with_key(table).with_for_update(key_share=True)


async def insert_row[T: TableBase](
    session: AsyncSession, table: type[T], values: dict[str, Any]
) -> T:
    """Store a row, and return it with the values that the database has set."""
    row = table(**values)
    session.add(row)
    await session.flush()
    await _load_relations(session, row)
    return row


async def update_row[T: TableBase](
    session: AsyncSession,
    table: type[T],
    key: UUID,
    changes: dict[str, Any],
    precondition: Precondition,
) -> T:
    """Change columns of a row that ``lock_row`` returns; no change leaves its version as it is."""
    row = await lock_row(session, table, key, precondition)
    row.sqlmodel_update(changes)
    await session.flush()
    await _load_relations(session, row)
    return row


async def _load_relations(session: AsyncSession, row: TableBase) -> None:
    """Load the relations that a query loads with a row: a flush may have changed their keys."""
    mapper: Mapper[Any] = inspect(type(row))
    relations = [it.key for it in mapper.relationships if it.lazy == "selectin"]
    if relations:
        await session.refresh(row, relations)


async def delete_row(
    session: AsyncSession, table: type[TableBase], key: UUID, precondition: Precondition
) -> None:
    """Delete a row that ``lock_row`` returns."""
    await session.delete(await lock_row(session, table, key, precondition))
    await session.flush()


async def list_rows[T: TableBase](
    session: AsyncSession, table: type[T], query: PageQuery
) -> Rows[T]:
    """Return a page of the rows that match the query's filters, the oldest first.

    A page begins after a key and not after a number of rows (keyset pagination): the last page of a
    million rows costs what the first one does, and rows that are inserted or deleted meanwhile
    neither repeat nor hide others. Keys are in the order of creation (UUIDv7).
    """
    filters = query.filters()
    statement = _page(table, tuple(filters), query.cursor is not None)
    values = {f"filter_{name}": value for name, value in filters.items()}
    values |= {"after": query.cursor, "limit": query.limit + 1}
    rows = list((await session.exec(statement, params=values)).all())
    # One row more than was asked for tells whether there is another page.
    items = rows[: query.limit]
    return Rows(items, items[-1].id if len(rows) > len(items) else None)


@lru_cache(maxsize=1000)
def _page[T: TableBase](
    table: type[T], filters: tuple[str, ...], is_continued: bool
) -> SelectOfScalar[T]:
    """Build the statement of a page, which takes longer than to execute it."""
    statement = select(table).order_by(col(table.id)).limit(bindparam("limit", type_=Integer))
    for name in filters:
        statement = statement.where(col(getattr(table, name)) == bindparam(f"filter_{name}"))
    return statement.where(col(table.id) > bindparam("after")) if is_continued else statement
