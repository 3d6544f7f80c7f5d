"""Server defaults of every kind, for columns of every type: written once, and never again."""

import asyncio
from collections.abc import Iterable

from tests.service.database.history import History
from tests.service.database.test_autogenerate import autogenerate, use_models

# A column's type and server default, as a model has them.
COLUMNS = [
    *(
        ("sa.String(200)", repr(value))
        for value in ("", "plain", "it's", "''", "100 %", "%s %(x)s", "a:b ::c", "\\n", 'say "x"')
    ),
    ("sa.Text()", repr("two\nlines")),
    ("sa.String(9)", "sa.text(\"'it''s'\")"),
    ("sa.String(9)", "sa.text(\"'10%'\")"),
    ("sa.String(9)", "sa.text(r\"'a\\:b'\")"),
    ("sa.String(9)", "sa.text(\"'a'::varchar\")"),
    ("sa.String(9)", "sa.text(\"lower('A')\")"),
    ("sa.CHAR(3)", "'abc'"),
    ("sa.Integer()", "'0'"),
    ("sa.Integer()", "sa.text('-1')"),
    ("sa.BigInteger()", "sa.text('1 + 1')"),
    ("sa.SmallInteger()", "'7'"),
    ("sa.Numeric(10, 2)", "'0'"),
    ("sa.Numeric(10, 2)", "sa.text('0.50')"),
    ("sa.Float()", "'1.5'"),
    ("sa.Double()", "sa.text('0')"),
    ("sa.Boolean()", "sa.false()"),
    ("sa.Boolean()", "'true'"),
    ("sa.Boolean()", "sa.text('false')"),
    ("sa.Date()", "sa.text('CURRENT_DATE')"),
    ("sa.Date()", "'2026-11-29'"),
    ("sa.Time()", "'12:30'"),
    ("sa.DateTime(True)", "sa.func.now()"),
    ("sa.DateTime(True)", "sa.text('CURRENT_TIMESTAMP')"),
    ("sa.DateTime(True)", "sa.text(\"now() + interval '1 day'\")"),
    ("sa.DateTime()", "sa.text(\"timezone('utc', now())\")"),
    ("sa.Interval()", "'1 day'"),
    ("postgresql.INTERVAL()", "sa.text(\"'01:00'::interval\")"),
    ("sa.Uuid()", "sa.text('gen_random_uuid()')"),
    ("sa.Uuid()", "'00000000-0000-0000-0000-000000000001'"),
    ("sa.LargeBinary()", "sa.text(r\"'\\\\x00'\")"),
    ("sa.JSON()", "'{}'"),
    ("sa.JSON()", "sa.text(\"'{}'\")"),
    ("sa.JSON()", "sa.text(\"'[1, 2]'::json\")"),
    ("sa.JSON()", repr('{"it\'s": "100 %"}')),
    ("sa.JSON()", 'sa.text(r"""\'{"a"\\: 1}\'""")'),
    ("postgresql.JSONB()", "'{}'"),
    ("postgresql.JSONB()", repr('{"b":1,"a":"it\'s"}')),
    ("postgresql.JSONB()", "sa.text(\"'[]'::jsonb\")"),
    ("postgresql.ARRAY(sa.String())", "'{}'"),
    ("postgresql.ARRAY(sa.String())", "sa.text(\"ARRAY['a', 'b']\")"),
    ("sa.ARRAY(sa.Integer())", "'{1,2}'"),
    ("sa.Enum(Mood)", "'GOOD'"),
    ("sa.Enum(Mood)", "sa.text(\"'BAD'\")"),
    ("postgresql.ARRAY(sa.Enum(Mood))", "'{GOOD}'"),
    ("postgresql.INET()", "'127.0.0.1'"),
    ("postgresql.TSVECTOR()", "''"),
    ("postgresql.INT4RANGE()", "'[1,5)'"),
    ("postgresql.BIT(3)", "sa.text(\"B'101'\")"),
]
MODEL = """
import enum
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlmodel import SQLModel

class Mood(enum.Enum):
    GOOD = 1
    BAD = 2

table = sa.Table(
    "swept",
    SQLModel.metadata,
    sa.Column("id", sa.Integer(), primary_key=True),
{columns}
)
"""


# The same, with another default that must be noticed.
CHANGES = [
    ("sa.String(9)", "'a'", '"it\'s"'),
    ("sa.String(9)", "''", "\"''\""),
    ("sa.Integer()", "'0'", "'1'"),
    ("sa.Numeric(10, 2)", "'0.5'", "'0.05'"),
    ("sa.Boolean()", "sa.true()", "sa.false()"),
    ("sa.DateTime(True)", "sa.func.now()", "sa.text(\"now() + interval '1 hour'\")"),
    ("sa.Interval()", "'1 day'", "'2 days'"),
    ("sa.Uuid()", "sa.text('gen_random_uuid()')", "'00000000-0000-0000-0000-000000000001'"),
    ("sa.JSON()", "'{}'", "'[]'"),
    ("postgresql.JSONB()", "'{}'", 'sa.text(r"""\'{"a"\\: 1}\'""")'),
    ("postgresql.ARRAY(sa.String())", "'{}'", "'{a}'"),
    ("sa.Enum(Mood)", "'GOOD'", "'BAD'"),
    ("sa.String(9)", "'a'", "None"),
    ("sa.JSON()", "None", "'{}'"),
]
MADE = """
    sa.Column("number", sa.BigInteger(), sa.Identity(start=7), nullable=False),
    sa.Column("always", sa.Integer(), sa.Identity(always=True), nullable=False),
    sa.Column("price", sa.Numeric(10, 2), server_default="0", nullable=False),
    sa.Column("gross", sa.Numeric(10, 2), sa.Computed("price * 1.2", persisted=True)),
    sa.Column("label", sa.Text(), sa.Computed("'it''s ' || price::text || ' %'", persisted=True)),
"""


def model(columns: Iterable[tuple[str, str]], more: str = "") -> str:
    lines = (
        f'    sa.Column("c{number}", {kind}, server_default={default}, nullable=False),'
        for number, (kind, default) in enumerate(columns)
    )
    return MODEL.format(columns="\n".join(lines) + more)


async def test_a_default_is_written_once_whatever_it_is(history: History) -> None:
    history.write()
    use_models(history, model(COLUMNS, MADE))
    await asyncio.to_thread(autogenerate, history, "1 swept")


async def test_a_default_that_changes_is_noticed(history: History) -> None:
    history.write()
    use_models(history, model((kind, before) for kind, before, _ in CHANGES))
    await asyncio.to_thread(autogenerate, history, "1 before")
    use_models(history, model((kind, after) for kind, _, after in CHANGES))
    await asyncio.to_thread(autogenerate, history, "2 after")

    *_, second = sorted((history.folder / "versions").glob("*.py"))
    upgrade, _ = second.read_text("utf-8").split("def downgrade")
    assert [f'"c{number}"' in upgrade for number in range(len(CHANGES))] == [True] * len(CHANGES)
