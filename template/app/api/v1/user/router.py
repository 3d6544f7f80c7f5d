"""The routes of the user resource."""

from fastapi import APIRouter, status

from app.api.dependencies import OptionalUser
from app.api.v1.user import service
from app.api.v1.user.schema import Me, UserCreate, UserRead
from app.database.session import DbSession
from app.utils.sso.introspection import CurrentToken

router = APIRouter()


@router.get("/me")
async def read_me(token: CurrentToken, user: OptionalUser) -> Me:
    """Tell the caller who the token says they are."""
    return Me(
        subject=token.subject,
        username=token.username,
        client_id=token.client_id,
        scopes=sorted(token.scopes),
        user=None if user is None else UserRead.model_validate(user),
    )


@router.post("/", status_code=status.HTTP_201_CREATED)
async def create_user(data: UserCreate, _token: CurrentToken, session: DbSession) -> UserRead:
    """Create a user."""
    return UserRead.model_validate(await service.create_user(session, data))
