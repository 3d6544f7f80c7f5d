"""The contract holds in a service with routes of every kind."""

from collections.abc import AsyncIterator

import pytest
from fastapi import APIRouter, FastAPI
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.staticfiles import StaticFiles

from app.main import create_app
from app.settings import Settings
from tests.contract.routes import all_scopes, operations
from tests.contract.test_access import *  # noqa: F403 - its tests are run on the application below
from tests.contract.test_errors import *  # noqa: F403
from tests.contract.test_probes import *  # noqa: F403
from tests.service.contract.services import add_unusual_routes


def with_unusual_routes(settings: Settings) -> FastAPI:
    """Return the application with more routes."""
    app = create_app(settings)
    add_unusual_routes(app)
    return app


def without_routes(settings: Settings) -> FastAPI:
    """Return the application of a team that has deleted what it was given."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.main.api_v1", APIRouter())
        app = create_app(settings)
    assert not [it for it in operations(app) if it.path.startswith("/api")]
    return app


def with_pages(settings: Settings) -> FastAPI:
    """Return the application with a single-page application, middleware and error pages."""

    async def page(_request: Request, _error: Exception) -> Response:
        return PlainTextResponse("Not here.", 404)

    def configure(app: FastAPI) -> None:
        pages = FastAPI(openapi_url=None)
        pages.add_exception_handler(404, page)
        pages.mount("/static", StaticFiles(directory="app"))
        app.mount("/pages", pages, name="public:pages")
        app.mount("/", StaticFiles(directory="app", html=True))
        app.add_middleware(GZipMiddleware, minimum_size=1)
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["test", "example.org"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.hooks.configure", configure)
        patch.setattr("app.main.api_v1", APIRouter(prefix="/{tenant}"))
        return create_app(settings)


@pytest.fixture(
    scope="module",
    params=[with_unusual_routes, without_routes, with_pages],
    ids=lambda make: make.__name__,
)
async def application(settings: Settings, request: pytest.FixtureRequest) -> AsyncIterator[FastAPI]:
    """The application of a team."""
    app: FastAPI = request.param(settings)
    async with app.router.lifespan_context(app):
        yield app


@pytest.mark.parametrize("application", [with_unusual_routes], indirect=True)
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
    assert not any("/static" in name for name in found)
    assert {"thing:admin", "thing:read", "thing:write"} <= {*all_scopes(application).split()}
