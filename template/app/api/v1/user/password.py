"""The routes of users' passwords: an owner knows the old one, and an administrator has a role."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Request, Security, status

from app.api.dependencies import find_current_user, get_current_user
from app.core.etag import OptionalIfMatch, Precondition
from app.core.passwords import Password, check_password, hash_password
from app.core.schema import RequestSchema
from app.database.model.user import User
from app.database.queries import update_row
from app.database.session import Database, DbSession
from app.settings import CurrentSettings
from app.utils.sso.authorization import require_roles
from app.utils.sso.introspection import CurrentToken
from app.utils.sso.introspection_schema import TokenData

UserAdmin = Annotated[TokenData, Security(require_roles("admin"), scopes=["user:write"])]

router = APIRouter()


class PasswordChange(RequestSchema):
    """The body with which users change their own password."""

    old_password: Password
    password: Password


class PasswordReset(RequestSchema):
    """The body with which an administrator sets a user's password; null removes it."""

    password: Password | None


@router.put("/me/password", status_code=status.HTTP_204_NO_CONTENT)
async def change_password(
    token: CurrentToken,
    data: PasswordChange,
    settings: CurrentSettings,
    session: DbSession,
    request: Request,
) -> None:
    """Change the caller's own password."""
    database: Database = request.app.state.database
    # In a session of its own: no connection waits while passwords are hashed.
    async with database.sessionmaker.begin() as reading:
        found = await find_current_user(token, reading, settings)
        user = await get_current_user(token, found, settings)
    await check_password(user.id, data.old_password, user.password_hash)
    changes = {"password_hash": await hash_password(data.password)}
    # Whoever has changed the row since may have taken the password away.
    unchanged = Precondition(frozenset({str(user.version)}))
    await update_row(session, User, user.id, changes, unchanged)


@router.put("/{user_id:uuid}/password", status_code=status.HTTP_204_NO_CONTENT)
async def reset_password(
    _admin: UserAdmin,
    user_id: UUID,
    data: PasswordReset,
    if_match: OptionalIfMatch,
    session: DbSession,
) -> None:
    """Set or remove a user's password."""
    # Before the row is locked, for the same reason.
    hashed = None if data.password is None else await hash_password(data.password)
    await update_row(session, User, user_id, {"password_hash": hashed}, if_match)
