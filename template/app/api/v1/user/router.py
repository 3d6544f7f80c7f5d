"""The routes of the user resource.

A scope limits what a client may do, and says nothing about the person who uses it: whoever has the
scope to write may change every row. Where rows belong to people, compare with ``CurrentUser``, or
ask for a role.
"""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response, Security, status

from app.api.dependencies import OptionalUser
from app.api.v1.user import service
from app.api.v1.user.schema import Me, UserCreate, UserQuery, UserRead, UserUpdate
from app.core.etag import IfMatch, OptionalIfMatch, set_etag, set_location
from app.core.pagination import Page
from app.database.session import DbSession, ReadSession
from app.utils.sso.introspection import CurrentToken, introspect_token
from app.utils.sso.introspection_schema import TokenData

UserReader = Annotated[TokenData, Security(introspect_token, scopes=["user:read"])]
UserWriter = Annotated[TokenData, Security(introspect_token, scopes=["user:write"])]

router = APIRouter()


@router.get("/me")
async def read_me(token: CurrentToken, user: OptionalUser) -> Me:
    """Return what the token says about the caller."""
    return Me(
        subject=token.subject,
        username=token.username,
        client_id=token.client_id,
        scopes=sorted(token.scopes),
        user=None if user is None else UserRead.model_validate(user),
    )


@router.get("/")
async def list_users(
    _reader: UserReader, query: Annotated[UserQuery, Query()], session: ReadSession
) -> Page[UserRead]:
    """List users, the oldest first."""
    return Page[UserRead].of(await service.list_users(session, query))


@router.post("/", status_code=status.HTTP_201_CREATED)
async def create_user(
    _writer: UserWriter, data: UserCreate, session: DbSession, response: Response
) -> UserRead:
    """Create a user."""
    user = await service.create_user(session, data)
    set_location(response, user)
    return UserRead.model_validate(user)


@router.get("/{user_id:uuid}")
async def read_user(
    _reader: UserReader, user_id: UUID, session: DbSession, response: Response
) -> UserRead:
    """Return a user, with the ETag that an update requires."""
    user = await service.read_user(session, user_id)
    set_etag(response, user)
    return UserRead.model_validate(user)


@router.patch("/{user_id:uuid}")
async def update_user(
    _writer: UserWriter,
    user_id: UUID,
    data: UserUpdate,
    if_match: IfMatch,
    session: DbSession,
    response: Response,
) -> UserRead:
    """Change a user, unless it was changed meanwhile."""
    user = await service.update_user(session, user_id, data, if_match)
    set_etag(response, user)
    return UserRead.model_validate(user)


@router.delete("/{user_id:uuid}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_user(
    _writer: UserWriter, user_id: UUID, if_match: OptionalIfMatch, session: DbSession
) -> None:
    """Delete a user; with If-Match, only in that state."""
    await service.delete_user(session, user_id, if_match)
