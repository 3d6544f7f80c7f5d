"""Made-up values for the columns of any table: from their types, names and constraints."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Time,
    TypeDecorator,
    UniqueConstraint,
    Uuid,
)
from sqlalchemy.types import TypeEngine

from template_tools.messages import Problem

# 24 of each, so that 576 people have different names before a number follows theirs.
_FIRST = """Ana Luis Marta Pablo Sara Diego Elena Hugo Irene Jorge Lucia Mateo
    Nora Oscar Paula Raul Sofia Tomas Alice Ben Chloe David Emma Felix""".split()  # noqa: SIM905
_LAST = """Garcia Lopez Martin Sanchez Perez Gomez Ruiz Diaz Moreno Romero Torres Navarro
    Vega Castro Ortega Silva Smith Jones Brown Weber Rossi Dubois Novak Larsen""".split()  # noqa: SIM905
_WORDS = """amber harbour silver meadow north bridge green valley quiet river bright summit
    blue garden stone market open field early window round table""".split()  # noqa: SIM905
_PLACES = (("Madrid", "Spain", "ES"), ("Lima", "Peru", "PE"), ("Bogota", "Colombia", "CO"),
           ("Lisbon", "Portugal", "PT"), ("Berlin", "Germany", "DE"))  # fmt: skip

# What a column's name says; the first that is found counts.
_TEXTS = (
    (r"e?mail", "{row.handle}@example.com"),
    (r"user_?name|login|handle|nick", "{row.handle}"),
    (r"(first|given)_?name", "{row.first}"),
    (r"(last|family|sur)_?name", "{row.last}"),
    (r"full_?name|author|owner|contact|_by$", "{row.first} {row.last}"),
    (r"phone|mobile|fax", "+1 {row.digits} 555 0199"),
    (r"url|website|link|homepage", "https://example.com/{row.word}-{row.word}"),
    (r"street|address", "{row.digits} {row.capital} Street"),
    (r"city|town", "{row.place[0]}"),
    (r"country_?code", "{row.place[2]}"),
    (r"country", "{row.place[1]}"),
    (r"post_?code|postal|zip", "28{row.digits}"),
    (r"currency", "EUR"),
    (r"lang|locale", "es"),
    (r"time_?zone", "Europe/Madrid"),
    (r"colou?r", "#{row.digits}{row.digits}"),
    (r"password|secret|token|hash|salt|checksum", "{row.digits}{row.word}{row.digits}"),
    (r"slug", "{row.word}-{row.word}"),
    (r"number|code|reference|(^|_)ref(_|$)|sku", "A-{row.number}"),
    (r"company|organi[sz]ation|supplier|vendor", "{row.capital} {row.capital} Ltd"),
    (r"descri|comment|note|text|body|summary|content|message|reason",
     "{row.capital} {row.word} and {row.word} {row.word}, {row.word} {row.word}."),
    (r"name|title|label", "{row.capital} {row.capital}"),
)  # fmt: skip
_NUMBERS = (
    (r"year", 2015, 2026),
    (r"month", 1, 12),
    (r"age$", 18, 90),
    (r"percent|rate|ratio|discount|progress|score", 0, 100),
    (r"quantity|count|stock|position|priority|level|rank|order", 1, 50),
    (r"", 1, 2000),
)
_PEOPLE = re.compile(r"user|account|person|people|customer|employee|member|contact|author")
# What would say who a user is at the identity provider, or how one signs in.
_LEFT_EMPTY = re.compile(r"password|secret|token|hash|salt|^issuer$|^subject$")
_RARE = re.compile(r"delet|archiv|cancel|revok|clos|lock|disabl")
_AHEAD = re.compile(r"due|expir|until|deadline|renew|deliver|valid_to|(^|_)(end|to)(s|ed)?(_|$)")
_BEGIN = re.compile(r"creat|insert|start|begin|from|since")


class NotMakeable(Problem):
    """Why no value can be made for a column."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a check constraint asks of a column: one of these values, or a number between two."""

    choices: tuple[object, ...] = ()
    lowest: Decimal | None = None
    highest: Decimal | None = None


@dataclass(slots=True)
class Row:
    """What the values of one row have in common: a number, a person, a place and a time."""

    number: int
    random: Random
    now: datetime
    created: datetime = field(init=False)
    place: tuple[str, str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.created = self.now - timedelta(seconds=self.random.randrange(365 * 86400))
        self.place = self.random.choice(_PLACES)

    @property
    def first(self) -> str:
        return _FIRST[self.number % 24]

    @property
    def last(self) -> str:
        # Each pair of names comes once in 576 numbers, because 24 + 1 and 24 have no common factor.
        return _LAST[(self.number // 24 + self.number) % 24]

    @property
    def handle(self) -> str:
        return f"{self.first}.{self.last}{self.number // 576 or ''}".lower()

    @property
    def word(self) -> str:
        return self.random.choice(_WORDS)

    @property
    def capital(self) -> str:
        return self.word.title()

    @property
    def digits(self) -> int:
        return self.random.randint(100, 999)

    def between(self, begin: datetime, end: datetime) -> datetime:
        """Return a moment of the two or between them."""
        return begin + timedelta(seconds=self.random.randint(0, int((end - begin).total_seconds())))


def rules_of(table: Table) -> dict[str, Rule]:
    """Read the constraints that allow a list of values, or a range of numbers.

    What another one asks is found by trial.
    """
    rules: dict[str, Rule] = {}
    for constraint in (*table.constraints, *(it for c in table.columns for it in c.constraints)):
        if not isinstance(constraint, CheckConstraint):
            continue
        text = str(constraint.sqltext.compile(compile_kwargs={"literal_binds": True}))
        if re.search(r"\bOR\b|\bNOT\b", text, re.IGNORECASE):
            continue
        for name, listed in re.findall(r'(\w+)"?\s+IN\s*\(([^()]*)\)', text, re.IGNORECASE):
            words = tuple(it.replace("''", "'") for it in re.findall(r"'((?:[^']|'')*)'", listed))
            numbers = tuple(int(it) for it in re.findall(r"-?\d+", listed))
            rules[name] = Rule(words or numbers)
        for name, sign, number in re.findall(r'(\w+)"?\s*(>=?|<=?)\s*(-?\d+(?:\.\d+)?)', text):
            known = rules.get(name, Rule())
            # Strictly more and strictly less are one more and one less: a simple value is enough.
            bound = Decimal(number) + {">": 1, "<": -1}.get(sign, 0)
            low, high = (bound, known.highest) if sign[0] == ">" else (known.lowest, bound)
            rules[name] = Rule(known.choices, low, high)
        between = r'(\w+)"?\s+BETWEEN\s+(-?\d+(?:\.\d+)?)\s+AND\s+(-?\d+(?:\.\d+)?)'
        for name, low, high in re.findall(between, text, re.IGNORECASE):
            rules[name] = Rule((), Decimal(low), Decimal(high))
    return rules


def unique_sets(table: Table) -> set[frozenset[str]]:
    """Return the columns that no two rows have alike, as the keys and constraints say."""
    found: Iterable[Iterable[Column[object]]] = (
        [*(it.columns for it in table.constraints if isinstance(it, UniqueConstraint))]
        + [it.columns for it in table.indexes if it.unique]
        + [table.primary_key.columns]
    )
    return {frozenset(column.name for column in columns) for columns in found}


def is_left_to_database(column: Column[object]) -> bool:
    """Whether the database, or SQLAlchemy, has a value for a column that is not mentioned."""
    if column.computed is not None or column is column.table.autoincrement_column:
        return True
    # Rows that were all made now would have no order, and no two runs the same keys.
    kind = plain_type(column)
    if isinstance(kind, DateTime) and column.name.endswith("_at"):
        return False
    if isinstance(kind, Uuid) and column.primary_key:
        return False
    makers = (column.default, column.server_default, column.identity)
    return any(maker is not None for maker in makers)


def plain_type(column: Column[object]) -> TypeEngine[object]:
    """Return the type below what a TypeDecorator makes of it."""
    kind: TypeEngine[object] = column.type
    # That of an interval is how other databases store one.
    while isinstance(kind, TypeDecorator) and not isinstance(kind, Interval):
        kind = kind.impl_instance
    return kind


@dataclass(frozen=True, slots=True)
class Cell:
    """A value that is to be made: its column, and what is known of that."""

    column: Column[object]
    kind: TypeEngine[object]
    row: Row
    rule: Rule = Rule()
    is_unique: bool = False
    default: object = None

    def value(self) -> object:
        """Return a value that PostgreSQL accepts.

        Raises:
            NotMakeable: There is none for the type.
        """
        name, random = self.column.name, self.row.random
        is_empty = random.random() < (0.9 if _RARE.search(name) else 0.15)
        if self.column.nullable and (is_empty or _LEFT_EMPTY.search(name)):
            return None
        if choices := self.column.info.get("examples") or self.rule.choices:
            return random.choice(choices)
        for kinds, make in _MAKERS:
            if isinstance(self.kind, kinds):
                return make(self)
        if self.column.nullable:
            return None
        raise NotMakeable(
            "no value can be made for its column {name} ({type})", name=name, type=self.column.type
        )

    def limit(self, name: str) -> int | None:
        """Return a bound of the type, such as its length."""
        bound: int | None = getattr(self.kind, name, None)
        return bound


def _enumerated(cell: Cell) -> object:
    assert isinstance(cell.kind, Enum)  # noqa: S101 - as _MAKERS says
    return cell.row.random.choice([*(cell.kind.enum_class or cell.kind.enums)])


def _text(cell: Cell) -> str:
    name, row = cell.column.name, cell.row
    template = next((it for pattern, it in _TEXTS if re.search(pattern, name)), "")
    if name == "name" and _PEOPLE.search(cell.column.table.name):
        template = "{row.first} {row.last}"
    default = cell.default if isinstance(cell.default, str) and not cell.is_unique else ""
    text = default or template.format(row=row) or f"{row.word} {row.word}"
    end = ""
    if "@" in text:
        text, at, domain = text.partition("@")
        end = at + domain
    elif cell.is_unique and not re.search("handle|number|last", template):
        end = f"{' ' if ' ' in text else '-'}{row.number}"
    length = cell.limit("length") or 10_000
    return text[: max(0, length - len(end))].rstrip() + end[-length:]


def _integer(cell: Cell) -> int:
    lowest, highest = _range(cell)
    if cell.is_unique:
        return int(lowest) + cell.row.number
    return cell.row.random.randint(int(lowest), int(highest))


def _decimal(cell: Cell) -> Decimal:
    scale = cell.limit("scale")
    scale = 2 if scale is None else scale
    lowest, highest = _range(cell)
    if precision := cell.limit("precision"):
        highest = min(highest, Decimal(10) ** (precision - scale) - 1)
    unit = 10**scale
    made = cell.row.random.randint(int(min(lowest, highest) * unit), int(highest * unit))
    return Decimal(made) / Decimal(unit)


def _range(cell: Cell) -> tuple[Decimal, Decimal]:
    """Return the bounds of a check, or usual ones where there are none."""
    found = ((low, high) for it, low, high in _NUMBERS if re.search(it, cell.column.name))
    low, high = next(found)
    lowest, highest = cell.rule.lowest, cell.rule.highest
    if lowest is None:
        lowest = Decimal(low) if highest is None else min(Decimal(low), highest)
    if highest is None:
        highest = max(Decimal(high), lowest + 100)
    return lowest, highest


def _moment(cell: Cell) -> datetime:
    row, name = cell.row, cell.column.name
    if re.search("birth|born", name):
        moment = row.created - timedelta(days=row.random.randint(20 * 365, 65 * 365))
    elif _BEGIN.search(name):
        moment = row.created
    elif _AHEAD.search(name):
        moment = row.between(row.now, row.now + timedelta(days=90))
    else:
        moment = row.between(row.created, row.now)
    return moment if getattr(cell.kind, "timezone", False) else moment.replace(tzinfo=None)


def _uuid(cell: Cell) -> UUID | str:
    """Return a UUIDv7 of the row's time, so that keys are in the order of creation."""
    random = cell.row.random
    milliseconds = int(cell.row.created.timestamp() * 1000)
    start = milliseconds << 80 | 0x7 << 76 | random.getrandbits(12) << 64
    made = UUID(int=start | 0x2 << 62 | random.getrandbits(62))
    return made if getattr(cell.kind, "as_uuid", True) else str(made)


def _array(cell: Cell) -> list[object]:
    assert isinstance(cell.kind, ARRAY)  # noqa: S101 - as _MAKERS says
    item = Column(cell.column.name, cell.kind.item_type, nullable=False)
    made = Table(cell.column.table.name, MetaData(), item)
    return [Cell(made.c[0], plain_type(item), cell.row).value() for _ in range(2)]


# The first that fits counts: Enum is a String.
_MAKERS: Sequence[tuple[type, Callable[[Cell], object]]] = (
    (Enum, _enumerated),
    (String, _text),
    (Boolean, lambda cell: cell.row.random.random() < 0.5),
    (Integer, _integer),
    (Float, lambda cell: float(_decimal(cell))),
    (Numeric, _decimal),
    (Date, lambda cell: _moment(cell).date()),
    (DateTime, _moment),
    (Time, lambda cell: cell.row.created.time().replace(microsecond=0)),
    (Interval, lambda cell: timedelta(minutes=cell.row.random.randint(5, 600))),
    (Uuid, _uuid),
    (ARRAY, _array),
    (JSON, lambda cell: {"note": cell.row.word}),
    (LargeBinary, lambda cell: cell.row.random.randbytes(16)),
)
