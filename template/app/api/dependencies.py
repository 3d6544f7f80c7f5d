"""What the routes of several resources receive; resources do not import each other."""

from typing import Annotated

from fastapi import Depends
from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import and_, col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.errors import Forbidden
from app.core.schema import Email, RequestSchema, ShortText
from app.database.base import uuid7
from app.database.model.user import User
from app.database.session import DbSession
from app.settings import CurrentSettings
from app.utils.sso.introspection import CurrentToken
from app.utils.sso.introspection_schema import TokenData


async def find_current_user(
    token: CurrentToken, session: DbSession, settings: CurrentSettings
) -> User | None:
    """Return the user that the token speaks for, if the service has one.

    With ``PROVISION_USERS`` it makes one at the first request.
    """
    user = await _find_user(session, token)
    if user is None and settings.provision_users:
        user = await _provision_user(session, token)
    return user


async def _find_user(session: AsyncSession, token: TokenData) -> User | None:
    """Return the token's user. The subject decides.

    A username may be given to somebody else one day, so it only finds a user who has no subject
    yet.
    """
    known = col(User.subject) == token.sub
    unknown = and_(col(User.subject).is_(None), col(User.username) == token.username)
    matches = unknown if token.sub is None else or_(known, unknown)
    statement = select(User).where(matches).order_by(col(User.subject).nulls_last())
    return (await session.exec(statement)).first()


def _or_none(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    """Return None for what cannot be stored: nobody is turned away because of it."""
    try:
        return handler(value)
    except ValidationError:
        return None


class _Profile(RequestSchema):
    """What a token must say about somebody who gets a row."""

    subject: ShortText
    username: ShortText
    email: Email
    full_name: Annotated[ShortText | None, WrapValidator(_or_none)]


async def _provision_user(session: AsyncSession, token: TokenData) -> User | None:
    """Make the token's user, unless a row of somebody else is in the way."""
    if token.claim("email_verified") is False:
        return None
    try:
        profile = _Profile.model_validate(
            {
                "subject": token.sub,
                # JWTs have OpenID Connect's name for it.
                "username": token.username or token.claim("preferred_username"),
                "email": token.claim("email"),
                "full_name": token.claim("name"),
            }
        )
    except ValidationError:
        return None
    # Of several first requests at once, one inserts, and the others wait for it.
    statement = insert(User).values(id=uuid7(), **profile.model_dump()).on_conflict_do_nothing()
    await session.exec(statement)
    return await _find_user(session, token)


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
