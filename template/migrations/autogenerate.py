"""What Alembic's autogenerate leaves out: enumerations, and the names of SQLModel's types."""

import logging
from collections.abc import Iterable
from typing import Literal

import sqlalchemy as sa
from alembic.autogenerate.api import AutogenContext
from alembic.migration import MigrationContext
from alembic.operations.ops import ExecuteSQLOp, MigrationScript
from sqlalchemy.dialects.postgresql.base import PGInspector
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import AutoString, UTCDateTime

logger = logging.getLogger("alembic.env")


def render_item(kind: str, item: object, autogen_context: AutogenContext) -> str | Literal[False]:
    """Render a column's type so that a migration needs no import of SQLModel or of the models.

    An enumeration does not create its type: ``complete_revision`` adds a statement that does.
    SQLAlchemy would create it with each table that uses it, and with no added column.
    """
    if kind == "type" and isinstance(item, AutoString):
        return f"sa.String(length={item.length})" if item.length else "sa.String()"
    if kind == "type" and isinstance(item, UTCDateTime):
        # By position, so that a column with its default is one line.
        return "sa.DateTime(True)"
    if kind == "type" and isinstance(item, sa.Enum) and item.native_enum:
        autogen_context.imports.add("from sqlalchemy.dialects import postgresql")
        schema = f", schema={item.schema!r}" if item.schema else ""
        labels = ", ".join(map(repr, item.enums))
        return f"postgresql.ENUM({labels}, name={item.name!r}{schema}, create_type=False)"
    return False


def complete_revision(
    context: MigrationContext, _revision: object, directives: list[MigrationScript]
) -> None:
    """Add the statements for enumerations, and write no file when nothing has changed."""
    script = directives[0]
    # An empty revision, to be filled in by hand, is not compared with anything.
    if script.upgrade_ops is None or script.downgrade_ops is None or context.connection is None:
        return
    added, taken_back = _enumerations(context.connection)
    script.upgrade_ops.ops[:0] = added
    script.downgrade_ops.ops += taken_back
    # `alembic check` calls this too; it needs its script, which has no message.
    if script.message and script.upgrade_ops.is_empty():
        directives.clear()
        logger.warning("The models have not changed: nothing to write.")


class _ChangeType(ExecuteSQLOp):
    """A statement about a type, which `alembic check` can name."""

    def to_diff_tuple(self) -> tuple[str, str]:
        return "execute", str(self.sqltext)


def _enumerations(connection: sa.Connection) -> tuple[list[_ChangeType], list[_ChangeType]]:
    """Compare the models' enumerations with the database's.

    Returns:
        The statements that begin the upgrade, and those that end the downgrade. A label is never
        removed: PostgreSQL cannot, and rows may use it.
    """
    upgrade: list[_ChangeType] = []
    downgrade: list[_ChangeType] = []
    quote = connection.dialect.identifier_preparer.quote
    inspector = sa.inspect(connection)
    assert isinstance(inspector, PGInspector)  # noqa: S101 - the dialect's own inspector
    existing: dict[tuple[str | None, str], list[str]] = {}
    for found in inspector.get_enums("*"):
        existing[found["schema"], found["name"]] = found["labels"]
        if found["visible"]:
            existing[None, found["name"]] = found["labels"]
    for enum in _declared(SQLModel.metadata.tables.values()):
        name = ".".join(quote(part) for part in (enum.schema, enum.name) if part)
        labels = existing.get((enum.schema, str(enum.name)))
        if labels is None:
            listed = ", ".join(map(_literal, enum.enums))
            upgrade.append(_ChangeType(f"CREATE TYPE {name} AS ENUM ({listed})"))
            downgrade.append(_ChangeType(f"DROP TYPE {name}"))
            continue
        upgrade += [
            _ChangeType(f"ALTER TYPE {name} ADD VALUE IF NOT EXISTS {_literal(label)}")
            for label in enum.enums
            if label not in labels
        ]
    return upgrade, downgrade


def _declared(tables: Iterable[sa.Table]) -> list[sa.Enum]:
    """Return the enumerations of the tables' columns, each once."""
    found: dict[tuple[str | None, str | None], sa.Enum] = {}
    for column in (column for table in tables for column in table.columns):
        type_ = column.type.item_type if isinstance(column.type, sa.ARRAY) else column.type
        if isinstance(type_, sa.Enum) and type_.native_enum:
            found.setdefault((type_.schema, type_.name), type_)
    return list(found.values())


def _literal(label: str) -> str:
    """Quote a label; a colon is escaped, because ``op.execute`` would read a parameter."""
    return "'" + label.replace("'", "''").replace(":", r"\:") + "'"
