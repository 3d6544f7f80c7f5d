"""What the database refuses is the caller's mistake, even where no schema has stopped it."""

import json
from uuid import uuid4

import pytest
from fastapi import FastAPI
from sqlmodel import text

from app.database.session import Database
from tests.contract.probes import JSON, Body, Probe, Resource, send
from tests.service.database.notes import notes
from tests.service.hostile.naive import create_naive_app
from tests.service.hostile.probes import resource_probes


def new_reading() -> Body:
    return {"title": f"reading-{uuid4()}"}


READING = Resource("/reading/", new_reading, required=("title",), text="title")


@pytest.fixture
async def naive(database: Database) -> FastAPI:
    async with database.sessionmaker.begin() as session:
        await (await session.connection()).run_sync(notes.metadata.create_all)
    return create_naive_app(database)


async def test_no_probe_is_a_500(naive: FastAPI, database: Database) -> None:
    created = await post(naive, json.dumps(new_reading()))
    key = json.loads(created[1])["id"]

    bugs = [
        probe.name
        for probe in resource_probes(READING, key)
        if (await send(naive, probe, {})).status == 500
    ]

    assert not bugs, "\n".join(bugs)
    async with database.sessionmaker() as session:
        assert await session.scalar(text("SELECT 1")) == 1


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("number", "2147483648"),
        ("number", "-2147483649"),
        ("number", "9223372036854775808"),
        ("number", "1" * 4000),
        ("title", '"\\u0000"'),
        ("title", '"\\ud800"'),
        ("title", json.dumps("".join(chr(0x4E00 + n * n * 7919 % 20_000) for n in range(9000)))),
        ("taken_at", '"0001-01-01T00:00:00+14:00"'),
        ("taken_at", '"9999-12-31T23:59:59-14:00"'),
        ("taken_at", '"2026-11-22T12:43:00"'),
    ],
    ids=lambda value: value[:30],
)
async def test_what_fits_no_column_is_refused(naive: FastAPI, member: str, value: str) -> None:
    status, _ = await post(naive, f'{{"title": "x", "{member}": {value}}}')
    assert status == 422


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e400", "-0", "1e-400"])
async def test_what_fits_is_stored_and_shown(naive: FastAPI, value: str) -> None:
    status, _ = await post(naive, f'{{"title": "x", "ratio": {value}}}')
    assert status == 201


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1",
        "limit=9223372036854775808",
        "offset=-1",
        "offset=" + "9" * 30,
        "title=%00",
        "number=2147483648",
        "number=-9223372036854775809",
    ],
)
async def test_a_query_that_the_database_refuses_is_refused(naive: FastAPI, query: str) -> None:
    probe = Probe(query, "GET", "/reading/", frozenset({422}), query=query)
    assert [*(await send(naive, probe, {})).faults(probe)] == []


async def post(app: FastAPI, body: str) -> tuple[int, bytes]:
    probe = Probe("POST", "POST", "/reading/", frozenset(), body.encode(), (JSON,))
    answer = await send(app, probe, {})
    return answer.status, answer.body
