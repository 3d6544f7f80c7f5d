"""A service with two protected routes, so that these tests need none of the service's own."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated

import httpx2
import pytest
from fastapi import FastAPI, Security

from app.core.errors import add_exception_handlers
from app.settings import Settings
from app.utils.sso.introspection import CurrentToken, introspect_token
from app.utils.sso.introspection_schema import TokenData
from app.utils.sso.introspector import open_introspector

type Serve = Callable[[Settings], AbstractAsyncContextManager[httpx2.AsyncClient]]


def protected_app() -> FastAPI:
    """Return the service, not opened yet."""
    app = FastAPI()
    add_exception_handlers(app)

    @app.get("/anyone")
    async def anyone(token_data: CurrentToken) -> dict[str, str | None]:
        return {"sub": token_data.sub, "username": token_data.username}

    @app.get("/writers")
    async def writers(
        _token: Annotated[TokenData, Security(introspect_token, scopes=["report:write"])],
    ) -> None: ...

    return app


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    """Open the service with ``settings``, and call it."""
    app = protected_app()
    app.state.settings = settings
    transport = httpx2.ASGITransport(app)
    async with (
        open_introspector(settings) as app.state.introspector,
        httpx2.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield client


@pytest.fixture
def serve() -> Serve:
    """Open the service with other settings: ``async with serve(settings) as caller``."""
    return serving


@pytest.fixture
async def caller(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the service with the usual settings."""
    async with serving(settings) as client:
        yield client
