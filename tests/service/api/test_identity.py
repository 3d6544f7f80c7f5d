"""Two people never share a row, whatever their tokens have in common."""

import asyncio
from collections.abc import Iterator
from itertools import product

import httpx2
import pytest
from fastapi import FastAPI
from sqlmodel import delete, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.database.model.user import User
from app.settings import Settings
from app.utils.sso.resource_server.introspector import Introspector
from template_tools.pytest_plugin import Bearer

PATH = "/api/v1/user/me"
type Claims = dict[str, object]

# What the tokens of two people may have in a claim.
PAIRS: dict[str, list[tuple[object, object]]] = {
    "sub": [("a", "b"), ("a", "a"), (None, "b")],
    "uid": [("a", "b"), ("a", "a"), (7, None), ("a ", "a")],
    "username": [("alice", "bob"), ("alice", "alice"), ("a", None)],
    "client_id": [("web", "web"), ("a", None)],
    "email": [("a@example.com", "b@example.com"), ("a@example.com", "a@example.com")],
}
IDENTITIES = [dict(zip(PAIRS, values, strict=True)) for values in product(*PAIRS.values())]


@pytest.fixture(params=["sub", "uid"])
def subject_claim(
    request: pytest.FixtureRequest, application: FastAPI, settings: Settings
) -> Iterator[str]:
    """Make rows by this claim."""
    update = {"provision_users": True, "sso_subject_claim": request.param}
    application.state.settings = settings.model_copy(update=update)
    yield request.param
    application.state.settings = settings


@pytest.fixture
async def caller(
    application: FastAPI,
    client: httpx2.AsyncClient,
    provider_client: httpx2.AsyncClient,
    subject_claim: str,
) -> httpx2.AsyncClient:
    """A client of the service that reads this claim."""
    assert subject_claim
    application.state.introspector = Introspector(provider_client, application.state.settings)
    return client


@pytest.mark.parametrize("is_prepared", [False, True], ids=["no row", "a row of an administrator"])
async def test_a_row_is_shared_only_by_those_whose_claim_is_the_same(
    caller: httpx2.AsyncClient,
    bearer: Bearer,
    session: AsyncSession,
    subject_claim: str,
    is_prepared: bool,
) -> None:
    shared = 0
    for pairs in IDENTITIES:
        await session.exec(delete(User))
        if is_prepared:
            session.add(User(username="alice", email="a@example.com"))
        await session.commit()
        claims = [{name: pair[i] for name, pair in pairs.items()} for i in range(2)]
        rows = [
            (await caller.get(PATH, headers=bearer(email_verified=True, **it))).json()["user"]
            for it in (*claims, *claims)
        ]

        first, second = pairs[subject_claim]
        for before, after in zip(rows[:2], rows[2:], strict=True):
            assert before == after or (before is None), (pairs, before, after)
        if first is None:
            assert rows[0] is None, pairs
        if second is None:
            assert rows[1] is None, pairs
        if rows[0] and rows[1]:
            assert (rows[0]["id"] == rows[1]["id"]) == (first == second), pairs
            shared += rows[0]["id"] == rows[1]["id"]
        for row, said in zip(rows, claims * 2, strict=True):
            assert row is None or row["email"] == said["email"] or first == second, pairs
    assert shared, "somebody has come twice"


@pytest.mark.committed
async def test_of_two_people_with_a_name_at_once_one_gets_the_row(
    caller: httpx2.AsyncClient, bearer: Bearer, session: AsyncSession, subject_claim: str
) -> None:
    for number in range(5):
        session.add(User(username=f"alice-{number}", email=f"alice-{number}@example.com"))
    await session.commit()
    for number in range(5):
        people = [
            bearer(username=f"alice-{number}", **{subject_claim: f"{number}-{person}"})
            for person in range(2)
        ]
        headers = [person for _ in range(6) for person in people]
        answers = await asyncio.gather(*(caller.get(PATH, headers=it) for it in headers))
        users = [answer.json()["user"] for answer in answers]
        assert [answer.status_code for answer in answers] == [200] * len(answers)
        assert sorted([any(users[0::2]), any(users[1::2])]) == [False, True]
        winners = users[0::2] if users[0::2][0] else users[1::2]
        assert all(winners), "who is bound is known to each of their requests"
    rows = (await session.exec(select(User))).all()
    assert len({(row.issuer, row.subject) for row in rows}) == 5
