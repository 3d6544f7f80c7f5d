"""The fixtures of the tests: a database, the development provider, the application, a client.

Each test sees the migrated, empty schema, and what it writes is rolled back. A test marked
``committed`` gets its own database instead: for concurrent requests, deferred constraints, and
everything else that depends on a real commit.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial

# The application reads its settings when it is imported. In tests they come from here only, because
# .env may name a database that must not be touched.
os.environ |= {
    "ENVIRONMENT": "test",
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/app_test_unset",
    "SSO_ISSUER": "http://127.0.0.1:9",
    "SSO_AUDIENCE": "app",
    "CLIENT_ID": "app",
    "CLIENT_SECRET": "unset",
}
os.environ.pop("MIGRATION_DATABASE_URL", None)

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, SecretStr
from sqlalchemy import URL, Connection, event, text
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import Session as OrmSession
from sqlalchemy.orm import SessionTransaction
from sqlmodel.ext.asyncio.session import AsyncSession

from app.database.session import Database, SingleUseSession, open_database
from app.main import create_app
from app.settings import Settings
from app.utils.sso.resource_server.introspector import Introspector
from app.utils.sso.resource_server.provider_client import create_client
from template_tools.databases import MigrationsFailed, TestDatabases, open_test_databases
from template_tools.provider import RunningProvider, running_provider


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers", "committed: the test has its own database, and its commits are real"
    )


def pytest_pycollect_makeitem(obj: object) -> list[pytest.Item] | None:
    """Do not collect a table or a body as a test class, even if it is called Testimonial."""
    return [] if isinstance(obj, type) and issubclass(obj, BaseModel) else None


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run all tests in one event loop: a connection pool does not survive a second one."""
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


@pytest.fixture(scope="session")
async def application(settings: Settings) -> AsyncIterator[FastAPI]:
    """The application, started."""
    app = create_app(settings)
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
