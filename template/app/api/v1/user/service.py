"""What can be done with users. Functions flush; the request's transaction commits."""

from sqlmodel.ext.asyncio.session import AsyncSession

from app.api.v1.user.schema import UserCreate
from app.database.model.user import User


async def create_user(session: AsyncSession, data: UserCreate) -> User:
    """Store a user.

    Raises:
        IntegrityError: The username or the email is taken (answered with 409).
    """
    user = User(**data.model_dump())
    session.add(user)
    await session.flush()
    return user
