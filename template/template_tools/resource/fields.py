"""The fields of a resource: how they are written on the command line, and what they become."""

import difflib
import keyword
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy.dialects.postgresql.base import RESERVED_WORDS

from template_tools.resource import ResourceError
from template_tools.resource.names import MAX_LENGTH, words

_NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
# Pydantic warns of a field whose name begins like its own methods.
_PYDANTIC_S = ("model_dump", "model_validate")
_MODIFIERS = ("optional", "unique", "index")
_SUCH_AS = "such as  number:str:unique  due:date?  customer:user"


@dataclass(frozen=True, slots=True)
class FieldType:
    """What a type of the command line means in each place; ``help`` is for people.

    The strings are Python. ``example`` is one with a ``number`` from 0 to 9 in reach, and what it
    makes can be sent as JSON. ``query`` is the type of a filter; without one there is none.
    """

    help: str
    column: str
    request: str
    response: str
    example: str
    options: str = ""
    query: str | None = None
    can_be_unique: bool = True
    misfit: str = '"hunter2"'


TYPES = {
    "str": FieldType(
        help="a line of text, 255 characters at most",
        column="str",
        options="max_length=255",
        request="ShortText",
        response="str",
        query="ShortText",
        example='f"{words} {{number}}"',
        misfit='"hunter2\\u0000"',
    ),
    "text": FieldType(
        help="lines of text, 10,000 characters at most",
        column="str",
        options="max_length=10_000",
        request="LongText",
        response="str",
        example='f"{words} {{number}}\\nand more"',
        can_be_unique=False,
        misfit='"hunter2\\u0000"',
    ),
    "email": FieldType(
        help="an address, kept in lower case",
        column="str",
        options="max_length=320",
        request="Email",
        response="str",
        query="Email",
        example='f"{name}-{{number}}@example.com"',
    ),
    "int": FieldType(
        help="a whole number of 32 bits",
        column="int",
        request="Integer",
        response="int",
        query="Integer",
        example="number",
    ),
    "float": FieldType(
        help="a number of double precision, for what is measured",
        column="float",
        request="Number",
        response="float",
        example="number + 0.5",
        can_be_unique=False,
    ),
    "decimal": FieldType(
        help="a number with two decimal places, for money; as a string in answers",
        column="Decimal",
        options="max_digits=14, decimal_places=2",
        request="Amount",
        response="Decimal",
        query="Amount",
        example='f"{{number}}.50"',
    ),
    "bool": FieldType(
        help="true or false",
        column="bool",
        request="Boolean",
        response="bool",
        query="Boolean",
        example="number % 2 == 1",
        can_be_unique=False,
    ),
    "date": FieldType(
        help="a day",
        column="date",
        request="Day",
        response="date",
        query="Day",
        example='f"2026-11-2{{number}}"',
    ),
    "datetime": FieldType(
        help="a point in time, with its zone",
        column="datetime",
        request="Timestamp",
        response="datetime",
        query="Timestamp",
        example='f"2026-11-22T12:43:0{{number}}Z"',
    ),
    "uuid": FieldType(
        help="a key of something that this service has no table for",
        column="UUID",
        request="UUID",
        response="UUID",
        query="UUID",
        example="str(UUID(int=number))",
    ),
}


@dataclass(frozen=True, slots=True)
class Word:
    """A field as it is written: ``customer:user?`` has the name customer and the type user."""

    text: str
    name: str
    type: str
    is_optional: bool
    is_unique: bool
    is_indexed: bool


@dataclass(frozen=True, slots=True)
class Field:
    """A column, and the members of the bodies that show it.

    ``refers_to`` is a table, and ``choices`` are the words of which the value must be one.
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
        """Whether lists can be narrowed by it: an index serves that."""
        return self.is_unique or self.is_indexed

    def column(self) -> str:
        """Return its line in the table's class."""
        options = [
            "default=None" * self.is_optional,
            self.type.options,
            f'foreign_key="{self.refers_to}.id"' if self.refers_to else "",
            "unique=True" * self.is_unique,
        ]
        used = [option for option in options if option]
        if not used:
            return f"{self.name}: {self.type.column}"
        if used == ["default=None"]:
            return f"{self.name}: {self.type.column} | None = None"
        optional = " | None" * self.is_optional
        return f"{self.name}: {self.type.column}{optional} = Field({', '.join(used)})"

    def check(self) -> str:
        """Return the constraint of the table that leaves it its choices."""
        listed = ", ".join(f"'{choice}'" for choice in self.choices)
        name = rf"\"{self.name}\"" if self.name in RESERVED_WORDS else self.name
        return f'CheckConstraint("{name} IN ({listed})", name="{self.name}")'

    def to_create(self) -> str:
        """Return its line in the body that creates a row."""
        optional = " | None = None" * self.is_optional
        return f"{self.name}: {self.type.request}{optional}"

    def to_update(self) -> str:
        """Return its line in the body that changes a row."""
        optional = " | None" * self.is_optional
        return f"{self.name}: {self.type.request}{optional} = omittable()"

    def to_filter(self) -> str:
        """Return its line in the query of lists."""
        return f"{self.name}: {self.type.query} | None = None"

    def to_read(self) -> str:
        """Return its line in the body that shows a row."""
        optional = " | None" * self.is_optional
        return f"{self.name}: {self.type.response}{optional}"

    def example(self) -> str:
        """Return its line in the tests' example."""
        value = self.type.example.format(name=self.name, words=words(self.name))
        return f'"{self.name}": {value},'


def read_words(texts: Sequence[str]) -> list[Word]:
    """Read the fields of a command line.

    Raises:
        ResourceError: One is not written as ``name:type``.
    """
    return [_read_word(text) for text in texts]


def _read_word(text: str) -> Word:
    name, *rest = text.split(":")
    modifiers: list[str] = []
    for part in rest:
        modifiers += [part.removesuffix("?")] + ["optional"] * part.endswith("?")
    if not modifiers or not all(modifiers):
        raise ResourceError(f'"{text}" is no field: write its name and its type, {_SUCH_AS}.')
    _check_name(name)
    kind, *modifiers = modifiers
    for modifier in modifiers:
        if modifier not in _MODIFIERS:
            raise ResourceError(
                f'"{text}": "{modifier}" is none of unique, index and optional, for which a '
                f"question mark stands too."
            )
        if modifiers.count(modifier) > 1:
            raise ResourceError(f'"{text}" says {modifier} twice.')
    return Word(
        text,
        name,
        kind,
        is_optional="optional" in modifiers,
        is_unique="unique" in modifiers,
        is_indexed="index" in modifiers,
    )


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ResourceError(
            f'"{name}" is no name of a field: write lower case letters and digits, a letter '
            "first, and underscores between words, such as due_date."
        )
    if len(name) > MAX_LENGTH:
        raise ResourceError(f'"{name}" is too long: {MAX_LENGTH} characters are the most.')


def plain_field(word: Word) -> Field:
    """Return the field of a word whose type is in the table above.

    Raises:
        ResourceError: No index serves this type.
    """
    kind = TYPES[word.type]
    if word.is_unique and not kind.can_be_unique:
        raise ResourceError(f'"{word.text}": a field of the type {word.type} cannot be unique.')
    if word.is_indexed and kind.query is None:
        raise ResourceError(f'"{word.text}": lists cannot be filtered by a {word.type}.')
    return Field(
        word.name,
        kind,
        is_optional=word.is_optional,
        is_unique=word.is_unique,
        is_indexed=word.is_indexed and not word.is_unique,
    )


def choice_field(word: Word) -> Field:
    """Return the field of a word whose type is a list: ``status:draft,sent,paid``.

    The column is text with a check, and no enumeration of PostgreSQL's: a word more or less is
    then another check, and whatever an older release reads is a word to it.

    Raises:
        ResourceError: They are not different words, or no two rows could have the same.
    """
    choices = tuple(word.type.split(","))
    if len({*choices}) < len(choices) or not all(map(_is_choice, choices)):
        raise ResourceError(
            f'"{word.text}": write different words in lower case, such as draft,sent,paid.'
        )
    if word.is_unique:
        raise ResourceError(f'"{word.text}": one of a few words cannot be unique.')
    listed = ", ".join(f'"{choice}"' for choice in choices)
    kind = FieldType(
        help="one of these words",
        column="str",
        options="max_length=255",
        request=f"Literal[{listed}]",
        response="str",
        query=f"Literal[{listed}]",
        example=f"[{listed}][number % {len(choices)}]",
    )
    return Field(
        word.name,
        kind,
        is_optional=word.is_optional,
        is_indexed=word.is_indexed,
        choices=choices,
    )


def _is_choice(text: str) -> bool:
    return bool(_NAME.fullmatch(text)) and len(text) <= MAX_LENGTH


def relation_field(word: Word, table: str, *, is_own_kind: bool) -> Field:
    """Return the field that holds the key of a row of ``table``.

    Raises:
        ResourceError: No first row could ever be stored.
    """
    if is_own_kind and not word.is_optional:
        raise ResourceError(
            f'"{word.text}" refers to its own kind, and the first one has nothing to refer to: '
            f"write {word.name}:{word.type}?"
        )
    return Field(
        f"{word.name}_id",
        TYPES["uuid"],
        is_optional=word.is_optional,
        is_unique=word.is_unique,
        is_indexed=not word.is_unique,
        refers_to=table,
        refers_to_own_kind=is_own_kind,
    )


def unknown_type(word: Word, resources: Iterable[str]) -> ResourceError:
    """Return what to say about a type that is neither in the table nor a resource."""
    resources = sorted(resources)
    near = difflib.get_close_matches(word.type, [*TYPES, *resources], n=1)
    guess = f" Did you mean {near[0]}?" if near else ""
    known = f" Resources: {', '.join(resources)}." if resources else ""
    return ResourceError(
        f'"{word.text}": "{word.type}" is neither a type nor a resource.{guess} '
        f"Types: {', '.join(TYPES)}.{known}"
    )


def check_names(fields: Sequence[Field], taken: Iterable[str]) -> None:
    """Return if every field can have its name, which none of ``taken`` is.

    Raises:
        ResourceError: One cannot.
    """
    taken = set(taken)
    seen: set[str] = set()
    for field in fields:
        name = field.name
        if keyword.iskeyword(name) or name in taken or name.startswith(_PYDANTIC_S):
            raise ResourceError(f'A field cannot be called "{name}": the name has a meaning here.')
        if name in seen:
            raise ResourceError(f'There are two fields called "{name}".')
        seen.add(name)
    if all(field.refers_to_own_kind for field in fields):
        raise ResourceError(
            "A resource that refers to its own kind alone says nothing: give it one more field, "
            "such as name:str."
        )
