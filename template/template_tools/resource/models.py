"""The tables that the service has already, and how a test makes a row of one."""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from importlib import import_module
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, Enum, Table, TypeDecorator, Uuid
from sqlmodel import SQLModel

from template_tools.resource import ResourceError
from template_tools.resource.names import class_name, words

_PACKAGE = "app.database.model"
# Python with a ``number`` from 0 to 9 in reach, for each type that a column may hold.
_EXAMPLES: Mapping[type, str] = {
    bool: "number % 2 == 1",
    int: "number",
    float: "number + 0.5",
    Decimal: "Decimal(number)",
    date: "date(2026, 11, number + 1)",
    datetime: "datetime(2026, 11, number + 1, tzinfo=UTC)",
    time: "time(number)",
    timedelta: "timedelta(number)",
    UUID: "UUID(int=number)",
    bytes: "bytes([number])",
    dict: "{}",
    list: "[]",
}


@dataclass(frozen=True, slots=True)
class Model:
    """A table's class."""

    cls: type[SQLModel]

    @property
    def name(self) -> str:
        """The name of the class."""
        return self.cls.__name__

    @property
    def module(self) -> str:
        """The last word of the module's name."""
        return self.cls.__module__.rpartition(".")[2]

    @property
    def _table(self) -> Table:
        table: Table = self.cls.__table__  # type: ignore[attr-defined]
        return table

    @property
    def table(self) -> str:
        """The name of the table, behind that of its schema where it has one."""
        return self._table.fullname

    @property
    def columns(self) -> list[Column[object]]:
        """The columns of the table."""
        return list(self._table.columns)

    @property
    def has_uuid(self) -> bool:
        """Whether the key is a UUID called id, as that of every TableBase."""
        (key, *others) = [column for column in self.columns if column.primary_key]
        return key.name == "id" and isinstance(key.type, Uuid) and not others


@dataclass(frozen=True, slots=True)
class Models:
    """All of them, and the names of all tables: some have no class, and one is Alembic's."""

    models: tuple[Model, ...]
    tables: frozenset[str] = frozenset()

    def resources(self) -> list[str]:
        """Return the words that a relation may name."""
        return [_snake(model.name) for model in self.models]

    def named(self, resource: str) -> Model | None:
        """Return the class that is called so, or the only one in a module that is."""
        by_class = [model for model in self.models if model.name == class_name(resource)]
        in_module = [model for model in self.models if model.module == resource]
        return next((found[0] for found in (by_class, in_module) if len(found) == 1), None)

    def of_table(self, table: str) -> Model | None:
        """Return the class of a table."""
        return next((model for model in self.models if model.table == table), None)

    def with_ancestors(self, model: Model, below: tuple[Model, ...] = ()) -> list[Model]:
        """Return the model behind all those that a row of it cannot do without.

        Raises:
            ResourceError: They need each other, so that no first row could be stored.
        """
        if model in below:
            raise ResourceError(
                f"A row of {model.table} needs another one first, so the tests cannot make one: "
                "leave the relation out, and add it by hand."
            )
        found: list[Model] = []
        for column in _required(model):
            for key in column.foreign_keys:
                parent = self.of_table(key.column.table.fullname)
                if parent is None:
                    raise _no_example(model, column)
                found += self.with_ancestors(parent, (*below, model))
        return list(dict.fromkeys([*found, model]))


def read_models() -> Models:
    """Import the service's tables.

    Raises:
        ResourceError: They cannot be imported.
    """
    try:
        import_module(_PACKAGE)
    except Exception as error:
        raise ResourceError(
            f"The tables of {_PACKAGE.replace('.', '/')} cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error
    mappers = SQLModel._sa_registry.mappers
    found = {
        mapper.class_ for mapper in mappers if mapper.class_.__module__.startswith(f"{_PACKAGE}.")
    }
    return Models(
        tuple(sorted(map(Model, found), key=lambda model: model.name)),
        frozenset({*SQLModel.metadata.tables, "alembic_version"}),
    )


def row_maker(model: Model) -> str:
    """Return Python that makes a row, whose key is ``number``.

    Raises:
        ResourceError: There is no example for the type of a column.
    """
    values = ["id=UUID(int=number)"]
    for column in _required(model):
        value = "UUID(int=number)" if column.foreign_keys else _example(model, column)
        values.append(f"{column.key}={value}")
    return f"{model.name}({', '.join(values)})"


def imports(model: Model) -> list[str]:
    """Return the imports that ``row_maker`` needs beside those of the standard types."""
    needed = [model.cls, *(kind for column in _required(model) if (kind := _enum(column)))]
    return [f"from {kind.__module__} import {kind.__name__}" for kind in needed]


def _required(model: Model) -> list[Column[object]]:
    """Return the columns for which neither the class nor the database has a value."""
    return [column for column in model.columns if not _has_value(model, column)]


def _has_value(model: Model, column: Column[object]) -> bool:
    field = model.cls.model_fields.get(column.key)
    made_by = (column.default, column.server_default, column.computed, column.identity)
    return (
        column.nullable
        or column.primary_key
        or any(maker is not None for maker in made_by)
        or (field is not None and not field.is_required())
    )


def _example(model: Model, column: Column[object]) -> str:
    kind = _enum(column)
    if kind is not None:
        return f"{kind.__name__}.{next(iter(kind)).name}"
    try:
        decorated = column.type
        plain = decorated.impl_instance if isinstance(decorated, TypeDecorator) else decorated
        type_ = plain.python_type
        return _text_example(column) if type_ is str else _EXAMPLES[type_]
    except (KeyError, NotImplementedError):
        raise _no_example(model, column) from None


def _text_example(column: Column[object]) -> str:
    if choice := _choice(column):
        return f'"{choice}"'
    name = words(column.key)
    length: int | None = getattr(column.type, "length", None)
    fits = length is None or length >= len(name) + 2
    return f'f"{name} {{number}}"' if fits else "str(number)"


def _choice(column: Column[object]) -> str | None:
    """Return the first of the words that a check leaves to the column, if there is one."""
    checks = [it for it in column.table.constraints if isinstance(it, CheckConstraint)]
    found = (re.match(rf'"?{column.name}"? IN \(\'(\w+)\'', str(check.sqltext)) for check in checks)
    return next((match[1] for match in found if match), None)


def _enum(column: Column[object]) -> type[enum.Enum] | None:
    return column.type.enum_class if isinstance(column.type, Enum) else None


def _no_example(model: Model, column: Column[object]) -> ResourceError:
    return ResourceError(
        f"The tests would need a row of {model.table}, and there is no example for its column "
        f'"{column.name}" ({column.type}): leave the relation out, and add it by hand.'
    )


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip(
        "_"
    )
