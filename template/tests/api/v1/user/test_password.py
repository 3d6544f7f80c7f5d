"""A user's password: its owner or an administrator sets it, and it never comes out."""

import asyncio
import logging
from collections.abc import Iterator

import anyio
import httpx2
import pytest
from pydantic import SecretStr
from sqlalchemy.pool import QueuePool
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core import passwords
from app.core.passwords import hash_password, verify_password
from app.database.model.user import User
from app.database.session import Database
from template_tools.pytest_plugin import Bearer

PATH = "/api/v1/user/"
OWN = f"{PATH}me/password"
CANARY = "canary horse battery"
OTHER = "another horse battery"


@pytest.fixture
def admin(bearer: Bearer) -> dict[str, str]:
    """The headers of a caller who may set passwords."""
    return bearer(scope="user:read user:write", roles=["admin"])


@pytest.fixture
def alice(bearer: Bearer) -> dict[str, str]:
    """The headers of the user."""
    return bearer(username="alice", sub="a-1")


@pytest.fixture(autouse=True)
def tries() -> Iterator[None]:
    """Forget the tries of other tests."""
    yield
    passwords._tries.clear()


@pytest.fixture
async def url(session: AsyncSession) -> str:
    """The path of the user's password, which is the canary."""
    user = User(username="alice", email="alice@example.com")
    user.password_hash = await hash_password(SecretStr(CANARY))
    session.add(user)
    await session.commit()
    return f"{PATH}{user.id}/password"


async def password_is(session: AsyncSession, password: str) -> bool:
    """Whether the one user there is has this password."""
    user = (await session.exec(select(User).execution_options(populate_existing=True))).one()
    return await verify_password(SecretStr(password), user.password_hash)


async def test_its_owner_changes_it_with_the_old_one(
    client: httpx2.AsyncClient, alice: dict[str, str], session: AsyncSession, url: str
) -> None:
    body = {"old_password": CANARY, "password": OTHER}
    assert (await client.put(OWN, json=body, headers=alice)).status_code == 204
    assert await password_is(session, OTHER)
    assert (await client.put(OWN, json=body, headers=alice)).status_code == 403
    assert await password_is(session, OTHER)


async def test_a_stolen_token_does_not_help_to_guess_it(
    client: httpx2.AsyncClient, alice: dict[str, str], session: AsyncSession, url: str
) -> None:
    wrong, right = ({"old_password": it, "password": OTHER} for it in (OTHER, CANARY))
    tries = [client.put(OWN, json=wrong, headers=alice) for _ in range(8)]
    statuses = [response.status_code for response in [await it for it in tries]]
    assert statuses == 5 * [403] + 3 * [429]
    assert (await client.put(OWN, json=right, headers=alice)).status_code == 429
    assert await password_is(session, CANARY)


async def test_whoever_has_none_gets_none_without_an_administrator(
    client: httpx2.AsyncClient, alice: dict[str, str], admin: dict[str, str], url: str
) -> None:
    assert (await client.put(url, json={"password": None}, headers=admin)).status_code == 204
    for old in (CANARY, OTHER):
        body = {"old_password": old, "password": OTHER}
        assert (await client.put(OWN, json=body, headers=alice)).status_code == 403


async def test_an_administrator_sets_and_removes_it(
    client: httpx2.AsyncClient, admin: dict[str, str], session: AsyncSession, url: str
) -> None:
    assert (await client.put(url, json={"password": OTHER}, headers=admin)).status_code == 204
    assert await password_is(session, OTHER)
    assert (await client.put(url, json={"password": None}, headers=admin)).status_code == 204
    assert not await password_is(session, OTHER)


async def test_a_scope_alone_sets_nobody_s(
    client: httpx2.AsyncClient, bearer: Bearer, session: AsyncSession, url: str
) -> None:
    """A scope is what a client may do; its user is somebody else."""
    mallory = bearer(username="mallory", scope="user:write") | {"If-Match": "*"}
    body = {"old_password": CANARY, "password": OTHER}
    refused = [
        await client.put(url, json={"password": OTHER}, headers=mallory),
        await client.put(OWN, json=body, headers=mallory),
        await client.patch(url.removesuffix("/password"), json=body, headers=mallory),
    ]
    assert [response.status_code for response in refused] == [403, 403, 422]
    created = {"username": "bob", "email": "bob@example.com", "password": OTHER}
    assert (await client.post(PATH, json=created, headers=mallory)).status_code == 422
    assert await password_is(session, CANARY)


@pytest.mark.committed
async def test_of_changes_at_once_one_is_made(
    client: httpx2.AsyncClient, alice: dict[str, str], url: str
) -> None:
    changes = [
        client.put(OWN, json={"old_password": CANARY, "password": f"{OTHER} {i}"}, headers=alice)
        for i in range(4)
    ]
    statuses = [response.status_code for response in await asyncio.gather(*changes)]
    assert statuses.count(204) == 1
    assert set(statuses) <= {204, 403, 412}


@pytest.mark.committed
@pytest.mark.parametrize("who", ["admin", "alice"])
async def test_no_connection_waits_while_a_password_is_hashed(
    client: httpx2.AsyncClient,
    admin: dict[str, str],
    alice: dict[str, str],
    database: Database,
    url: str,
    who: str,
) -> None:
    """Others want it meanwhile: ten changes of passwords would stop the whole service."""
    busy = [object() for _ in range(int(passwords._limiter.total_tokens))]
    for borrower in busy:
        passwords._limiter.acquire_on_behalf_of_nowait(borrower)

    path, headers = (url, admin) if who == "admin" else (OWN, alice)
    old = {} if who == "admin" else {"old_password": CANARY}
    call = client.put(path, json={"password": OTHER} | old, headers=headers)
    change = asyncio.create_task(call)
    try:
        with anyio.fail_after(5):
            while not passwords._limiter.statistics().tasks_waiting:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        pool = database.engine.pool
        assert isinstance(pool, QueuePool)
        held = pool.checkedout()
    finally:
        # The tests that follow hash passwords too, and would wait for ever.
        for borrower in busy:
            passwords._limiter.release_on_behalf_of(borrower)

    assert (await change).status_code == 204
    assert held == 0


async def test_it_is_nowhere_in_answers_and_logs(
    client: httpx2.AsyncClient,
    admin: dict[str, str],
    alice: dict[str, str],
    url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    user = url.removesuffix("/password")

    answers = [
        await client.put(url, json={"password": [CANARY]}, headers=admin),
        await client.put(url, json={"password": CANARY * 20}, headers=admin),
        await client.put(OWN, json={"old_password": CANARY, "password": "a"}, headers=alice),
        await client.put(OWN, json={"old_password": CANARY, "password": CANARY}, headers=alice),
        await client.get(user, headers=admin),
        await client.get(PATH, headers=admin),
    ]

    assert [answer.status_code for answer in answers] == [422, 422, 422, 204, 200, 200]
    for answer in answers:
        assert "canary" not in answer.text
        assert "password" not in answer.text or answer.status_code == 422
        assert "argon2" not in answer.text
    assert "canary" not in caplog.text
