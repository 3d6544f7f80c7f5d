"""What Alembic's autogenerate leaves out or gets wrong.

It knows neither enumerations, nor schemas, nor whose a table is; it asks the database whether two
defaults are equal, which not every type can answer.
"""

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Literal

import sqlalchemy as sa
from alembic.autogenerate.api import AutogenContext
from alembic.ddl.postgresql import PostgresqlImpl
from alembic.migration import MigrationContext
from alembic.operations.ops import AddColumnOp, ExecuteSQLOp, MigrationScript, ModifyTableOps
from alembic.script import ScriptDirectory
from sqlalchemy.dialects.postgresql.base import PGInspector
from sqlalchemy.exc import DBAPIError
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import AutoString, UTCDateTime

from app.core.project import DOCUMENTATION
from migrations.migrator import MigrationError

logger = logging.getLogger("alembic.env")

# Partitions and other inheriting tables, what belongs to an extension, and the indexes of both.
_FOREIGN = sa.text("""
    SELECT nspname, relname
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE pg_class.oid IN (SELECT inhrelid FROM pg_inherits)
       OR pg_class.oid IN (
           SELECT objid FROM pg_depend WHERE classid = 'pg_class'::regclass AND deptype = 'e'
       )
""")

_RENAME = (
    "Rename one of the classes, or name the type: "
    'sa_type=Enum(State, name="order_state"). Nothing was written.'
)

type IncludeName = Callable[[str | None, str, Mapping[str, str | None]], bool]


def only_ours(connection: sa.Connection, scripts: ScriptDirectory) -> IncludeName:
    """Return Alembic's ``include_name``: what may be compared with the models.

    A table without a model is proposed for removal only if a revision names it. All others are
    somebody else's: partitions, the tables of extensions, of other services and of tools.
    """
    tables = SQLModel.metadata.tables.values()
    default = connection.dialect.default_schema_name
    declared = {(table.schema or default, table.name) for table in tables}

    @cache
    def foreign() -> set[tuple[str, str]]:
        return {(schema, name) for schema, name in connection.execute(_FOREIGN)}

    @cache
    def history() -> str:
        paths = [Path(script.path) for script in scripts.walk_revisions()]
        return "\n".join(path.read_text("utf-8") for path in paths)

    def include_name(name: str | None, kind: str, parents: Mapping[str, str | None]) -> bool:
        if name is None or kind == "schema":
            return name is None or any(schema == name for schema, _ in declared)
        key = (parents.get("schema_name") or default, name)
        if kind == "table" and key not in declared:
            named = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", history())
            return named is not None and key not in foreign()
        return kind != "index" or key not in foreign()

    return include_name


class PostgresqlDefaults(PostgresqlImpl):
    """Alembic's PostgreSQL, with another comparison of server defaults. To define it is enough."""

    __dialect__ = "postgresql"

    def compare_server_default(
        self,
        inspector_column: sa.Column[object],  # noqa: ARG002 - Alembic's signature
        metadata_column: sa.Column[object],
        rendered_metadata_default: str | None,  # noqa: ARG002 - the same
        rendered_inspector_default: str | None,
    ) -> bool:
        """Return whether a column's default in the database is not that of the model.

        PostgreSQL writes a default in its own way (``'{}'::jsonb``), so the model's is given to a
        temporary table, and read back from there.
        """
        table = metadata_column.table
        if metadata_column.primary_key and metadata_column is table.autoincrement_column:
            return False  # The database counts.
        compiler = self.dialect.ddl_compiler(self.dialect, None)  # type: ignore[arg-type]
        default = compiler.get_column_default_string(metadata_column)
        found = rendered_inspector_default
        if default == found or default is None or found is None:
            return default != found
        type_ = self.dialect.type_compiler_instance.process(metadata_column.type)
        connection = self.connection
        assert connection is not None  # noqa: S101 - only offline mode has none
        savepoint = connection.begin_nested()
        try:
            connection.exec_driver_sql(
                f"CREATE TEMPORARY TABLE compared_default (of_model {type_} DEFAULT {default})"
            )
            written = connection.exec_driver_sql(
                "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef"
                " WHERE adrelid = 'pg_temp.compared_default'::regclass"
            ).scalar_one()
            if written == found:
                return False
            # A column that had another type once may write the same value with another cast.
            return not connection.exec_driver_sql(f"SELECT ({found}) = ({written})").scalar()
        except DBAPIError:
            return True  # Such as a type that is new, or that has no equality.
        finally:
            savepoint.rollback()


def render_item(kind: str, item: object, autogen_context: AutogenContext) -> str | Literal[False]:
    """Render a column's type so that a migration needs no import of SQLModel or of the models.

    An enumeration does not create its type: ``complete_revision`` adds a statement that does.
    SQLAlchemy would create it with each table that uses it, and with no added column.
    """
    if kind == "server_default" and isinstance(item, sa.DefaultClause):
        # Alembic would take the quotes at the ends of a text for those around it.
        return repr(item.arg) if isinstance(item.arg, str) else False
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
    """Add schemas and enumerations, and write no file when nothing has changed.

    Raises:
        MigrationError: The models ask for what no migration can carry out.
    """
    script = directives[0]
    # An empty revision, to be filled in by hand, is not compared with anything.
    if script.upgrade_ops is None or script.downgrade_ops is None or context.connection is None:
        return
    _refuse_required_columns(script.upgrade_ops.ops)
    added, taken_back = _enumerations(context.connection)
    schemas = _new_schemas(context.connection)
    script.upgrade_ops.ops[:0] = [
        *(_ChangeType(f"CREATE SCHEMA IF NOT EXISTS {name}") for name in schemas),
        *added,
    ]
    script.downgrade_ops.ops += [
        *taken_back,
        *(_ChangeType(f"DROP SCHEMA {name}") for name in schemas),
    ]
    # `alembic check` calls this too; it needs its script, which has no message.
    if script.message and script.upgrade_ops.is_empty():
        directives.clear()
        logger.warning("The models have not changed: nothing to write.")


def _refuse_required_columns(operations: Iterable[object]) -> None:
    """Refuse a column that the rows of an existing table would have no value for."""
    for table in operations:
        for added in table.ops if isinstance(table, ModifyTableOps) else ():
            if not isinstance(added, AddColumnOp):
                continue
            column = added.column
            if not column.nullable and column.server_default is None:
                raise MigrationError(
                    f"{added.table_name}.{column.name} is required, and the rows that exist have"
                    " no value for it. Give it a server_default in the model, or allow None; "
                    f"{DOCUMENTATION}/add-a-field.md shows how. Nothing was written."
                )


def _new_schemas(connection: sa.Connection) -> list[str]:
    """Return the quoted names of the schemas that the models need and the database lacks."""
    tables = SQLModel.metadata.tables.values()
    needed = {table.schema for table in tables} | {enum.schema for enum in _declared(tables)}
    missing = {name for name in needed if name} - {*sa.inspect(connection).get_schema_names()}
    return [connection.dialect.identifier_preparer.quote(name) for name in sorted(missing)]


class _ChangeType(ExecuteSQLOp):
    """A statement about a type or a schema, which `alembic check` can name."""

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
    """Return the enumerations of the tables' columns, each once.

    Raises:
        MigrationError: Two that differ, or one and a table, have the same name.
    """
    found: dict[tuple[str | None, str | None], tuple[sa.Column[object], sa.Enum]] = {}
    tables = list(tables)
    for column in (column for table in tables for column in table.columns):
        type_ = column.type
        while isinstance(type_, sa.TypeDecorator | sa.ARRAY):
            type_ = type_.item_type if isinstance(type_, sa.ARRAY) else type_.impl_instance
        if not isinstance(type_, sa.Enum) or not type_.native_enum:
            continue
        key = (type_.schema, type_.name)
        if key in {(table.schema, table.name) for table in tables}:
            raise MigrationError(
                f"The enumeration of {column} has the name of the table {type_.name}, and in"
                f" PostgreSQL a table is a type too. {_RENAME}"
            )
        first, known = found.setdefault(key, (column, type_))
        if known.enums != type_.enums:
            raise MigrationError(
                f"{first} and {column} have different enumerations of the name {type_.name}:"
                f" {', '.join(known.enums)} and {', '.join(type_.enums)}. {_RENAME}"
            )
    return [type_ for _, type_ in found.values()]


def _literal(label: str) -> str:
    """Quote a label; a colon is escaped, because ``op.execute`` would read a parameter."""
    return "'" + label.replace("'", "''").replace(":", r"\:") + "'"
