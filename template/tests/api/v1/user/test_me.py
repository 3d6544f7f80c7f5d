"""Who the caller is to this service: the user that their token speaks for."""

import asyncio
from collections.abc import Iterator

import httpx2
import pytest
from fastapi import FastAPI
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.database.model.user import User
from app.settings import Settings
from template_tools.pytest_plugin import Bearer

PATH = "/api/v1/user/me"


async def test_the_token_says_who_the_caller_is(client: httpx2.AsyncClient, bearer: Bearer) -> None:
    headers = bearer(username="alice", sub="a-1", scope="profile email")
    assert (await client.get(PATH, headers=headers)).json() == {
        "subject": "a-1",
        "username": "alice",
        "client_id": "app",
        "scopes": ["email", "profile"],
        "user": None,
    }


@pytest.mark.parametrize(
    ("stored", "email"),
    [
        # Nobody with this subject yet: the username finds the row.
        ([("alice", None)], "alice-0@example.com"),
        # A username may be given to somebody else one day; the subject never is.
        ([("alice", "former")], None),
        ([("alice", None), ("alice-before", "a-1")], "alice-before-1@example.com"),
    ],
)
async def test_the_subject_decides_whose_row_the_caller_s_is(
    client: httpx2.AsyncClient,
    bearer: Bearer,
    session: AsyncSession,
    settings: Settings,
    stored: list[tuple[str, str | None]],
    email: str | None,
) -> None:
    for number, (username, subject) in enumerate(stored):
        address = f"{username}-{number}@example.com"
        issuer = settings.sso_issuer if subject else None
        session.add(User(username=username, email=address, issuer=issuer, subject=subject))
    await session.commit()

    me = (await client.get(PATH, headers=bearer(username="alice", sub="a-1"))).json()

    assert (me["user"] and me["user"]["email"]) == email


async def test_another_issuer_s_subject_is_somebody_else(
    client: httpx2.AsyncClient, bearer: Bearer, session: AsyncSession
) -> None:
    issuer = "https://former.example.com"
    session.add(User(username="al", email="al@example.com", issuer=issuer, subject="a-1"))
    await session.commit()
    assert (await client.get(PATH, headers=bearer(sub="a-1"))).json()["user"] is None


@pytest.mark.committed
async def test_a_username_finds_a_row_once(
    client: httpx2.AsyncClient, bearer: Bearer, session: AsyncSession
) -> None:
    """Whoever comes first is bound to it, and finds it under another name too."""
    session.add(User(username="alice", email="alice@example.com"))
    await session.commit()

    callers = [bearer(username="alice", sub=f"a-{number % 4}") for number in range(20)]
    shown = await asyncio.gather(*(client.get(PATH, headers=headers) for headers in callers))

    owners = {response.json()["subject"] for response in shown if response.json()["user"]}
    assert len(owners) == 1
    renamed = bearer(username="renamed", sub=owners.pop())
    assert (await client.get(PATH, headers=renamed)).json()["user"]["username"] == "alice"


@pytest.mark.parametrize(
    ("claims", "is_found"),
    [
        ({"email": "Alice@example.com", "email_verified": True}, True),
        ({"email": "alice@example.com"}, False),
        ({"email": "alice@example.com", "email_verified": "true"}, False),
        ({"email": "mallory@example.com", "email_verified": True}, False),
        ({"sub": None}, False),
    ],
    ids=str,
)
async def test_what_a_token_says_must_not_contradict_the_row_that_its_username_finds(
    client: httpx2.AsyncClient,
    bearer: Bearer,
    session: AsyncSession,
    claims: dict[str, object],
    is_found: bool,
) -> None:
    session.add(User(username="alice", email="alice@example.com"))
    await session.commit()
    me = (await client.get(PATH, headers=bearer(username="alice", **claims))).json()
    assert (me["user"] is not None) == is_found


class TestProvisioning:
    @pytest.fixture(autouse=True)
    def provisioning(self, application: FastAPI, settings: Settings) -> Iterator[None]:
        """Make a row for each caller at their first request."""
        application.state.settings = settings.model_copy(update={"provision_users": True})
        yield
        application.state.settings = settings

    @pytest.mark.committed
    async def test_of_concurrent_first_requests_one_makes_the_row_and_none_fails(
        self, client: httpx2.AsyncClient, bearer: Bearer, session: AsyncSession
    ) -> None:
        claims = {"email": "Alice@example.com", "email_verified": True, "name": "Alice L."}
        headers = bearer(username="alice", sub="a-1", **claims)

        responses = await asyncio.gather(*(client.get(PATH, headers=headers) for _ in range(20)))

        row = (await session.exec(select(User))).one()
        assert (row.username, row.subject, row.full_name) == ("alice", "a-1", "Alice L.")
        assert {response.json()["user"]["id"] for response in responses} == {str(row.id)}

    async def test_nobody_gets_a_row_unless_a_setting_says_so(
        self, application: FastAPI, client: httpx2.AsyncClient, bearer: Bearer, settings: Settings
    ) -> None:
        application.state.settings = settings.model_copy(update={"provision_users": False})
        headers = bearer(username="alice", email="alice@example.com", email_verified=True)
        assert (await client.get(PATH, headers=headers)).json()["user"] is None

    @pytest.mark.parametrize(
        "claims",
        [
            {"username": "alice", "email": "bob@example.com", "email_verified": True},
            {"username": "bob", "email": "alice@example.com", "email_verified": True},
            {"username": "bob", "email_verified": True},
            {"username": "bob", "email": "bob@example.com"},
            {"username": "bob", "email": "bob@example.com", "email_verified": False},
            {"username": "bob", "email": "bob@example.com", "email_verified": "true"},
            {"username": "bob", "email": "bob@example.com", "email_verified": True, "sub": None},
        ],
        ids=str,
    )
    async def test_a_caller_who_may_be_somebody_else_gets_none(
        self,
        client: httpx2.AsyncClient,
        bearer: Bearer,
        session: AsyncSession,
        settings: Settings,
        claims: dict[str, object],
    ) -> None:
        alice = User(username="alice", email="alice@example.com")
        alice.issuer, alice.subject = settings.sso_issuer, "somebody"
        session.add(alice)
        await session.commit()

        response = await client.get(PATH, headers=bearer(**claims))

        assert response.status_code == 200
        assert response.json()["user"] is None
