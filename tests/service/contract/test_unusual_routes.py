"""The contract holds in a service with routes of every kind."""

from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI

from app.main import create_app
from app.settings import Settings
from tests.contract.routes import all_scopes, operations
from tests.contract.test_access import *  # noqa: F403 - its tests are run on the application below
from tests.contract.test_errors import *  # noqa: F403
from tests.contract.test_probes import *  # noqa: F403
from tests.service.contract.services import add_unusual_routes


@pytest.fixture(scope="module")
async def application(settings: Settings) -> AsyncIterator[FastAPI]:
    """The application with more routes."""
    app = create_app(settings)
    add_unusual_routes(app)
    async with app.router.lifespan_context(app):
        yield app


async def test_none_of_them_is_overlooked(application: FastAPI) -> None:
    found = {str(operation): operation for operation in operations(application)}
    for prefix in ("/Ünusual prefix/v9", "/mounted/again"):
        assert found[f"DELETE {prefix}/admin"].scopes == frozenset({"thing:admin"})
        assert found[f"WEBSOCKET {prefix}/feed/{{feed_id}}"].scopes == frozenset()
        assert found[f"POST {prefix}/hook"].has_own_scheme
        assert found[f"GET {prefix}/status"].is_public
        assert f"HEAD {prefix}/status" not in found
    assert found["GET /{realm}/tenant"].scopes == frozenset()
    assert found["GET /status"].host == "example.org"
    assert not any("/docs" in name or "/static" in name for name in found)
    assert {"thing:admin", "thing:read", "thing:write"} <= {*all_scopes(application).split()}
