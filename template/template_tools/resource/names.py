"""What a resource is called in the places where it has a name."""

import builtins
import keyword
import re
from dataclasses import dataclass

from sqlalchemy.dialects.postgresql.base import RESERVED_WORDS

from template_tools.resource import ResourceError

_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")
# PostgreSQL cuts names off at 63 bytes, and those of constraints join a table and a column.
MAX_LENGTH = 28
_SINGULAR_S = (
    "ss",
    "us",
    "is",
    "news",
    "series",
    "lens",
    "gas",
    "canvas",
    "atlas",
    "bias",
    "alias",
)


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one resource; all but the table follow from ``singular`` and ``plural``."""

    singular: str
    plural: str
    table: str

    @property
    def class_name(self) -> str:
        """The name of the table's class."""
        return class_name(self.singular)

    @property
    def path(self) -> str:
        """The word in URLs and scopes."""
        return self.singular.replace("_", "-")

    @property
    def is_reserved_word(self) -> bool:
        """Whether a table of this name would have to be quoted."""
        return self.singular in RESERVED_WORDS

    def placeholders(self) -> dict[str, str]:
        """Return what the placeholders of ``slice/`` stand for."""
        thing = words(self.singular)
        return {
            "resource": self.singular,
            "resources": self.plural,
            "Resource": self.class_name,
            "path": self.path,
            "table": self.table,
            "thing": thing,
            "things": words(self.plural),
            "Things": words(self.plural).capitalize(),
            "a_thing": f"{article(thing)} {thing}",
            "A_thing": f"{article(thing).capitalize()} {thing}",
        }


def read_names(name: str, plural: str | None, table: str | None) -> Names:
    """Return the names of the resource that somebody calls ``name``.

    Raises:
        ResourceError: One of them is no name.
    """
    singular = _identifier(name, "invoice or invoice-line")
    if plural is None and singular.endswith("s") and not singular.endswith(_SINGULAR_S):
        raise ResourceError(
            f'Name the resource in the singular: "{name}" looks like a plural. '
            "If it is none, give it one with --plural."
        )
    many = _identifier(plural, "invoices") if plural is not None else pluralized(singular)
    if many == singular:
        raise ResourceError(f'The plural cannot be "{many}" too: choose another with --plural.')
    if table is None:
        table = many if singular in RESERVED_WORDS else singular
    table = _identifier(table, "invoice_line")
    if table in RESERVED_WORDS or table.startswith("pg_"):
        raise ResourceError(
            f'PostgreSQL reserves the name "{table}": choose another one with --table.'
        )
    return Names(singular, many, table)


def _identifier(name: str, such_as: str) -> str:
    if not _NAME.fullmatch(name):
        raise ResourceError(
            f'"{name}" is no name: write lower case letters and digits, a letter first, and '
            f"hyphens between words, such as {such_as}."
        )
    if len(name) > MAX_LENGTH:
        raise ResourceError(f'"{name}" is too long: {MAX_LENGTH} characters are the most.')
    identifier = name.replace("-", "_")
    if keyword.iskeyword(identifier) or hasattr(builtins, identifier):
        raise ResourceError(f'"{name}" means something in Python already: choose another name.')
    return identifier


def class_name(identifier: str) -> str:
    """Return the name of a class: InvoiceLine for invoice_line."""
    return "".join(word.capitalize() for word in identifier.split("_"))


def words(identifier: str) -> str:
    """Return the name as people write it."""
    return identifier.replace("_", " ")


def pluralized(identifier: str) -> str:
    """Return the regular plural; English has others, for which there is ``--plural``."""
    if re.search(r"[^aeiou]y$", identifier):
        return f"{identifier[:-1]}ies"
    return f"{identifier}es" if re.search(r"(?:s|x|z|ch|sh)$", identifier) else f"{identifier}s"


def article(thing: str) -> str:
    """Return "a" or "an": what counts is the sound, and a user or a unit begins with none."""
    vowel = r"(?!eu|one\b|once)[aeio]|u(?!s|ni|ti|r[il]|uid)|hour|honou?r|heir"
    return "an" if re.match(vowel, thing) else "a"
