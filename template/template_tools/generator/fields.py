"""The fields of a resource: how the command line describes them, and what they become."""

import difflib
import keyword
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy.dialects.postgresql.base import RESERVED_WORDS

from app.core.schema import EMAIL_LENGTH
from template_tools.generator import ResourceError
from template_tools.generator.models import Models
from template_tools.generator.names import MAX_LENGTH, Names, words
from template_tools.messages import _

_NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
# Pydantic warns of fields whose names begin like its own methods.
_PYDANTIC_S = ("model_dump", "model_validate")
_MODIFIERS = ("optional", "unique", "index")
# What other languages and databases call a type.
_OTHER_NAMES = {
    "boolean": "bool",
    "integer": "int",
    "mail": "email",
    "money": "decimal",
    "numeric": "decimal",
    "number": "decimal",
    "string": "str",
    "time": "datetime",
    "timestamp": "datetime",
    "varchar": "str",
}


@dataclass(frozen=True, slots=True)
class FieldType:
    """What a type of the command line becomes.

    Args:
        help: What ``--help`` says.
        column: The type of the column, and of the member of responses.
        request: The type of the member of requests and filters.
        example: An expression of a ``number`` from 0 to 9, whose value can be sent as JSON.
        options: Arguments of the column's ``Field()``.
        is_filterable: Whether lists can be filtered by it.
        can_be_unique: Whether it may say ``unique``.
    """

    help: str
    column: str
    request: str
    example: str
    options: str = ""
    is_filterable: bool = True
    can_be_unique: bool = True


TYPES = {
    "str": FieldType(
        _("a line of text, 255 characters at most"),
        "str",
        "ShortText",
        'f"{words} {{number}}"',
        "max_length=255",
    ),
    "text": FieldType(
        _("lines of text, 10,000 characters at most"),
        "str",
        "LongText",
        'f"{words} {{number}}\\nand more"',
        "max_length=10_000",
        is_filterable=False,
        can_be_unique=False,
    ),
    "email": FieldType(
        _("an address, kept in lower case"),
        "str",
        "Email",
        'f"{name}-{{number}}@example.com"',
        f"max_length={EMAIL_LENGTH}",
    ),
    "int": FieldType(_("a whole number of 32 bits"), "int", "Integer", "number"),
    "float": FieldType(
        _("a number of double precision, for what is measured"),
        "float",
        "Number",
        "number + 0.5",
        is_filterable=False,
        can_be_unique=False,
    ),
    "decimal": FieldType(
        _("a number with two decimal places, for money; as a string in answers"),
        "Decimal",
        "Amount",
        'f"{{number}}.50"',
        "max_digits=14, decimal_places=2",
    ),
    "bool": FieldType(
        _("true or false"), "bool", "Boolean", "number % 2 == 1", can_be_unique=False
    ),
    "date": FieldType(_("a day"), "date", "Day", 'f"2026-11-2{{number}}"'),
    "datetime": FieldType(
        _("a point in time, with its zone"),
        "datetime",
        "Timestamp",
        'f"2026-11-22T12:43:0{{number}}Z"',
    ),
    "uuid": FieldType(
        _("a key of something that this service has no table for"),
        "UUID",
        "UUID",
        "str(UUID(int=number))",
    ),
}


@dataclass(frozen=True, slots=True)
class Field:
    """A column, and the members of requests and responses that show it.

    ``refers_to`` is a table, and ``choices`` are the only values of a column of text.
    """

    name: str
    type: FieldType
    is_optional: bool = False
    is_unique: bool = False
    is_indexed: bool = False
    refers_to: str | None = None
    refers_to_own_kind: bool = False
    choices: tuple[str, ...] = ()

    @property
    def is_filterable(self) -> bool:
        """Whether lists can be filtered by it, for which there is an index."""
        return self.is_unique or self.is_indexed

    def column(self) -> str:
        """Return its line in the table's class."""
        options = [
            "default=None" * self.is_optional,
            self.type.options,
            f'foreign_key="{self.refers_to}.id"' if self.refers_to else "",
            "unique=True" * self.is_unique,
        ]
        used = ", ".join(option for option in options if option)
        value = f" = Field({used})" * bool(used)
        if used == "default=None":
            value = " = None"
        return f"{self.name}: {self.type.column}{' | None' * self.is_optional}{value}"

    def check(self) -> str:
        """Return the constraint that allows its choices."""
        listed = ", ".join(f"'{choice}'" for choice in self.choices)
        name = rf"\"{self.name}\"" if self.name in RESERVED_WORDS else self.name
        return f'CheckConstraint("{name} IN ({listed})", name="{self.name}")'

    def example(self) -> str:
        """Return the expression of its value in the tests' example."""
        return self.type.example.format(name=self.name, words=words(self.name))


def read_fields(
    texts: Sequence[str], names: Names, models: Models, taken: Iterable[str]
) -> list[Field]:
    """Read the fields of a command line, such as ``number:str:unique`` and ``customer:user?``.

    Raises:
        ResourceError: There is no such type, or a name is one of ``taken``, for example.
    """
    fields = [_read_field(text, names, models) for text in texts]
    seen: set[str] = set()
    taken = {*taken}
    for name in (field.name for field in fields):
        if keyword.iskeyword(name) or name in taken or name.startswith(_PYDANTIC_S):
            raise ResourceError(
                'A field cannot be called "{name}": the name has a meaning here.', name=name
            )
        if name in seen:
            raise ResourceError('There are two fields called "{name}".', name=name)
        seen.add(name)
    if all(field.refers_to_own_kind for field in fields):
        raise ResourceError(
            "A resource that only refers to its own kind says nothing: give it one more field, "
            "such as name:str."
        )
    return fields


def _read_field(text: str, names: Names, models: Models) -> Field:
    name, kind, modifiers = _split(text)
    field = Field(
        name,
        TYPES.get(kind) or TYPES["uuid"],
        is_optional="optional" in modifiers,
        is_unique="unique" in modifiers,
        is_indexed="index" in modifiers and "unique" not in modifiers,
    )
    if "," in kind:
        field = _choice(field, kind, text)
    elif kind not in TYPES:
        return _relation(field, kind, text, names, models)
    if field.is_unique and not field.type.can_be_unique:
        raise ResourceError(
            '"{field}": a field of the type {type} cannot be unique.', field=text, type=kind
        )
    if field.is_indexed and not field.type.is_filterable:
        raise ResourceError(
            '"{field}": lists cannot be filtered by a {type}.', field=text, type=kind
        )
    return field


def _split(text: str) -> tuple[str, str, list[str]]:
    """Return the name, the type and the modifiers."""
    name, *rest = text.split(":")
    parts: list[str] = []
    for part in rest:
        parts += [part.removesuffix("?")] + ["optional"] * part.endswith("?")
    if not parts or not all(parts):
        raise ResourceError(
            '"{field}" is not a field: write its name and its type, such as  number:str:unique  '
            "due:date?  customer:user.",
            field=text,
        )
    if not _NAME.fullmatch(name):
        raise ResourceError(
            '"{name}" cannot be the name of a field: write lower case letters and digits, a '
            "letter first, and underscores between words, such as due_date.",
            name=name,
        )
    if len(name) > MAX_LENGTH:
        raise ResourceError(
            '"{name}" is too long: at most {length} characters are allowed.',
            name=name,
            length=MAX_LENGTH,
        )
    kind, *modifiers = parts
    for modifier in modifiers:
        if modifier not in _MODIFIERS:
            raise ResourceError(
                '"{field}": "{word}" is not one of unique, index and optional (or a question '
                "mark).",
                field=text,
                word=modifier,
            )
        if modifiers.count(modifier) > 1:
            raise ResourceError('"{field}" says {word} twice.', field=text, word=modifier)
    return name, kind, modifiers


def _choice(field: Field, kind: str, text: str) -> Field:
    """Return a field whose type is a list: ``status:draft,sent,paid``.

    The column is text with a check, and not an enumeration of PostgreSQL: another choice is another
    check, and an older release of the service can still read the column.
    """
    choices = tuple(kind.split(","))
    usable = [it for it in choices if _NAME.fullmatch(it) and len(it) <= MAX_LENGTH]
    if len({*usable}) < len(choices):
        raise ResourceError(
            '"{field}": write different words in lower case, such as draft,sent,paid.', field=text
        )
    listed = ", ".join(f'"{choice}"' for choice in choices)
    one_of = FieldType(
        "",
        "str",
        f"Literal[{listed}]",
        f"[{listed}][number % {len(choices)}]",
        "max_length=255",
        can_be_unique=False,
    )
    return replace(field, type=one_of, choices=choices)


def _relation(field: Field, kind: str, text: str, names: Names, models: Models) -> Field:
    """Return a field that holds the key of a row of another table, or of the resource's own."""
    resource = kind.replace("-", "_")
    is_own_kind = resource == names.singular
    model = None if is_own_kind else models.named(resource)
    if is_own_kind and not field.is_optional:
        raise ResourceError(
            '"{field}" refers to its own kind, and the first row would have nothing to refer to: '
            "write {optional}",
            field=text,
            optional=f"{field.name}:{kind}?",
        )
    if not is_own_kind and model is None:
        raise _unknown_type(kind, text, sorted({*models.resources()}))
    if model is not None and not model.has_uuid:
        raise ResourceError(
            '"{field}": the key of the table {table} is not a UUID called id; leave the '
            "relation out, and add it by hand.",
            field=text,
            table=model.table,
        )
    return replace(
        field,
        name=f"{field.name}_id",
        is_indexed=not field.is_unique,
        refers_to=names.table if model is None else model.table,
        refers_to_own_kind=is_own_kind,
    )


def _unknown_type(kind: str, text: str, resources: Sequence[str]) -> ResourceError:
    # Only what could be a slip of the keyboard: customer is not a misspelt user.
    known_as = [*TYPES, *resources, *_OTHER_NAMES]
    near = difflib.get_close_matches(kind, known_as, n=1, cutoff=0.75)
    parts = [
        _('"{field}": "{word}" is neither a type nor a resource.', field=text, word=kind),
        _("Types: {types}.", types=", ".join(TYPES)),
    ]
    if near:
        parts.insert(1, _("Did you mean {near}?", near=_OTHER_NAMES.get(near[0], near[0])))
    if resources:
        parts.append(_("Resources: {resources}.", resources=", ".join(resources)))
    return ResourceError(" ".join(parts))
