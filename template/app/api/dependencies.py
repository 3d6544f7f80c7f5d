"""What the routes of several resources receive; resources do not import each other."""

from typing import Annotated

from fastapi import Depends
from sqlmodel import and_, col, or_, select

from app.core.errors import Forbidden
from app.database.model.user import User
from app.database.session import DbSession
from app.utils.sso.introspection import CurrentToken


async def find_current_user(token: CurrentToken, session: DbSession) -> User | None:
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


OptionalUser = Annotated[User | None, Depends(find_current_user)]


async def get_current_user(user: OptionalUser) -> User:
    """Return the user that the token speaks for.

    Raises:
        Forbidden: The token is good, and the service does not know its user.
    """
    if user is None:
        raise Forbidden("The service has no user for this token.")
    return user


CurrentUser = Annotated[User, Depends(get_current_user)]
