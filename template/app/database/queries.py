"""Reading the rows of any table, as the services of all resources do."""

from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.errors import NotFound
from app.core.etag import Precondition
from app.core.pagination import PageQuery, Rows
from app.database.base import TableBase


async def find_row[T: TableBase](session: AsyncSession, table: type[T], key: UUID) -> T:
    """Return the row of a key.

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
    """Return the row of a key, which nobody else can change until this transaction ends.

    Of several callers who change the same row at once, the second one therefore sees what the
    first one has made of it.

    Raises:
        NotFound: There is none.
        PreconditionFailed: It is not in the state that the caller has seen.
    """
    # FOR NO KEY UPDATE, as an UPDATE itself: who adds rows that refer to this one need not wait for
    # it, nor it for them, who may never cease.
    row = await session.get(table, key, with_for_update={"key_share": True})
    if row is None:
        raise NotFound
    precondition.check(row)
    return row


async def list_rows[T: TableBase](
    session: AsyncSession, table: type[T], query: PageQuery
) -> Rows[T]:
    """Return a page of the rows that are equal to the query's filters, the oldest first.

    The page begins behind a key and not after a number of rows, so that the last page of a
    million rows costs what the first one does, and no row is shown twice or left out because
    others have come or gone. Keys are made in the order of time (UUIDv7).
    """
    statement = select(table).order_by(col(table.id)).limit(query.limit + 1)
    for name, value in query.filters().items():
        statement = statement.where(col(getattr(table, name)) == value)
    if query.cursor is not None:
        statement = statement.where(col(table.id) > query.cursor)
    rows = list((await session.exec(statement)).all())
    # One more than was asked for tells whether there is another page.
    items = rows[: query.limit]
    return Rows(items, items[-1].id if len(rows) > len(items) else None)
