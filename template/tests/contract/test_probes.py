"""No request, however odd, is answered with a 500."""

import json
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from fastapi import FastAPI
from sqlmodel import text
from sqlmodel.ext.asyncio.session import AsyncSession

from template_tools.pytest_plugin import Bearer
from tests.contract.description import NOTHING, collections
from tests.contract.probes import (
    JSON,
    NOT_A_BUG,
    Probe,
    Resource,
    operation_probes,
    resource_probes,
    send,
)
from tests.contract.routes import all_scopes, operations

BUGS = """\
These requests are answered with 500, which is a bug. Let the type of the parameter or of the body
refuse what the route cannot use (app/core/schema.py has types for that), or raise an error of
app/core/errors.py:

  {bugs}
"""
BROKEN = "A route has left the connection in a failed transaction: let it raise what it catches."


@pytest.mark.usefixtures("client")
async def test_no_probe_of_any_route_is_a_500(
    application: FastAPI, bearer: Bearer, session: AsyncSession
) -> None:
    caller = bearer(scope=all_scopes(application))
    bugs = [
        f"{probe.method} {probe.path[:80]} ({probe.name})"
        async for probe in _probes(application, caller)
        if (await send(application, probe, caller)).status == 500
    ]
    assert not bugs, BUGS.format(bugs="\n  ".join(bugs))
    # The session is still of use: no probe has broken the connection.
    assert await session.scalar(text("SELECT 1")) == 1, BROKEN


async def _probes(app: FastAPI, caller: dict[str, str]) -> AsyncIterator[Probe]:
    for operation in operations(app):
        if operation.is_api and operation.method != "WEBSOCKET":
            for probe in operation_probes(operation.method, operation.encoded):
                yield probe
    for resource in collections(app.openapi()):
        for probe in resource_probes(resource, await _create(app, resource, caller)):
            yield probe


async def _create(app: FastAPI, resource: Resource, caller: dict[str, str]) -> UUID:
    """Return the key of a new one; that of nothing where the description is not enough for one."""
    body = json.dumps(resource.new()).encode()
    probe = Probe("", "POST", resource.path, NOT_A_BUG, body, (JSON,))
    try:
        # A key may be a number, in a service that is older than the template.
        return UUID(str(json.loads((await send(app, probe, caller)).body)["id"]))
    except (ValueError, KeyError, TypeError):
        return NOTHING
