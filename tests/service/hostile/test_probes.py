"""Every probe has one right answer, where bodies are made of the template's types."""

from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import FastAPI
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.database.model.user import User
from template_tools.pytest_plugin import Bearer
from tests.contract.probes import Body, Resource, try_all
from tests.service.hostile.probes import resource_probes, service_probes

PATH = "/api/v1/user/"


def new_user() -> Body:
    """Return the body of somebody who is not there yet."""
    name = f"user-{uuid4()}"
    return {"username": name, "email": f"{name}@example.com"}


USER = Resource(PATH, new_user, required=("username", "email"), text="full_name")


@pytest.fixture
def caller(bearer: Bearer) -> dict[str, str]:
    """The headers of a caller who may do everything."""
    return bearer(scope="user:read user:write")


@pytest.mark.usefixtures("client")
async def test_odd_paths_and_headers_are_answered_as_they_should_be(
    application: FastAPI, caller: dict[str, str]
) -> None:
    number, faults = await try_all(application, service_probes(), caller)
    assert not faults, "\n".join(faults)
    assert number >= 75


async def test_every_probe_of_a_resource_is_answered_as_it_should_be(
    application: FastAPI,
    client: httpx2.AsyncClient,
    caller: dict[str, str],
    session: AsyncSession,
) -> None:
    key = (await client.post(PATH, json=new_user(), headers=caller)).json()["id"]

    number, faults = await try_all(application, resource_probes(USER, UUID(key)), caller)

    assert not faults, "\n".join(faults)
    assert number >= 360
    user = (await session.exec(select(User).where(col(User.id) == UUID(key)))).one()
    assert user.version == 1
    assert (await client.post(PATH, json=new_user(), headers=caller)).status_code == 201
