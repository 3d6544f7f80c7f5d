"""The fixtures of the tests: a database, the development provider, the application, a client.

Each test sees the migrated, empty schema, and what it writes is rolled back. A test marked
``committed`` gets its own database instead: for concurrent requests, deferred constraints, and
everything else that depends on a real commit.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from inspect import (
    CORO_CREATED,
    getcoroutinestate,
    isasyncgenfunction,
    iscoroutine,
    iscoroutinefunction,
    ismethod,
)
from traceback import walk_tb
from types import MethodType
from typing import Any

# Tests do not read .env, which the settings decide when they are imported.
os.environ["ENVIRONMENT"] = "test"

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, SecretStr
from pydantic_settings import EnvSettingsSource, SettingsError
from sqlalchemy import URL, Connection, event, text
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import Session as OrmSession
from sqlalchemy.orm import SessionTransaction
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.types import ASGIApp, Receive, Scope, Send

from app.core.settings import MigrationSettings, ServerSettings, load_settings
from app.database.session import Database, SingleUseSession, open_database
from app.settings import Settings
from app.utils.sso.resource_server.introspector import Introspector
from app.utils.sso.resource_server.provider_client import create_client
from template_tools.databases import MigrationsFailed, TestDatabases, open_test_databases
from template_tools.messages import _
from template_tools.provider import RunningProvider, running_provider

_UNSET = {
    "ENVIRONMENT": "test",
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/app_test_unset",
    "SSO_ISSUER": "http://127.0.0.1:9",
    "SSO_AUDIENCE": "app",
    "CLIENT_ID": "app",
    "CLIENT_SECRET": "unset",
}


def _is_setting(name: str, value: str) -> bool:
    """Whether the service would read this variable, by a field's name, alias, prefix or part."""
    for kind in (Settings, MigrationSettings, ServerSettings):
        source = EnvSettingsSource(kind)
        source.env_vars = {name if source.case_sensitive else name.lower(): value}
        try:
            if source():
                return True
        except SettingsError:
            return True
    return False


# An editor may have loaded .env into the environment, and .env may name a database or a service
# that must not be touched. What tests need beyond this is set in tests/conftest.py, which pytest
# reads later, and before it imports the application.
for _name, _value in list(os.environ.items()):
    if _is_setting(_name, _value):
        del os.environ[_name]
os.environ |= _UNSET


def pytest_plugin_registered(plugin_name: str, manager: pytest.PytestPluginManager) -> None:
    """Let AnyIO run every asynchronous test, since two plugins would use two event loops.

    The marker and the fixtures of pytest-asyncio keep working.
    """
    if plugin_name == "asyncio":
        manager.set_blocked(plugin_name)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and say which setting the tests lack."""
    for marker in (
        _("committed: the test has its own database, and its commits are real"),
        _("asyncio: of pytest-asyncio; all asynchronous tests run without it"),
    ):
        config.addinivalue_line("markers", marker)
    try:
        load_settings(Settings)
    except SystemExit as error:
        *problems, _where = str(error).splitlines()
        where = _(
            "Tests read none from the environment or .env: "
            'set os.environ["..."] in tests/conftest.py.'
        )
        raise pytest.UsageError("\n".join([*problems, where])) from None


@contextmanager
def _ending_alone() -> Iterator[None]:
    """Turn what would end AnyIO's runner, and every later test with it, into a usual failure."""
    try:
        yield
    except (asyncio.CancelledError, SystemExit) as error:
        name = type(error).__name__
        raise AssertionError(_("{error} was raised, and not caught", error=name)) from error


def _alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return an asynchronous function, generator or method that ends alone, of the same kind."""
    if ismethod(function):
        return MethodType(_alone(function.__func__), function.__self__)

    @wraps(function)
    async def call(*args: object, **keywords: object) -> object:
        with _ending_alone():
            return await function(*args, **keywords)

    @wraps(function)
    async def generate(*args: object, **keywords: object) -> AsyncIterator[object]:
        with _ending_alone():
            async for value in function(*args, **keywords):
                yield value

    return generate if isasyncgenfunction(function) else call


def _close_what_was_not_awaited(error: Exception) -> None:
    """Close the coroutines that a failed test has left: a later test would be blamed for them."""
    values = [getattr(error, "obj", None)]
    for frame, _line in walk_tb(error.__traceback__):
        values += frame.f_locals.values()
    for value in values:
        if iscoroutine(value) and getcoroutinestate(value) == CORO_CREATED:
            value.close()
            name = value.__qualname__
            error.add_note(_("{name}() was not awaited, as `async def` tests can.", name=name))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Let a test fail alone."""
    if iscoroutinefunction(pyfuncitem.obj):
        pyfuncitem.obj = _alone(pyfuncitem.obj)
    try:
        return (yield)
    except Exception as error:
        _close_what_was_not_awaited(error)
        raise


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> Iterator[None]:
    """Let an asynchronous fixture fail alone."""
    function = fixturedef.func
    with pytest.MonkeyPatch.context() as patch:
        if iscoroutinefunction(function) or isasyncgenfunction(function):
            patch.setattr(fixturedef, "func", _alone(function))
        return (yield)


def pytest_pycollect_makeitem(obj: object) -> list[pytest.Item] | None:
    """Do not collect a table or a body as a test class, even if it is called Testimonial."""
    return [] if isinstance(obj, type) and issubclass(obj, BaseModel) else None


@pytest.fixture(scope="session", autouse=True)
def anyio_backend() -> str:
    """Run all tests in one event loop: a connection pool does not survive a second one.

    Every test has it, because AnyIO would otherwise leave the fixtures of a synchronous one alone.
    """
    return "asyncio"


@pytest.fixture(scope="session")
async def databases() -> AsyncIterator[TestDatabases]:
    """Databases with the migrated schema, which are dropped after the tests."""
    try:
        async with open_test_databases() as databases:
            yield databases
    except MigrationsFailed as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


@pytest.fixture(scope="session")
async def database_url(databases: TestDatabases) -> URL:
    """The database that the tests share."""
    return await databases.create()


@pytest.fixture(scope="session")
def shared_provider() -> Iterator[RunningProvider]:
    """The development provider, on a thread of this process."""
    with running_provider() as provider:
        yield provider


@pytest.fixture
def provider(shared_provider: RunningProvider) -> Iterator[RunningProvider]:
    """The development provider, as if just started."""
    yield shared_provider
    shared_provider.reset()


type Bearer = Callable[..., dict[str, str]]


@pytest.fixture
def bearer(provider: RunningProvider, settings: Settings) -> Bearer:
    """Make the headers of a caller: ``bearer(username="alice", scope="user:write")``.

    The keywords are those of ``template_tools.provider.TokenRequest``. The token is a JWT where the
    service reads nothing else.
    """
    usual = {} if settings.sso_mode == "introspect" else {"format": "jwt"}
    return lambda **claims: {"Authorization": f"Bearer {provider.mint(**usual | claims)}"}


@pytest.fixture(scope="session")
def settings(database_url: URL, shared_provider: RunningProvider) -> Settings:
    """The settings of an application that trusts the development provider."""
    return Settings(
        database_url=database_url,
        sso_issuer=shared_provider.issuer,
        sso_audience=shared_provider.config.audience,
        client_id=shared_provider.config.client_id,
        client_secret=SecretStr(shared_provider.config.client_secret),
    )


class _OneEventLoop:
    """Refuses calls from another event loop than that of the application's connections."""

    def __init__(self, app: ASGIApp, loop: asyncio.AbstractEventLoop) -> None:
        self._app = app
        self._loop = loop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                _(
                    "The fixture `application` runs in the event loop of the tests: call it from "
                    "an `async def` test, through the fixture `client`. A TestClient needs an "
                    "application of its own: `with TestClient(create_app(settings)) as client`."
                )
            )
        await self._app(scope, receive, send)


@pytest.fixture(scope="session")
async def application(settings: Settings) -> AsyncIterator[FastAPI]:
    """The application, started."""
    # Not at the top, because tests/conftest.py may set what the application needs.
    from app.main import create_app

    app = create_app(settings)
    app.add_middleware(_OneEventLoop, loop=asyncio.get_running_loop())
    async with app.router.lifespan_context(app):
        yield app


class _ReadOnlySession(SingleUseSession):
    """A session whose savepoint refuses writes, in a transaction that others write in."""


@event.listens_for(_ReadOnlySession, "after_begin")
def _refuse_writes(
    _session: OrmSession, _transaction: SessionTransaction, connection: Connection
) -> None:
    # This ends with the savepoint; in the transaction itself, the rest of the test could not write.
    if connection.in_nested_transaction():
        connection.execute(text("SET TRANSACTION READ ONLY"))


@pytest.fixture
async def database(
    request: pytest.FixtureRequest,
    application: FastAPI,
    databases: TestDatabases,
    settings: Settings,
) -> AsyncIterator[Database]:
    """The application's database for one test, which is then rolled back or dropped."""
    shared: Database = application.state.database
    if request.node.get_closest_marker("committed"):
        url = await databases.create()
        async with open_database(settings.model_copy(update={"database_url": url})) as database:
            application.state.database = database
            yield database
        await databases.drop(url)
    else:
        async with shared.engine.connect() as connection:
            outer = await connection.begin()
            # What the application commits ends a savepoint; the transaction around it is ours.
            sessionmaker = partial(
                async_sessionmaker,
                connection,
                class_=AsyncSession,
                sync_session_class=SingleUseSession,
                expire_on_commit=False,
                join_transaction_mode="create_savepoint",
            )
            application.state.database = Database(
                shared.engine, sessionmaker(), sessionmaker(sync_session_class=_ReadOnlySession)
            )
            yield application.state.database
            await outer.rollback()
    application.state.database = shared


@pytest.fixture
async def session(database: Database) -> AsyncIterator[AsyncSession]:
    """A session that sees what the application writes in this test."""
    async with database.sessionmaker() as session:
        yield session


@pytest.fixture(scope="session")
async def provider_client(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    """The connections to the provider, which are shared because opening one is slow."""
    async with create_client(settings) as client:
        yield client


@pytest.fixture
async def introspector(
    application: FastAPI, settings: Settings, provider_client: httpx2.AsyncClient
) -> AsyncIterator[Introspector]:
    """The application's introspector, with an empty cache for each test."""
    before: Introspector = application.state.introspector
    application.state.introspector = Introspector(provider_client, settings)
    yield application.state.introspector
    await application.state.introspector.close()
    application.state.introspector = before


@pytest.fixture
async def client(
    application: FastAPI,
    database: Database,
    introspector: Introspector,
) -> AsyncIterator[httpx2.AsyncClient]:
    """An HTTP client of the application, which sends no token of its own accord."""
    transport = httpx2.ASGITransport(application)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client
