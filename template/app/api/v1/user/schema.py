"""The bodies of the user resource."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import EmailStr, StringConstraints

from app.core.schema import RequestSchema, ResponseSchema, ShortText

type Email = Annotated[EmailStr, StringConstraints(to_lower=True)]


class UserCreate(RequestSchema):
    """A user to be."""

    username: ShortText
    email: Email
    full_name: ShortText | None = None


class UserRead(ResponseSchema):
    """A user as the service knows them."""

    id: UUID
    username: str
    email: str
    full_name: str | None
    created_at: datetime
    updated_at: datetime


class Me(ResponseSchema):
    """Who the token says the caller is, and the caller's user where there is one."""

    subject: str | None
    username: str | None
    client_id: str | None
    scopes: list[str]
    user: UserRead | None
