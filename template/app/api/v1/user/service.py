"""What can be done with users. Functions flush; the request commits."""

from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from app.api.v1.user.schema import UserCreate, UserQuery, UserUpdate
from app.core.etag import Precondition
from app.core.pagination import Rows
from app.database.model.user import User
from app.database.queries import delete_row, find_row, insert_row, list_rows, update_row


async def list_users(session: AsyncSession, query: UserQuery) -> Rows[User]:
    return await list_rows(session, User, query)


async def create_user(session: AsyncSession, data: UserCreate) -> User:
    values = data.model_dump()
    return await insert_row(session, User, values)


async def read_user(session: AsyncSession, user_id: UUID) -> User:
    return await find_row(session, User, user_id)


async def update_user(
    session: AsyncSession, user_id: UUID, data: UserUpdate, precondition: Precondition
) -> User:
    changes = data.changes()
    return await update_row(session, User, user_id, changes, precondition)


async def delete_user(session: AsyncSession, user_id: UUID, precondition: Precondition) -> None:
    await delete_row(session, User, user_id, precondition)
