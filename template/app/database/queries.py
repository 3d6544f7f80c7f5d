"""Queries that the services of all resources share."""

from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.errors import NotFound
from app.core.etag import Precondition
from app.core.pagination import PageQuery, Rows
from app.database.base import TableBase


async def find_row[T: TableBase](session: AsyncSession, table: type[T], key: UUID) -> T:
    """Return the row with a key.

    Raises:
        NotFound: There is none.
    """
    row = await session.get(table, key)
    if row is None:
        raise NotFound
    return row


async def lock_row[T: TableBase](
    session: AsyncSession, table: type[T], key: UUID, precondition: Precondition
) -> T:
    """Return the row with a key, locked until the transaction ends.

    Concurrent changes of a row therefore wait for each other, and each sees the previous one.

    Raises:
        NotFound: There is none.
        PreconditionFailed: It is not in the state that the caller has read.
    """
    # FOR NO KEY UPDATE, the lock of an UPDATE. FOR UPDATE would conflict with transactions that
    # insert rows referring to this one, and could wait for a stream of them without end.
    row = await session.get(table, key, with_for_update={"key_share": True})
    if row is None:
        raise NotFound
    precondition.check(row)
    return row


async def list_rows[T: TableBase](
    session: AsyncSession, table: type[T], query: PageQuery
) -> Rows[T]:
    """Return a page of the rows that match the query's filters, the oldest first.

    The page begins after a key and not at an offset. The last page of a million rows therefore
    costs as much as the first, and no row is repeated or skipped because others were added or
    removed. Keys are UUIDv7, in the order of creation.
    """
    statement = select(table).order_by(col(table.id)).limit(query.limit + 1)
    for name, value in query.filters().items():
        statement = statement.where(col(getattr(table, name)) == value)
    if query.cursor is not None:
        statement = statement.where(col(table.id) > query.cursor)
    rows = list((await session.exec(statement)).all())
    # One row more than the limit tells whether there is another page.
    items = rows[: query.limit]
    return Rows(items, items[-1].id if len(rows) > len(items) else None)
