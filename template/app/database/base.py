"""What every table shares: the metadata's naming convention and the columns of TableBase."""

import secrets
import time
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import Table, func, text
from sqlalchemy.orm import declared_attr
from sqlmodel import Field, SQLModel

# A migration can drop a constraint only by its name, so names must be predictable. They are part of
# every project's schema: to change the convention would be to rename constraints.
SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


# The time of the last key, in units of 1/4096 ms.
_last_time = 0


def uuid7() -> UUID:
    """Return a UUIDv7 that is greater than all earlier ones of this process (RFC 9562 §5.7).

    UUIDs sort by creation time. New rows are therefore added at the end of the primary key's
    index, where random keys would touch every page, and lists in their order are stable. The twelve
    bits after the milliseconds are a more precise clock (§6.2, method 3).
    """
    global _last_time
    _last_time = max(time.time_ns() * 4096 // 1_000_000, _last_time + 1)
    milliseconds, fraction = divmod(_last_time, 4096)
    version, variant = 0x7 << 76, 0b10 << 62
    return UUID(int=milliseconds << 80 | version | fraction << 64 | variant | secrets.randbits(62))


class TableBase(SQLModel):
    """The columns of every table: ``class Invoice(TableBase, table=True)``.

    The database sets all but ``id``, which are None until the row is flushed. ``created_at`` and
    ``updated_at`` are in UTC, by the database's clock. ``version`` is incremented by each update,
    whose WHERE clause has the version that was read: an update of a stale row raises
    ``StaleDataError`` (answered with 409) instead of overwriting a concurrent change.
    """

    __table__: ClassVar[Table]

    id: UUID = Field(default_factory=uuid7, primary_key=True)
    created_at: datetime = Field(
        default=None,
        nullable=False,
        sa_column_kwargs={"server_default": func.now()},
    )
    updated_at: datetime = Field(
        default=None,
        nullable=False,
        sa_column_kwargs={"server_default": func.now(), "onupdate": func.now()},
    )
    version: int = Field(
        default=None,
        nullable=False,
        sa_column_kwargs={"server_default": text("1")},
    )

    @declared_attr.directive
    @classmethod
    def __mapper_args__(cls) -> dict[str, Any]:
        # INSERT and UPDATE return the values that the database sets. Loading them later would be
        # I/O in an attribute access, which an async session does not allow.
        return {"version_id_col": cls.__table__.c.version, "eager_defaults": True}
