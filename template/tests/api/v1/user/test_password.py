"""A user's password: it goes in, and never comes out."""

import asyncio
import logging

import anyio
import httpx2
import pytest
from pydantic import SecretStr
from sqlalchemy.pool import QueuePool
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core import passwords
from app.core.passwords import verify_password
from app.database.model.user import User
from app.database.session import Database
from template_tools.pytest_plugin import Bearer

PATH = "/api/v1/user/"
CANARY = "canary horse battery"
ALICE = {"username": "alice", "email": "alice@example.com"}


@pytest.fixture
def writer(bearer: Bearer) -> dict[str, str]:
    """The headers of a caller who may change users."""
    return bearer(scope="user:read user:write") | {"If-Match": "*"}


async def password_is(session: AsyncSession, password: str) -> bool:
    """Whether the one user there is has this password."""
    user = (await session.exec(select(User).execution_options(populate_existing=True))).one()
    return await verify_password(SecretStr(password), user.password_hash)


async def test_a_password_is_stored_as_its_hash(
    client: httpx2.AsyncClient, writer: dict[str, str], session: AsyncSession
) -> None:
    response = await client.post(PATH, json=ALICE | {"password": CANARY}, headers=writer)

    assert response.status_code == 201
    assert await password_is(session, CANARY)


async def test_a_password_changes_stays_and_goes(
    client: httpx2.AsyncClient, writer: dict[str, str], session: AsyncSession
) -> None:
    created = await client.post(PATH, json=ALICE | {"password": CANARY}, headers=writer)
    url = PATH + created.json()["id"]

    await client.patch(url, json={"full_name": "Alice"}, headers=writer)
    assert await password_is(session, CANARY)
    await client.patch(url, json={"password": "another horse battery"}, headers=writer)
    assert await password_is(session, "another horse battery")
    await client.patch(url, json={"password": None}, headers=writer)
    assert not await password_is(session, "another horse battery")


@pytest.mark.committed
async def test_no_connection_waits_while_a_password_is_hashed(
    client: httpx2.AsyncClient, writer: dict[str, str], database: Database
) -> None:
    """Others want it meanwhile: ten changes of passwords would stop the whole service."""
    created = await client.post(PATH, json=ALICE, headers=writer)
    url = PATH + created.json()["id"]
    busy = [object() for _ in range(int(passwords._limiter.total_tokens))]
    for borrower in busy:
        passwords._limiter.acquire_on_behalf_of_nowait(borrower)

    change = asyncio.create_task(client.patch(url, json={"password": CANARY}, headers=writer))
    with anyio.fail_after(5):
        while not passwords._limiter.statistics().tasks_waiting:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    pool = database.engine.pool
    assert isinstance(pool, QueuePool)
    held = pool.checkedout()
    for borrower in busy:
        passwords._limiter.release_on_behalf_of(borrower)

    assert (await change).status_code == 200
    assert held == 0


async def test_it_is_nowhere_in_answers_and_logs(
    client: httpx2.AsyncClient, writer: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    body = ALICE | {"password": CANARY}

    created = await client.post(PATH, json=body, headers=writer)
    answers = [
        created,
        await client.post(PATH, json=body, headers=writer),
        await client.post(PATH, json=body | {"password": [CANARY]}, headers=writer),
        await client.post(PATH, json=body | {"password": CANARY * 20}, headers=writer),
        await client.get(PATH + created.json()["id"], headers=writer),
        await client.get(PATH, headers=writer),
    ]

    assert [answer.status_code for answer in answers] == [201, 409, 422, 422, 200, 200]
    for answer in answers:
        assert "canary" not in answer.text
        assert "password" not in answer.text or answer.status_code == 422
        assert "argon2" not in answer.text
    assert "canary" not in caplog.text
