"""What a resource is called in each place that names it."""

import builtins
import keyword
import re
from dataclasses import dataclass

from sqlalchemy.dialects.postgresql.base import RESERVED_WORDS

from template_tools.generator import ResourceError
from template_tools.messages import _

_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")
# PostgreSQL cuts names off at 63 bytes, and those of constraints join a table and a column.
MAX_LENGTH = 28
_SINGULAR = re.compile(r".*(?:[^s]|ss|us|is|news|series|lens|gas|canvas|atlas|bias|alias)")


@dataclass(frozen=True, slots=True)
class Names:
    """The names of a resource; all but the table's follow from ``singular`` and ``plural``."""

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

    def placeholders(self) -> dict[str, str | bool]:
        """Return what the placeholders of ``slice/`` stand for."""
        thing, things = words(self.singular), words(self.plural)
        return {
            "resource": self.singular,
            "resources": self.plural,
            "Resource": self.class_name,
            "path": self.path,
            "table": self.table,
            "thing": thing,
            "things": things,
            "a_thing": f"{article(thing)} {thing}",
            "A_thing": f"{article(thing).capitalize()} {thing}",
            # A table whose name had to be quoted would have to be quoted in every statement.
            "reserved_word": self.singular in RESERVED_WORDS,
            "renamed_table": self.table != self.class_name.lower(),
        }


def read_names(name: str, plural: str | None, table: str | None) -> Names:
    """Return the names of the resource that somebody calls ``name``.

    Raises:
        ResourceError: One of them cannot be used.
    """
    singular = _identifier(name, _("invoice or invoice-line"))
    if plural is None and not _SINGULAR.fullmatch(singular):
        raise ResourceError(
            'Name the resource in the singular: "{name}" looks like a plural. '
            "If it is a singular, say what its plural is with --plural.",
            name=name,
        )
    many = pluralized(singular) if plural is None else _identifier(plural, "invoices")
    if many == singular:
        raise ResourceError(
            'The plural cannot be "{plural}" too: choose another with --plural.', plural=many
        )
    table = table or (many if singular in RESERVED_WORDS else singular)
    table = _identifier(table, "invoice_line")
    if table in RESERVED_WORDS or table.startswith("pg_"):
        raise ResourceError(
            'PostgreSQL reserves the name "{table}": choose another one with --table.',
            table=table,
        )
    return Names(singular, many, table)


def _identifier(name: str, such_as: str) -> str:
    if not _NAME.fullmatch(name):
        raise ResourceError(
            '"{name}" cannot be a name: write lower case letters and digits, a letter first, and '
            "hyphens between words, such as {such_as}.",
            name=name,
            such_as=such_as,
        )
    if len(name) > MAX_LENGTH:
        raise ResourceError(
            '"{name}" is too long: at most {length} characters are allowed.',
            name=name,
            length=MAX_LENGTH,
        )
    identifier = name.replace("-", "_")
    if keyword.iskeyword(identifier) or hasattr(builtins, identifier):
        raise ResourceError(
            '"{name}" means something in Python already: choose another name.', name=name
        )
    return identifier


def class_name(identifier: str) -> str:
    """Return the name of a class: InvoiceLine for invoice_line."""
    return "".join(word.capitalize() for word in identifier.split("_"))


def words(identifier: str) -> str:
    """Return the name as prose has it: invoice line for invoice_line."""
    return identifier.replace("_", " ")


def pluralized(identifier: str) -> str:
    """Return the regular plural; ``--plural`` is for the others."""
    if re.search(r"[^aeiou]y$", identifier):
        return f"{identifier[:-1]}ies"
    return f"{identifier}es" if re.search(r"(?:s|x|z|ch|sh)$", identifier) else f"{identifier}s"


def article(thing: str) -> str:
    """Return "a" or "an" by the sound of the word: a user, an hour."""
    vowel = r"(?!eu|one\b|once)[aeio]|u(?!s|ni|ti|r[il]|uid)|hour|honou?r|heir"
    return "an" if re.match(vowel, thing) else "a"
