"""The tables that the service has, and how a test makes a row of one."""

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

from template_tools.generator import ResourceError
from template_tools.generator.names import class_name, words

PACKAGE = "app.database.model"
# An expression of a ``number`` from 0 to 9 for each type that a column may have.
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
    """The class of a table."""

    cls: type[SQLModel]

    @property
    def name(self) -> str:
        """The name of the class."""
        return self.cls.__name__

    @property
    def module(self) -> str:
        """The last part of the module's name."""
        return self.cls.__module__.rpartition(".")[2]

    @property
    def _table(self) -> Table:
        table: Table = self.cls.__table__  # type: ignore[attr-defined]
        return table

    @property
    def table(self) -> str:
        """The name of the table, after that of its schema where it has one."""
        return self._table.fullname

    @property
    def has_uuid(self) -> bool:
        """Whether the key is a UUID called id, as that of every TableBase."""
        (key, *others) = self._table.primary_key.columns
        return key.name == "id" and isinstance(key.type, Uuid) and not others

    def required(self) -> list[Column[object]]:
        """Return the columns for which neither the class nor the database has a value."""
        return [column for column in self._table.columns if not self._has_value(column)]

    def _has_value(self, column: Column[object]) -> bool:
        field = self.cls.model_fields.get(column.key)
        made_by = (column.default, column.server_default, column.computed, column.identity)
        return (
            column.nullable
            or column.primary_key
            or any(maker is not None for maker in made_by)
            or (field is not None and not field.is_required())
        )


@dataclass(frozen=True, slots=True)
class Models:
    """All of them, and the names of all tables: some have no class, and one is Alembic's."""

    models: tuple[Model, ...]
    tables: frozenset[str] = frozenset()

    def resources(self) -> list[str]:
        """Return the names that a relation may refer to."""
        return [re.sub(r"(?<!^)(?=[A-Z])", "_", model.name).lower() for model in self.models]

    def named(self, resource: str) -> Model | None:
        """Return the class that is called so, or the only one in a module that is."""
        by_class = [model for model in self.models if model.name == class_name(resource)]
        in_module = [model for model in self.models if model.module == resource]
        return next((found[0] for found in (by_class, in_module) if len(found) == 1), None)

    def of_table(self, table: str) -> Model | None:
        """Return the class of a table."""
        return next((model for model in self.models if model.table == table), None)

    def with_ancestors(self, model: Model, below: tuple[Model, ...] = ()) -> list[Model]:
        """Return the model, after all those whose rows a row of it refers to.

        Raises:
            ResourceError: They need each other, so that no first row could be stored.
        """
        if model in below:
            raise ResourceError(
                "A row of {table} needs another one first, so the tests cannot make one: "
                "leave the relation out, and add it by hand.",
                table=model.table,
            )
        found: list[Model] = []
        for column in model.required():
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
        import_module(PACKAGE)
    except Exception as error:
        raise ResourceError(
            "The tables of {folder} cannot be imported: {error}",
            folder=PACKAGE.replace(".", "/"),
            error=f"{type(error).__name__}: {error}",
        ) from error
    classes = {mapper.class_ for mapper in SQLModel._sa_registry.mappers}
    found = [Model(it) for it in classes if it.__module__.startswith(f"{PACKAGE}.")]
    return Models(
        tuple(sorted(found, key=lambda model: model.name)),
        frozenset({*SQLModel.metadata.tables, "alembic_version"}),
    )


def row_maker(model: Model) -> str:
    """Return Python that makes a row, whose ``key`` is that of the rows it refers to.

    Raises:
        ResourceError: There is no example for the type of a column.
    """
    values = ["id=key"]
    for column in model.required():
        value = "key" if column.foreign_keys else _example(model, column)
        values.append(f"{column.key}={value}")
    return f"{model.name}({', '.join(values)})"


def imports(model: Model) -> list[str]:
    """Return the imports that ``row_maker`` needs beside those of the standard library."""
    needed = [model.cls, *(kind for it in model.required() if (kind := _enum(it)))]
    return [f"from {kind.__module__} import {kind.__name__}" for kind in needed]


def _example(model: Model, column: Column[object]) -> str:
    if kind := _enum(column):
        return f"{kind.__name__}.{next(iter(kind)).name}"
    try:
        decorated = column.type
        plain = decorated.impl_instance if isinstance(decorated, TypeDecorator) else decorated
        type_ = plain.python_type
        return _text_example(column) if type_ is str else _EXAMPLES[type_]
    except (KeyError, NotImplementedError):
        raise _no_example(model, column) from None


def _text_example(column: Column[object]) -> str:
    for check in column.table.constraints:
        if isinstance(check, CheckConstraint):
            # The first of the words that the check allows.
            choice = re.match(rf'"?{column.name}"? IN \(\'(\w+)\'', str(check.sqltext))
            if choice:
                return f'"{choice[1]}"'
    name = words(column.key)
    length: int | None = getattr(column.type, "length", None)
    fits = length is None or length >= len(name) + 2
    return f'f"{name} {{number}}"' if fits else "str(number)"


def _enum(column: Column[object]) -> type[enum.Enum] | None:
    return column.type.enum_class if isinstance(column.type, Enum) else None


def _no_example(model: Model, column: Column[object]) -> ResourceError:
    return ResourceError(
        "The tests would need a row of {table}, and there is no example for its column "
        '"{column}" ({type}): leave the relation out, and add it by hand.',
        table=model.table,
        column=column.name,
        type=column.type,
    )
