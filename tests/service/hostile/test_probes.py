"""No request, however odd, is answered with a 500.

What the answers are, where bodies are made of the template's types, is for the tests of a resource
to say: they can use the same probes.
"""

import json
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from template_tools.pytest_plugin import Bearer
from tests.service.hostile.description import NOBODY, Document, collections, operations, scopes
from tests.service.hostile.probes import (
    JSON,
    Probe,
    Resource,
    operation_probes,
    resource_probes,
    send,
    service_probes,
    try_all,
)

pytestmark = pytest.mark.usefixtures("client")


@pytest.fixture
def document(application: FastAPI) -> Document:
    """The description of the API."""
    return application.openapi()


@pytest.fixture
def caller(document: Document, bearer: Bearer) -> dict[str, str]:
    """The headers of a caller who may do everything."""
    return bearer(scope=" ".join(scopes(document)))


async def test_odd_paths_and_headers_are_answered_as_they_should_be(
    application: FastAPI, caller: dict[str, str]
) -> None:
    number, faults = await try_all(application, service_probes(), caller)
    assert not faults, "\n".join(faults)
    assert number >= 75


async def test_no_probe_of_any_operation_is_a_500(
    application: FastAPI, document: Document, caller: dict[str, str], session: AsyncSession
) -> None:
    faults = [
        f"{probe.method} {probe.path[:80]} ({probe.name})"
        async for probe in _all_probes(application, document, caller)
        if (await send(application, probe, caller)).status == 500
    ]
    assert not faults, "\n".join(faults)
    assert await session.scalar(text("SELECT 1")) == 1


async def _all_probes(
    app: FastAPI, document: Document, caller: dict[str, str]
) -> AsyncIterator[Probe]:
    for operation in operations(document):
        for probe in operation_probes(operation.method, operation.path):
            yield probe
    for resource in collections(document):
        for probe in resource_probes(resource, await _create(app, resource, caller)):
            yield probe


async def _create(app: FastAPI, resource: Resource, caller: dict[str, str]) -> UUID:
    """Return the key of a new one, or nobody's where the description is not enough to make one."""
    body = json.dumps(resource.new()).encode()
    answer = await send(
        app, Probe("POST", "POST", resource.path, frozenset(), body, (JSON,)), caller
    )
    try:
        return UUID(json.loads(answer.body)["id"])
    except (ValueError, KeyError, TypeError):
        return NOBODY
