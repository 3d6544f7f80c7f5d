"""A table of the tests' own: the service's may change, or go."""

from sqlalchemy import MetaData
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from app.database.base import TableBase

# Apart from the service's metadata, so that Alembic does not ask for a migration.
notes = registry(metadata=MetaData(naming_convention=SQLModel.metadata.naming_convention))


class NoteBase(TableBase, registry=notes):
    """Where a registry is named, SQLModel maps only the classes below."""


class Note(NoteBase, table=True):
    """Something to store."""

    title: str = Field(max_length=255, unique=True)
    text: str | None = None
