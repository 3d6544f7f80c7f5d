"""The user resource, as its callers see it."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx2
import pytest

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
def caller(client: httpx2.AsyncClient, bearer: Bearer) -> httpx2.AsyncClient:
    """A client that may do everything, whatever the state of a row."""
    client.headers.update(bearer(scope="user:read user:write") | {"If-Match": "*"})
    return client


async def test_reading_and_writing_require_a_scope_each(
    client: httpx2.AsyncClient, bearer: Bearer
) -> None:
    reader, writer = bearer(scope="user:read"), bearer(scope="user:write")
    url = f"{PATH}{uuid4()}"
    refused = [
        await client.get(PATH, headers=writer),
        await client.post(PATH, headers=reader),
        await client.get(url, headers=writer),
        await client.patch(url, headers=reader),
        await client.delete(url, headers=reader),
    ]
    assert [response.status_code for response in refused] == 5 * [403]


async def test_a_row_is_created_shown_changed_and_deleted(caller: httpx2.AsyncClient) -> None:
    created = await caller.post(PATH, json=example(1))
    assert created.status_code == 201
    assert created.json().items() >= example(1).items()
    url, seen = PATH + created.headers["location"], {"If-Match": created.headers["etag"]}
    shown = await caller.get(url)
    assert (shown.json(), shown.headers["etag"]) == (created.json(), created.headers["etag"])
    change = {"username": example(2)["username"]}
    changed = await caller.patch(url, json=change, headers=seen)
    assert changed.json().items() >= (example(1) | change).items()
    assert (await caller.delete(url, headers=seen)).status_code == 412
    assert (await caller.delete(url)).status_code == 204
    assert (await caller.get(url)).status_code == 404


async def test_what_contradicts_other_rows_is_a_conflict(caller: httpx2.AsyncClient) -> None:
    await caller.post(PATH, json=example(1))
    for change in [{"username": example(1)["username"]}, {"email": example(1)["email"]}]:
        response = await caller.post(PATH, json=example(2) | change)
        assert response.status_code == 409, change


async def test_a_list_shows_what_its_filters_leave(caller: httpx2.AsyncClient) -> None:
    rows = [(await caller.post(PATH, json=example(number))).json() for number in range(3)]
    assert (await caller.get(PATH)).json()["items"] == rows
    for query in [{"username": rows[1]["username"]}, {"email": rows[1]["email"]}]:
        page = (await caller.get(PATH, params=query)).json()
        assert page["items"] == [row for row in rows if query.items() <= row.items()]


@pytest.mark.committed
async def test_of_changes_to_the_same_state_at_once_one_is_made(caller: httpx2.AsyncClient) -> None:
    created = await caller.post(PATH, json=example(1))
    url, seen = PATH + created.headers["location"], {"If-Match": created.headers["etag"]}
    changes = [caller.patch(url, json=example(2), headers=seen) for _ in range(8)]
    statuses = [response.status_code for response in await asyncio.gather(*changes)]
    assert sorted(statuses) == [200] + 7 * [412]
