"""`uv run poe seed` makes rows for whatever tables a team has."""

import enum
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Connection,
    Date,
    DateTime,
    Enum,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    String,
    Table,
    Text,
    Time,
    UniqueConstraint,
    Uuid,
    func,
    make_url,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.types import TypeEngine
from sqlalchemy.util import greenlet_spawn

from template_tools.databases import TestDatabases
from template_tools.generator.models import Models
from template_tools.seed import Filler, SeedError, refuse_foreign

NOW = datetime(2026, 11, 22, tzinfo=UTC)


class Size(enum.Enum):
    """Sizes."""

    SMALL = 1
    LARGE = 2


TYPES: tuple[TypeEngine[Any], ...] = (
    Boolean(),
    Date(),
    DateTime(),
    DateTime(timezone=True),
    Float(),
    Interval(),
    JSON(),
    Text(),
    LargeBinary(),
    Numeric(),
    Numeric(2, 2),
    Time(),
    ARRAY(String(5)),
    String(2),
    Enum("a", "b", name="ab"),
    Uuid(as_uuid=False),
)


@pytest.fixture
async def connection(databases: TestDatabases) -> AsyncIterator[Connection]:
    """A connection to a database of the test's own, for code that runs in ``run_sync``."""
    url = await databases.create()
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        sync = connection.sync_connection
        assert sync is not None
        yield sync
    await engine.dispose()
    await databases.drop(url)


async def run[T](function: Callable[..., T], *arguments: object, **options: object) -> T:
    """Run code that waits for the database as the tool does."""
    return await greenlet_spawn(partial(function, *arguments, **options))


def fill(
    connection: Connection, *tables: Table, rows: int = 30, seed: int = 1
) -> dict[str, tuple[int, str]]:
    """Create the tables where they are missing, fill them, and return what was said of each."""
    tables[0].metadata.create_all(connection, tables=tables)
    filler = Filler(Models(()), rows, seed, NOW)
    return {table.name: filler.fill(connection, table) for table in tables}


def every(connection: Connection, table: Table) -> list[dict[str, object]]:
    """Return the rows in the order of their keys."""
    query = select(table).order_by(*table.primary_key.columns)
    return [dict(row) for row in connection.execute(query).mappings()]


def shop() -> tuple[MetaData, dict[str, Table]]:
    """Return tables with everything that rows have to agree with."""
    metadata = MetaData()
    Table(
        "customer",
        metadata,
        Column("id", Uuid, primary_key=True),
        Column("name", String(40), nullable=False),
        Column("email", String(30), nullable=False, unique=True),
        Column("password_hash", String(255)),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("version", Integer, nullable=False, server_default="1"),
    )
    Table(
        "product",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("code", String(12), nullable=False, unique=True),
        Column("status", String(10), CheckConstraint("status IN ('draft', 'on sale')")),
        Column("price", Numeric(7, 2), CheckConstraint("price > 0"), nullable=False),
        Column("stock", SmallInteger, CheckConstraint("stock BETWEEN 3 AND 5"), nullable=False),
        Column("size", Enum(Size), nullable=False),
        Column("parent_id", ForeignKey("product.id")),
        Column("doubled", Integer, Computed("stock * 2")),
    )
    Table(
        "order_line",
        metadata,
        Column("customer_id", ForeignKey("customer.id"), primary_key=True),
        Column("product_id", ForeignKey("product.id"), primary_key=True),
        Column("begins", Date, nullable=False),
        Column("ends", Date, CheckConstraint("ends > begins"), nullable=False),
    )
    Table(
        "note",
        metadata,
        Column("number", Integer, primary_key=True),
        Column("customer_id", Uuid),
        Column("product_id", Integer),
        Column("only", ForeignKey("customer.id"), unique=True, nullable=False),
        ForeignKeyConstraint(
            ["customer_id", "product_id"], ["order_line.customer_id", "order_line.product_id"]
        ),
    )
    Table(
        "many",
        metadata,
        Column("id", Uuid, primary_key=True),
        *(Column(f"of_{number}", kind, nullable=False) for number, kind in enumerate(TYPES)),
        schema="elsewhere",
    )
    return metadata, {table.name: table for table in metadata.tables.values()}


async def test_every_table_is_filled_with_rows_that_the_database_accepts(
    connection: Connection,
) -> None:
    _, tables = shop()
    await run(connection.execute, text("CREATE SCHEMA elsewhere"))
    told = await run(fill, connection, *tables.values())
    assert told == dict.fromkeys(tables, (30, ""))
    (customer, *_) = customers = await run(every, connection, tables["customer"])
    assert str(customer["email"]).endswith("@example.com")
    assert {row["password_hash"] for row in customers} == {None}
    times = [str(row["created_at"]) for row in customers]
    assert times == sorted(times)
    products = await run(every, connection, tables["product"])
    assert {row["status"] for row in products} == {"draft", "on sale", None}
    assert {row["size"] for row in products} == {*Size}
    assert all(isinstance(row["price"], Decimal) for row in products)
    assert len({row["parent_id"] for row in products}) > 3


async def test_the_same_seed_makes_the_same_rows_and_another_makes_others(
    databases: TestDatabases,
) -> None:
    found = []
    for seed in (1, 1, 2):
        url = await databases.create()
        engine = create_async_engine(url)
        async with engine.begin() as opened:
            _, tables = shop()
            await opened.run_sync(fill, tables["customer"], rows=5, seed=seed)
            found.append(await opened.run_sync(every, tables["customer"]))
        await engine.dispose()
        await databases.drop(url)
    assert found[0] == found[1] != found[2]


async def test_a_second_run_adds_rows(connection: Connection) -> None:
    _, tables = shop()
    for seed in (1, 1, 2):
        told = await run(fill, connection, tables["customer"], seed=seed)
        assert told == {"customer": (30, "")}
    assert len(await run(every, connection, tables["customer"])) == 90


async def test_what_cannot_be_made_is_named_and_examples_make_it(connection: Connection) -> None:
    metadata = MetaData()
    plain = Table("plain", metadata, Column("id", Integer, primary_key=True))
    search = Table(
        "search",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("words", TSVECTOR, nullable=False),
    )
    child = Table("child", metadata, Column("search_id", ForeignKey("search.id"), primary_key=True))
    told = await run(fill, connection, plain, search, child)
    assert told == {
        "plain": (30, ""),
        "search": (0, "no value can be made for its column words (TSVECTOR)"),
        "child": (0, "search_id refers to search, which has no row"),
    }
    search.c.words.info["examples"] = ["a", "b"]
    assert await run(fill, connection, search, child) == {"search": (30, ""), "child": (30, "")}


async def test_a_check_that_no_row_satisfies_leaves_its_table_out_alone(
    connection: Connection,
) -> None:
    metadata = MetaData()
    strict = Table(
        "strict",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("word", String(20), nullable=False),
        CheckConstraint("word LIKE 'no such %'", name="unlikely"),
    )
    plain = Table("plain", metadata, Column("id", Integer, primary_key=True))
    told = await run(fill, connection, strict, plain)
    assert told["plain"] == (30, "")
    made, reason = told["strict"]
    assert made == 0
    assert reason.endswith('violates check constraint "unlikely"')


async def test_a_table_that_can_hold_no_more_gets_what_it_can(connection: Connection) -> None:
    metadata = MetaData()
    small = Table(
        "small",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("on", Boolean, nullable=False),
        Column("size", Enum(Size), nullable=False),
        UniqueConstraint("on", "size"),
    )
    told = await run(fill, connection, small)
    assert told["small"][0] == 4


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("postgresql://localhost/app", None),
        ("postgresql://127.0.0.1:5433/app", None),
        ("postgresql://[::1]/app", None),
        ("postgresql:///app?host=/run/postgresql", None),
        ("postgresql://db.example.com/app", "db.example.com/app"),
    ],
)
def test_a_database_of_this_machine_is_filled_and_one_that_is_named(
    url: str, named: str | None
) -> None:
    refuse_foreign(make_url(url), named)


@pytest.mark.parametrize(
    ("url", "named", "environment"),
    [
        ("postgresql://db.example.com/app", None, "development"),
        ("postgresql://db.example.com/app", "db.example.com/other", "development"),
        ("postgresql://10.0.0.1/app", None, "development"),
        ("postgresql://localhost/app", None, "production"),
    ],
)
def test_any_other_is_refused_and_the_flag_is_told(
    monkeypatch: pytest.MonkeyPatch, url: str, named: str | None, environment: str
) -> None:
    monkeypatch.setenv("ENVIRONMENT", environment)
    with pytest.raises(SeedError, match=r"poe seed --database [\w.]+/app$"):
        refuse_foreign(make_url(f"{url}?password=hunter2"), named)
