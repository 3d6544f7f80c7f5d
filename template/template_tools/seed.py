"""Fill the tables with made-up rows, for development.

They follow from the models: types, names, constraints and references. The same seed gives the same
rows on the same day, and a second run adds others. If the command fails, nothing is kept.
"""

import asyncio
import sys
import warnings
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from difflib import get_close_matches
from random import Random

from sqlalchemy import URL, Connection, ForeignKeyConstraint, Table, func, inspect, select
from sqlalchemy.exc import IntegrityError, StatementError
from sqlmodel import SQLModel

from app.core.errors import DatabaseUnavailable
from app.core.settings import DatabaseSettings, hosts_of, is_remote, load_settings
from app.database.session import create_engine
from template_tools.arguments import ArgumentParser
from template_tools.configuration import configured
from template_tools.generator import ResourceError
from template_tools.generator.models import Models, read_models
from template_tools.made_up import (
    Cell,
    NotMakeable,
    Row,
    Rule,
    is_left_to_database,
    plain_type,
    rules_of,
    unique_sets,
)
from template_tools.messages import Problem, _
from template_tools.postgres import PostgresError, development_database
from template_tools.terminal import print_error

# How often a row is made anew that the database refuses: for a duplicate, by a check, or by an
# exclusion constraint.
_ATTEMPTS = 20
_REFUSALS = ("23505", "23514", "23P01")
# Rows refer to the first so many parents.
_PARENTS = 1000


class SeedError(Problem):
    """A sentence: what is in the way, and what to do about it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill the tables; errors are one sentence on standard error."""
    parser = ArgumentParser(prog="uv run poe seed", description=_(__doc__))
    tables = _("or resource (default: all)")
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=tables)
    parser.add_argument("--rows", type=_count, default=20, help=_("of each table (default: 20)"))
    seed = _("another makes others (default: 1)")
    parser.add_argument("--seed", type=int, default=1, help=seed)
    database = _("name it, if it is not on this machine")
    parser.add_argument("--database", metavar="HOST/NAME", help=database)
    options = parser.parse_args(arguments)
    try:
        with development_database():
            return asyncio.run(_seed(options))
    except (PostgresError, ResourceError, SeedError) as error:
        print_error(f"error: {error}")
    except KeyboardInterrupt:
        print_error(_("Interrupted; nothing was kept."))
    return 1


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 10_000):
        raise ArgumentTypeError(_("a number from 1 to 10000"))
    return int(text)


async def _seed(options: Namespace) -> int:
    settings = load_settings(DatabaseSettings)
    refuse_foreign(settings.database_url, options.database)
    models = read_models()
    chosen = _named(options.tables, models)
    engine = create_engine(settings, pooled=False)
    try:
        async with engine.begin() as connection:
            midnight = datetime.combine(datetime.now(UTC), time(), UTC)
            filler = Filler(models, options.rows, options.seed, midnight)
            return await connection.run_sync(_fill, filler, chosen)
    except DatabaseUnavailable as error:
        raise SeedError(
            "The database could not be reached: {reason}.", reason=error.reason
        ) from None
    finally:
        await engine.dispose()


def refuse_foreign(url: URL, named: str | None) -> None:
    """Fill no database that others may use, unless the command line names it.

    Raises:
        SeedError: It is on another machine, or of a service in production.
    """
    hosts = hosts_of(url)
    address = f"{','.join(hosts) or 'localhost'}/{url.database}"
    is_foreign = configured("ENVIRONMENT") == "production" or any(map(is_remote, hosts))
    if is_foreign and named != address:
        raise SeedError(
            "DATABASE_URL is {address}, and only a development database of this machine is "
            "filled without being asked for by name. If made-up rows may go there: "
            "uv run poe seed --database {address}",
            address=address,
        )


def _named(names: Sequence[str], models: Models) -> set[Table]:
    """Return the tables that are called so, or whose resources are."""
    tables = SQLModel.metadata.tables.values()
    by_name = {name: table for table in tables for name in (table.name, table.fullname)}
    for resource in models.resources():
        if (model := models.named(resource)) and model.table in by_name:
            by_name.setdefault(resource, by_name[model.table])
    for name in names:
        if name not in by_name:
            near = get_close_matches(name, by_name, 1)
            if near:
                raise SeedError(
                    "There is no table called {name}; did you mean {near}?",
                    name=name,
                    near=near[0],
                )
            raise SeedError(
                "There is no table called {name}. These are: {tables}.",
                name=name,
                tables=", ".join(sorted(by_name)),
            )
    return {by_name[name] for name in names}


def _fill(connection: Connection, filler: "Filler", chosen: set[Table]) -> int:
    """Fill the chosen tables, or all; return the exit code."""
    with warnings.catch_warnings(action="ignore"):
        # Tables that refer to each other have no order.
        tables = SQLModel.metadata.sorted_tables
    existing = inspect(connection)
    for table in tables:
        if not existing.has_table(table.name, table.schema):
            raise SeedError(
                "The database has no table {table}. Create it, and try again: uv run poe migrate",
                table=table.fullname,
            )
    needed = _with_parents(connection, chosen, tables) if chosen else {*tables}
    left_out = set()
    for table in tables:
        if table not in needed:
            continue
        made, reason = filler.fill(connection, table)
        if not made:
            left_out.add(table)
            why = _("left out, because {reason}", reason=reason)
            print_error(f"  {table.fullname}: {why}")
        elif made < filler.rows:
            few = _("{number}, and no more that differ", number=made)
            print(f"  {table.fullname}: {few}", flush=True)
        else:
            print(f"  {table.fullname}: {made}", flush=True)
    if left_out:
        print_error(
            _(
                "A column takes its values from examples in the model, where there are some: "
                'Field(sa_column_kwargs={"info": {"examples": ["one", "another"]}})'
            )
        )
    return 1 if chosen & left_out or left_out == needed else 0


def _with_parents(
    connection: Connection, chosen: set[Table], tables: Sequence[Table]
) -> set[Table]:
    """Return the tables, and the empty ones whose rows theirs need."""
    needed = {*chosen}
    # Children come before their parents here.
    for table in reversed(tables):
        for key in table.foreign_key_constraints if table in needed else ():
            if not any(column.nullable for column in key.columns):
                parent = key.referred_table
                if not connection.scalar(select(func.count()).select_from(parent)):
                    needed.add(parent)
    return needed


@dataclass(frozen=True, slots=True)
class Filler:
    """Adds rows to tables."""

    models: Models
    rows: int
    seed: int
    now: datetime

    def fill(self, connection: Connection, table: Table) -> tuple[int, str]:
        """Add rows; return how many, and why there are no more."""
        start = connection.scalar(select(func.count()).select_from(table)) or 0
        maker = RowMaker(self, connection, table)
        made, reason = 0, ""
        savepoint = connection.begin_nested()
        try:
            while made < self.rows and not reason:
                reason = self._add(connection, maker, start + made)
                made += not reason
        except NotMakeable as error:
            made, reason = 0, str(error)
        except StatementError as error:
            made, reason = 0, _first_line(error)
        if made:
            savepoint.commit()
        else:
            savepoint.rollback()
        return made, reason

    def _add(self, connection: Connection, maker: "RowMaker", number: int) -> str:
        """Add a row; return why the database refuses whatever is tried, or nothing."""
        reason = ""
        for attempt in range(_ATTEMPTS):
            try:
                with connection.begin_nested():
                    connection.execute(maker.table.insert(), maker.values(number, attempt))
            except IntegrityError as error:
                if getattr(error.orig, "sqlstate", None) not in _REFUSALS:
                    raise
                reason = _first_line(error)
            else:
                return ""
        return reason


def _first_line(error: StatementError) -> str:
    """Return what PostgreSQL says, without the class that SQLAlchemy names before it."""
    lines = str(error.orig or error).splitlines() or [type(error).__name__]
    return lines[0].rpartition(">: ")[2]


@dataclass(slots=True)
class RowMaker:
    """Makes the rows of a table."""

    filler: Filler
    connection: Connection
    table: Table
    _parents: dict[ForeignKeyConstraint, Sequence[Sequence[object]]] = field(default_factory=dict)
    _rules: dict[str, Rule] = field(init=False)
    _unique: set[frozenset[str]] = field(init=False)
    _defaults: dict[str, object] = field(init=False)

    def __post_init__(self) -> None:
        self._rules = rules_of(self.table)
        self._unique = unique_sets(self.table)
        model = self.filler.models.of_table(self.table.fullname)
        fields = model.cls.model_fields if model else {}
        self._defaults = {name: it.default for name, it in fields.items() if not it.is_required()}

    def values(self, number: int, attempt: int) -> dict[str, object]:
        """Return the values of a row; another attempt has others.

        Raises:
            NotMakeable: One of them cannot be made.
        """
        seed = self.filler.seed
        random = Random(f"{seed} {self.table.fullname} {number} {attempt}")  # noqa: S311
        # The number that an attempt takes is far from those of the other rows.
        row = Row(number + 7919 * attempt + seed, random, self.filler.now)
        values: dict[str, object] = {}
        for key in sorted(self.table.foreign_key_constraints, key=lambda it: -len(it.elements)):
            values |= self._reference(key, row, number + attempt, values)
        for column in self.table.columns:
            if column.name not in values and not is_left_to_database(column):
                values[column.name] = Cell(
                    column,
                    plain_type(column),
                    row,
                    self._rules.get(column.name, Rule()),
                    is_unique=frozenset({column.name}) in self._unique,
                    default=self._defaults.get(column.key),
                ).value()
        return {self.table.columns[name].key: value for name, value in values.items()}

    def _reference(
        self, key: ForeignKeyConstraint, row: Row, number: int, values: dict[str, object]
    ) -> dict[str, object]:
        """Return the columns that refer to a parent, which agrees with those that are known."""
        names = [element.parent.name for element in key.elements]
        known = [(at, values[name]) for at, name in enumerate(names) if name in values]
        parents = [it for it in self._known_parents(key) if all(it[at] == v for at, v in known)]
        optional = [element.parent.name for element in key.elements if element.parent.nullable]
        if optional and (not parents or row.random.random() < 0.15):
            return dict.fromkeys((name for name in optional if name not in values), None)
        if not parents:
            raise NotMakeable(
                "{columns} refers to {table}, which has no row",
                columns=", ".join(names),
                table=key.referred_table.fullname,
            )
        # A parent has one row of this table where the reference is unique.
        is_unique = frozenset(names) in self._unique
        parent = parents[number % len(parents)] if is_unique else row.random.choice(parents)
        return dict(zip(names, parent, strict=True))

    def _known_parents(self, key: ForeignKeyConstraint) -> Sequence[Sequence[object]]:
        known = self._parents.get(key, ())
        # A table that refers to itself gets more of them with each row.
        if key not in self._parents or (key.referred_table is self.table and len(known) < 50):
            columns = [element.column for element in key.elements]
            query = select(*columns).order_by(*columns).limit(_PARENTS)
            known = self._parents[key] = self.connection.execute(query).all()
        return known


if __name__ == "__main__":
    sys.exit(main())
