"""The user resource, as its callers see it."""

import asyncio
from typing import Any

import httpx2
import pytest
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.api.v1.user.schema import UserRead
from app.database.model.user import User
from template_tools.pytest_plugin import Bearer

PATH = "/api/v1/user/"


def example(number: int) -> dict[str, Any]:
    """The body of a user; another number from 0 to 9 makes another one."""
    return {
        "username": f"username {number}",
        "email": f"email-{number}@example.com",
        "full_name": f"full name {number}",
    }


@pytest.fixture
def caller(bearer: Bearer) -> dict[str, str]:
    """The headers of a caller who may do everything, whatever the state of a row."""
    return bearer(scope="user:read user:write") | {"If-Match": "*"}


@pytest.fixture
async def stored(session: AsyncSession) -> User:
    """A user that is there already."""
    row = User.model_validate(example(1))
    session.add(row)
    await session.commit()
    return row


async def test_reading_and_writing_require_a_scope_each(
    client: httpx2.AsyncClient, bearer: Bearer, stored: User
) -> None:
    item = f"{PATH}{stored.id}"
    reader, writer = bearer(scope="user:read"), bearer(scope="user:write")
    for method, url, other in [
        ("GET", PATH, writer),
        ("POST", PATH, reader),
        ("GET", item, writer),
        ("PATCH", item, reader),
        ("DELETE", item, reader),
    ]:
        response = await client.request(method, url, headers=other | {"If-Match": "*"})
        assert response.status_code == 403, f"{method} {url}"


async def test_what_is_sent_is_stored_and_shown(
    client: httpx2.AsyncClient, caller: dict[str, str], session: AsyncSession
) -> None:
    created = await client.post(PATH, json=example(1), headers=caller)

    assert created.status_code == 201
    assert created.json().items() >= example(1).items()
    row = (await session.exec(select(User))).one()
    assert UserRead.model_validate(row).model_dump(mode="json") == created.json()
    read = await client.get(PATH + created.headers["location"], headers=caller)
    assert read.json() == created.json()
    assert read.headers["etag"] == created.headers["etag"] == '"1"'


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(
    "change", [{"username": example(1)["username"]}, {"email": example(1)["email"]}], ids=str
)
async def test_what_contradicts_other_rows_is_a_conflict(
    client: httpx2.AsyncClient, caller: dict[str, str], change: dict[str, Any]
) -> None:
    response = await client.post(PATH, json=example(2) | change, headers=caller)
    assert response.status_code == 409


async def test_lists_show_each_row_once_and_in_order(
    client: httpx2.AsyncClient, caller: dict[str, str], session: AsyncSession
) -> None:
    rows = [User.model_validate(example(number)) for number in range(3)]
    session.add_all(rows)
    await session.commit()

    first = (await client.get(PATH, params={"limit": "2"}, headers=caller)).json()
    query = {"limit": "2", "cursor": first["next_cursor"]}
    second = (await client.get(PATH, params=query, headers=caller)).json()

    assert [it["id"] for it in first["items"] + second["items"]] == [str(row.id) for row in rows]
    assert second["next_cursor"] is None
    for field in ["username", "email"]:
        value = example(1)[field]
        page = (await client.get(PATH, params={field: value}, headers=caller)).json()
        equal = [str(row.id) for number, row in enumerate(rows) if example(number)[field] == value]
        assert [it["id"] for it in page["items"]] == equal


@pytest.mark.committed
async def test_of_changes_to_the_same_state_at_once_one_is_made(
    client: httpx2.AsyncClient, caller: dict[str, str], stored: User
) -> None:
    url, change = f"{PATH}{stored.id}", {"username": example(2)["username"]}
    headers = caller | {"If-Match": '"1"'}

    responses = await asyncio.gather(
        *(client.patch(url, json=change, headers=headers) for _ in range(8))
    )

    assert sorted(response.status_code for response in responses) == [200] + 7 * [412]
    shown = await client.get(url, headers=caller)
    assert shown.headers["etag"] == '"2"'
    assert shown.json().items() >= (example(1) | change).items()


async def test_what_is_deleted_is_gone_unless_it_was_changed(
    client: httpx2.AsyncClient, caller: dict[str, str], stored: User, session: AsyncSession
) -> None:
    for if_match, status in (('"0"', 412), ('"1"', 204), ("*", 404)):
        headers = caller | {"If-Match": if_match}
        response = await client.delete(f"{PATH}{stored.id}", headers=headers)
        assert response.status_code == status
    assert (await session.exec(select(User))).all() == []
