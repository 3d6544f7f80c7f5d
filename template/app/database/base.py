"""What every table shares: the metadata's naming convention and the columns of TableBase."""

import secrets
import time
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import Table, func, text
from sqlalchemy.orm import declared_attr
from sqlmodel import Field, SQLModel

# A migration can only drop a constraint whose name it knows, so the names are ours to choose.
# The convention is part of every project's schema: a changed line would rename constraints.
SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


# The last key's time, in units of 1/4096 ms.
_last_time = 0


def uuid7() -> UUID:
    """Return a UUID that is greater than any that this process has made before (RFC 9562 §5.7).

    Their order is the order of creation: new rows land on the last page of the primary key's
    index, where random keys would touch every page, and lists that are sorted by it are stable.
    The twelve bits behind the milliseconds are a finer clock (§6.2, method 3).
    """
    global _last_time
    _last_time = max(time.time_ns() * 4096 // 1_000_000, _last_time + 1)
    milliseconds, fraction = divmod(_last_time, 4096)
    version, variant = 0x7 << 76, 0b10 << 62
    return UUID(int=milliseconds << 80 | version | fraction << 64 | variant | secrets.randbits(62))


class TableBase(SQLModel):
    """The columns of every table: ``class Invoice(TableBase, table=True)``.

    All but ``id`` are None until the row is flushed: the database sets them.

    ``created_at`` and ``updated_at`` are UTC times of the database's clock. ``version`` counts
    the row's updates: an UPDATE names the version that it read, so that one made from a stale
    row raises ``StaleDataError`` (answered with 409) instead of undoing somebody's change.
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
        # Values made by the database come back with the INSERT or UPDATE itself. Loading them
        # later would be I/O in an attribute access, which an async session refuses.
        return {"version_id_col": cls.__table__.c.version, "eager_defaults": True}
