"""Databases for tests: copies of a template database that the migrations have built.

The server is that of TEST_DATABASE_URL, or the embedded PostgreSQL. Only databases named
``app_test_*`` are touched there.
"""

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import asyncpg
from sqlalchemy import URL
from sqlalchemy.engine import make_url

from template_tools.configuration import PROJECT_ROOT
from template_tools.postgres import running_server

if TYPE_CHECKING:
    # Importing Alembic takes a tenth of a short test run, which finds its template built already.
    from alembic.config import Config

_PREFIX = "app_test_"
# An advisory lock, so that concurrent test runs and workers build the template once.
_BUILD_LOCK = 0x746D706C


class MigrationsFailed(Exception):
    """The migrations have stopped; the message says why."""


class TestDatabases:
    """The test databases of one process."""

    __test__ = False

    def __init__(self, server: URL, connection: asyncpg.Connection) -> None:
        self._server = server
        self._connection = connection
        # The names differ by project, because several may use the same server.
        source = hashlib.sha256(str(PROJECT_ROOT).encode())
        self._family = f"{_PREFIX}{source.hexdigest()[:6]}_"
        for path in sorted((PROJECT_ROOT / "migrations").rglob("*.py")):
            source.update(path.name.encode() + path.read_bytes())
        self._template = f"{self._family}{source.hexdigest()[:12]}"
        self._clones: set[str] = set()

    async def create(self) -> URL:
        """Return the URL of a new database with the migrated schema."""
        name = f"{self._template}_{secrets.token_hex(4)}"
        await self._execute("CREATE DATABASE {} TEMPLATE {}", name, self._template)
        self._clones.add(name)
        return self._server.set(database=name)

    async def drop(self, url: URL) -> None:
        """Drop a database that ``create`` has made, even if there are connections to it."""
        name = url.database or ""
        self._clones.remove(name)
        await self._execute("DROP DATABASE {} WITH (FORCE)", name)

    async def drop_all(self) -> None:
        """Drop the databases that are left."""
        for name in list(self._clones):
            await self.drop(self._server.set(database=name))

    async def build_template(self) -> None:
        """Run the migrations, unless an earlier test run has done so since they last changed."""
        await self._connection.execute("SELECT pg_advisory_lock($1)", _BUILD_LOCK)
        try:
            query = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)"
            if not await self._connection.fetchval(query, self._template):
                await self._drop_outdated()
                building = f"{self._template}_building"
                await self._execute("CREATE DATABASE {}", building)
                await asyncio.to_thread(migrate, self._server.set(database=building), "head")
                await self._execute("ALTER DATABASE {} RENAME TO {}", building, self._template)
        finally:
            await self._connection.execute("SELECT pg_advisory_unlock($1)", _BUILD_LOCK)

    async def _drop_outdated(self) -> None:
        """Drop what was built from other migrations, and what killed test runs have left."""
        query = "SELECT datname FROM pg_database WHERE starts_with(datname, $1)"
        for row in await self._connection.fetch(query, self._family):
            await self._execute("DROP DATABASE {} WITH (FORCE)", row["datname"])

    async def _execute(self, statement: str, *names: str) -> None:
        if not all(name.startswith(_PREFIX) for name in names):
            raise ValueError(f"only databases named {_PREFIX}* may be touched")
        await self._connection.execute(statement.format(*(f'"{name}"' for name in names)))


@asynccontextmanager
async def open_test_databases() -> AsyncIterator[TestDatabases]:
    """Connect to the server, build the template if need be, and drop every copy at the end."""
    with _server() as url:
        connection = await asyncpg.connect(
            url.set(drivername="postgresql").render_as_string(hide_password=False)
        )
        try:
            databases = TestDatabases(url, connection)
            await databases.build_template()
            yield databases
            await databases.drop_all()
        finally:
            await connection.close()


@contextmanager
def _server() -> Iterator[URL]:
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield make_url(url).set(drivername="postgresql+asyncpg")
    else:
        with running_server("test") as server:
            yield make_url(server.url("postgres"))


def migrate(url: URL, revision: str) -> None:
    """Upgrade, or downgrade, a database to ``revision``; not from a running event loop."""
    from alembic import command

    with _alembic(url) as config:
        if revision == "base":
            command.downgrade(config, revision)
        else:
            command.upgrade(config, revision)


def check(url: URL) -> None:
    """Compare a database with the models.

    Raises:
        CommandError: They differ; the message names the differences.
    """
    from alembic import command

    with _alembic(url) as config:
        command.check(config)


@contextmanager
def _alembic(url: URL) -> Iterator["Config"]:
    """Point Alembic at ``url``, without alembic.ini, which would reconfigure the logging."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(PROJECT_ROOT / "migrations").replace("%", "%%"))
    before = os.environ["DATABASE_URL"]
    os.environ["DATABASE_URL"] = url.render_as_string(hide_password=False)
    try:
        yield config
    except SystemExit as error:
        # Within an event loop it would end the whole run, without the sentence.
        raise MigrationsFailed(error.code) from None
    finally:
        os.environ["DATABASE_URL"] = before
