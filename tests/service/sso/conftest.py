"""A service with a few protected routes, so that these tests need none of the service's own."""

import asyncio
import base64
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Protocol

import httpx2
import pytest
from fastapi import Depends, FastAPI, Security, WebSocket

from app.core.errors import add_exception_handlers
from app.settings import Settings
from app.utils.sso.authorization import require_authentication, require_roles
from app.utils.sso.introspection import CurrentToken, introspect_token
from app.utils.sso.introspection_schema import TokenData
from app.utils.sso.resource_server.introspector import Timeouts, open_introspector
from app.utils.sso.resource_server.resource_metadata import router as resource_metadata
from tests.service.provider import RunningProvider
from tests.service.sso import metrics
from tests.service.sso.assertions import Log
from tests.service.sso.metrics import Recorder

type Handler = Callable[[httpx2.Request], Awaitable[httpx2.Response]]

# What a machine with much to do may take, where a test is not about the time itself.
PATIENT = Timeouts(provider=20, health=20, shared_cache=5)


class Open(Protocol):
    """Open the service with other settings: ``async with open_service(settings) as app``."""

    def __call__(
        self, settings: Settings, *, timeouts: Timeouts = ...
    ) -> AbstractAsyncContextManager[FastAPI]:
        """Open it; a timeout that matters to the test is given."""
        ...


class Serve(Protocol):
    """Open the service and call it: ``async with serve(settings) as caller``."""

    def __call__(
        self, settings: Settings, *, timeouts: Timeouts = ...
    ) -> AbstractAsyncContextManager[httpx2.AsyncClient]:
        """Open it; a timeout that matters to the test is given."""
        ...


class Network(httpx2.AsyncBaseTransport):
    """What lies between the service and the provider.

    ``network.handler = answer`` sees each request, and may forward it itself.
    """

    def __init__(self, forward: Handler) -> None:
        self.forward = self.handler = forward

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request of the service."""
        await request.aread()
        response = await self.handler(request)
        if not response.is_stream_consumed:
            return response
        # A response that is made of its content has been read already.
        stream = httpx2.ByteStream(response.content)
        return httpx2.Response(response.status_code, headers=response.headers, stream=stream)


class Hanging:
    """A handler of a network on which requests to some path are never answered."""

    def __init__(self, network: Network, path: str) -> None:
        self.asked = asyncio.Event()
        self._network, self._path = network, path

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        """Forward a request to another path."""
        if self._path in request.url.path:
            self.asked.set()
            await asyncio.Event().wait()
        return await self._network.forward(request)


class Clock:
    """The time as the service sees it, which stands still until a test moves it.

    That of the provider and of the event loop goes on.
    """

    def __init__(self) -> None:
        self.ahead = 0.0
        self._began = time.time()

    def time(self) -> float:
        """Return the seconds since 1970."""
        return self._began + self.ahead

    def monotonic(self) -> float:
        """Return seconds since some moment."""
        return self._began + self.ahead


def protected_app() -> FastAPI:
    """Return the service, not opened yet."""
    app = FastAPI()
    add_exception_handlers(app)
    app.include_router(resource_metadata)

    @app.get("/anyone")
    async def anyone(token_data: CurrentToken) -> dict[str, str | None]:
        return {"sub": token_data.sub, "username": token_data.username}

    @app.get("/who")
    async def who(token_data: CurrentToken) -> dict[str, str | list[str] | None]:
        return {"subject": token_data.subject, "roles": sorted(token_data.roles)}

    @app.get("/writers")
    async def writers(
        _token: Annotated[TokenData, Security(introspect_token, scopes=["report:write"])],
    ) -> None: ...

    @app.get("/editors")
    async def editors(
        _token: Annotated[
            TokenData, Security(introspect_token, scopes=["report:read", "report:write"])
        ],
    ) -> None: ...

    @app.get("/admins")
    async def admins(
        _token: Annotated[TokenData, Depends(require_roles("admin", "owner"))],
    ) -> None: ...

    @app.get("/strong")
    async def strong(
        _token: Annotated[TokenData, Depends(require_authentication(acr_values=["gold", "mfa"]))],
    ) -> None: ...

    @app.get("/recent")
    async def recent(
        _token: Annotated[TokenData, Depends(require_authentication(max_age=300))],
    ) -> None: ...

    @app.websocket("/socket")
    async def socket(socket: WebSocket, token_data: CurrentToken) -> None:
        await socket.accept()
        await socket.send_text(str(token_data.sub))
        await socket.close()

    return app


@pytest.fixture(scope="session")
def settings(settings: Settings) -> Settings:
    """The settings of a service that introspects any token, whatever this one does."""
    return settings.model_copy(update={"sso_mode": "introspect", "sso_jwt_type": "any"})


@pytest.fixture
def clock() -> Clock:
    """The service's clock, which a test may put ahead: ``clock.ahead += 61``."""
    return Clock()


@pytest.fixture(scope="session")
async def connections() -> AsyncIterator[httpx2.AsyncBaseTransport]:
    """The connections to the provider, which all tests share, because they are slow to open."""
    async with httpx2.AsyncHTTPTransport() as connections:
        yield connections


@pytest.fixture
def network(connections: httpx2.AsyncBaseTransport) -> Network:
    """The network between the service and the provider."""
    return Network(connections.handle_async_request)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """What the service has measured during a test."""
    recorder = metrics.install()
    recorder.reset()
    yield recorder
    recorder.reset()


@pytest.fixture
def log() -> Iterator[Log]:
    """What is logged during a test."""
    log, root = Log(), logging.getLogger()
    level = root.level
    root.addHandler(log)
    root.setLevel(logging.DEBUG)
    yield log
    root.setLevel(level)
    root.removeHandler(log)


@pytest.fixture
def presented(log: Log, settings: Settings) -> Iterator[set[str]]:
    """The tokens that a test presents. Neither they nor our credentials may be in the log."""
    tokens: set[str] = set()
    yield tokens
    secret = settings.client_secret.get_secret_value()
    basic = base64.b64encode(f"{settings.client_id}:{secret}".encode()).decode()
    text = log.text
    assert not [secret for secret in (*tokens, secret, basic) if secret in text]


@pytest.fixture
def open_service(
    clock: Clock, network: Network, presented: set[str], provider: RunningProvider
) -> Open:
    """Open the service with other settings: ``async with open_service(settings) as app``."""

    @asynccontextmanager
    async def opened(settings: Settings, *, timeouts: Timeouts = PATIENT) -> AsyncIterator[FastAPI]:
        app = protected_app()
        app.state.settings = settings
        async with open_introspector(
            settings, clock=clock, transport=network, timeouts=timeouts
        ) as app.state.introspector:
            yield app

    return opened


@pytest.fixture
def serve(open_service: Open, presented: set[str]) -> Serve:
    """Open the service and call it: ``async with serve(settings) as caller``."""

    async def note(request: httpx2.Request) -> None:
        token = request.headers.get("authorization", "").partition(" ")[2]
        # A shorter one would be found in any log, by chance.
        presented.update({token} if len(token) > 8 else ())

    async def check(response: httpx2.Response) -> None:
        await response.aread()
        assert not [token for token in presented if token in response.text]
        assert not [token for token in presented if token in str(response.headers)]

    @asynccontextmanager
    async def serving(
        settings: Settings, *, timeouts: Timeouts = PATIENT
    ) -> AsyncIterator[httpx2.AsyncClient]:
        async with (
            open_service(settings, timeouts=timeouts) as app,
            httpx2.AsyncClient(
                transport=httpx2.ASGITransport(app),
                base_url="http://test",
                event_hooks={"request": [note], "response": [check]},
            ) as caller,
        ):
            yield caller

    return serving


@pytest.fixture
async def caller(settings: Settings, serve: Serve) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the service with the usual settings."""
    async with serve(settings) as caller:
        yield caller
