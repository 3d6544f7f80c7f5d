"""The bodies of the user resource."""

from datetime import datetime
from uuid import UUID

from app.core.pagination import PageQuery
from app.core.schema import Email, RequestSchema, ResponseSchema, ShortText, omittable


class UserCreate(RequestSchema):
    """The body that creates a user."""

    username: ShortText
    email: Email
    full_name: ShortText | None = None


class UserUpdate(RequestSchema):
    """The body that changes a user; what is left out stays as it is."""

    username: ShortText = omittable()
    email: Email = omittable()
    full_name: ShortText | None = omittable()


class UserQuery(PageQuery):
    """The filters of a list of users."""

    username: ShortText | None = None
    email: Email | None = None


class UserRead(ResponseSchema):
    """A user, as the API shows it."""

    id: UUID
    username: str
    email: str
    full_name: str | None
    created_at: datetime
    updated_at: datetime


class Me(ResponseSchema):
    """The caller as the token describes them, and their user if the service has one."""

    subject: str | None
    username: str | None
    client_id: str | None
    scopes: list[str]
    user: UserRead | None
