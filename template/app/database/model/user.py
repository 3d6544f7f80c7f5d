"""The people known to this service."""

from sqlmodel import Field

from app.database.base import TableBase


class User(TableBase, table=True):
    """A person, beside what their token says about them.

    ``subject`` is the token's ``sub``: the one identifier that the identity provider promises
    never to give to somebody else. It is empty until the person is known to it.
    """

    # PostgreSQL reserves the name "user": an unquoted SELECT from it answers with the role.
    __tablename__ = "user_account"

    username: str = Field(max_length=255, unique=True)
    email: str = Field(max_length=320, unique=True)
    full_name: str | None = Field(default=None, max_length=255)
    subject: str | None = Field(default=None, max_length=255, unique=True)
