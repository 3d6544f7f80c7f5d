"""What can be done with users. Functions flush; the request's transaction commits."""

from sqlmodel import and_, col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.api.v1.user.schema import UserCreate
from app.database.model.user import User
from app.utils.sso.introspection_schema import TokenData


async def create_user(session: AsyncSession, data: UserCreate) -> User:
    """Store a user.

    Raises:
        IntegrityError: The username or the email is taken (answered with 409).
    """
    user = User(**data.model_dump())
    session.add(user)
    await session.flush()
    return user


async def find_token_user(session: AsyncSession, token: TokenData) -> User | None:
    """Return the user that the token speaks for, if the service has one.

    The subject decides. A username may be given to somebody else one day, so it only finds a
    user who has no subject yet.
    """
    known = col(User.subject) == token.sub
    unknown = and_(col(User.subject).is_(None), col(User.username) == token.username)
    statement = select(User).order_by(col(User.subject).nulls_last())
    if token.sub is None:
        statement = statement.where(unknown)
    else:
        statement = statement.where(or_(known, unknown))
    return (await session.exec(statement)).first()
