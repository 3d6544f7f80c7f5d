"""What the routes of several resources receive; resources do not import each other."""

from typing import Annotated

from fastapi import Depends
from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from sqlalchemy import bindparam
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

_KNOWN_OR_UNBOUND = (
    select(User)
    .where(
        or_(
            and_(
                col(User.issuer) == bindparam("issuer"),
                col(User.subject) == bindparam("subject"),
            ),
            and_(col(User.subject).is_(None), col(User.username) == bindparam("username")),
        )
    )
    .order_by(col(User.subject).nulls_last())
)


async def find_current_user(
    token: CurrentToken, session: DbSession, settings: CurrentSettings
) -> User | None:
    """Return the user that the token speaks for, if the service has one.

    The claim that ``SSO_SUBJECT_CLAIM`` names decides, together with the issuer. With
    ``PROVISION_USERS`` a user is made at the first request.
    """
    if token.subject is None:
        return None
    user = await _find_user(session, token, settings.sso_issuer)
    if user is None and settings.provision_users:
        user = await _provision_user(session, token, settings.sso_issuer)
    return user


async def _find_user(session: AsyncSession, token: TokenData, issuer: str) -> User | None:
    """Return the token's user, who is bound to its subject at the first use.

    A username may be given to somebody else one day, so it only finds a user without a subject.
    """
    values = {"issuer": issuer, "subject": token.subject, "username": token.username}
    user = (await session.exec(_KNOWN_OR_UNBOUND, params=values)).first()
    if user is None or user.subject is not None:
        return user
    # Of several first uses at once, one binds the row, and the others wait and see whose it is.
    statement = select(User).where(col(User.id) == user.id).with_for_update(key_share=True)
    user = (await session.exec(statement, execution_options={"populate_existing": True})).first()
    if user is not None and user.subject is None and _may_be(user, token):
        user.issuer, user.subject = issuer, token.subject
        await session.flush()
    is_bound = user is not None and (user.issuer, user.subject) == (issuer, token.subject)
    return user if is_bound else None


def _may_be(user: User, token: TokenData) -> bool:
    """Whether the token's email address, if it has one, is the user's and verified."""
    email = token.claim("email")
    is_same = isinstance(email, str) and email.lower() == user.email
    return email is None or (is_same and token.email_verified is True)


def _or_none(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    """Return None for what cannot be stored: nobody is turned away because of it."""
    try:
        return handler(value)
    except ValidationError:
        return None


class _Profile(RequestSchema):
    """What a token must say about somebody who gets a row."""

    # Not trimmed, as other texts are: what differs by a space is somebody else.
    subject: Annotated[str, Field(max_length=255)]
    username: ShortText
    email: Email
    full_name: Annotated[ShortText | None, WrapValidator(_or_none)]


async def _provision_user(session: AsyncSession, token: TokenData, issuer: str) -> User | None:
    """Make the token's user, unless a row of somebody else is in the way."""
    # Without that, the address may be somebody else's.
    if token.email_verified is not True:
        return None
    try:
        profile = _Profile.model_validate(
            {
                "subject": token.subject,
                # JWTs have OpenID Connect's name for it.
                "username": token.username or token.claim("preferred_username"),
                "email": token.claim("email"),
                "full_name": token.claim("name"),
            }
        )
    except ValidationError:
        return None
    # Of several first requests at once, one inserts, and the others wait for it.
    values = profile.model_dump() | {"id": uuid7(), "issuer": issuer}
    await session.exec(insert(User).values(**values).on_conflict_do_nothing())
    return await _find_user(session, token, issuer)


OptionalUser = Annotated[User | None, Depends(find_current_user)]


async def get_current_user(
    token: CurrentToken, user: OptionalUser, settings: CurrentSettings
) -> User:
    """Return the user that the token speaks for.

    Raises:
        Forbidden: The token is good, and the service does not know its user.
    """
    if token.subject is None:
        claim = settings.sso_subject_claim
        raise Forbidden(f"The token has no claim {claim}, by which this service knows its users.")
    if user is None:
        raise Forbidden("The service has no user for this token.")
    return user


CurrentUser = Annotated[User, Depends(get_current_user)]
