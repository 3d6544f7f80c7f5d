"""A PostgreSQL server for this project alone, for development and tests.

A client takes a lease on the server, which is a shared file lock. The first client starts a
detached process, the supervisor, which starts PostgreSQL and stops it once no lease remains. The
kernel drops the locks of a process that dies, so the server does not outlive its clients for long.

The server listens on 127.0.0.1 only and has a random password, which keeps other local users out.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from template_tools.configuration import PROJECT_ROOT, configured
from template_tools.messages import _
from template_tools.postgres import locks
from template_tools.postgres.binaries import PostgresError, find_binaries
from template_tools.postgres.folders import make_state_folder, state_folder

__all__ = [
    "PostgresError",
    "Server",
    "development_database",
    "empty_development_database",
    "ensure_database",
    "refuse_configured_database",
    "running_server",
    "running_server_if_any",
]

type Profile = Literal["dev", "test"]

DEVELOPMENT_DATABASE = "app"
# How long the server runs on without a lease, so that a reloader finds it running again.
GRACE_SECONDS = 1.0
# All that the server gets of the environment, which may hold secrets and settings of libpq.
KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TEMP")
# What tells clients about another server than the one that is started here. They are the variables
# of libpq, some of which asyncpg reads too.
# https://www.postgresql.org/docs/current/libpq-envars.html
OTHER_SERVERS = frozenset(
    f"PG{name}"
    for name in (  # noqa: SIM905 - 46 words in quotes would be 46 lines
        "APPNAME CHANNELBINDING CLIENTENCODING CONNECT_TIMEOUT DATABASE DATESTYLE GEQO"
        " GSSDELEGATION GSSENCMODE GSSLIB HOST HOSTADDR KRBSRVNAME LOADBALANCEHOSTS LOCALEDIR"
        " MAXPROTOCOLVERSION MINPROTOCOLVERSION OAUTHCAFILE OAUTHDEBUG OPTIONS PASSFILE PASSWORD"
        " PORT REALM REQUIREAUTH REQUIREPEER REQUIRESSL SERVICE SERVICEFILE SSLCERT SSLCERTMODE"
        " SSLCOMPRESSION SSLCRL SSLCRLDIR SSLKEY SSLMAXPROTOCOLVERSION SSLMINPROTOCOLVERSION"
        " SSLMODE SSLNEGOTIATION SSLROOTCERT SSLSNI SYSCONFDIR TARGETSESSIONATTRS TZ USER"
    ).split()
)
# A range below the ephemeral ports, which begin at 32768.
FIRST_PORT, PORTS = 20000, 10000


@dataclass(frozen=True, slots=True)
class Server:
    """How to reach a running server."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database on this server."""
        return (
            f"postgresql+asyncpg://{self.user}:{self.password}@{self.host}:{self.port}/{database}"
        )


@contextmanager
def running_server(profile: Profile, root: Path = PROJECT_ROOT) -> Iterator[Server]:
    """Lease the project's server, and start it unless it runs; it stops after the last lease.

    The `dev` server keeps its data. The `test` server is a separate one, which trades durability
    for speed and may lose its data between runs.

    Raises:
        PostgresError: PostgreSQL is not found or does not start.
    """
    lease, server = take_lease(profile, root)
    try:
        yield server
    finally:
        os.close(lease)


@contextmanager
def development_database(root: Path = PROJECT_ROOT) -> Iterator[None]:
    """Set DATABASE_URL to what is configured, or to a database on a leased server.

    The processes that this one starts have it too.

    Raises:
        PostgresError: PostgreSQL is not found or does not start.
    """
    if url := configured("DATABASE_URL", root):
        os.environ["DATABASE_URL"] = url
        yield
        return
    with running_server("dev", root) as server:
        os.environ |= database_settings(server)
        yield


def database_settings(server: Server) -> dict[str, str]:
    """Create the developer's database unless it exists, and return the settings that name it."""
    ensure_database(server, DEVELOPMENT_DATABASE)
    url = server.url(DEVELOPMENT_DATABASE)
    # The MIGRATION_DATABASE_URL of .env belongs to another database.
    return {"DATABASE_URL": url, "MIGRATION_DATABASE_URL": url}


def ensure_database(server: Server, name: str) -> None:
    """Create a database unless it exists.

    It runs an event loop: from within one, call it with `asyncio.to_thread`.
    """
    import asyncio

    asyncio.run(_ensure_database(server, name))


def refuse_configured_database(root: Path = PROJECT_ROOT) -> None:
    """Protect a database that this project has not made from being emptied.

    Raises:
        PostgresError: DATABASE_URL is set.
    """
    if configured("DATABASE_URL", root) is not None:
        raise PostgresError(
            "DATABASE_URL is set, and only the embedded development database is ever dropped. "
            "Drop and create yours by hand, or remove DATABASE_URL from .env and the environment. "
            "Nothing was changed."
        )


def empty_development_database(server: Server) -> None:
    """Replace the developer's database by an empty one, which has no tables yet."""
    import asyncio

    asyncio.run(_drop_development_database(server))
    ensure_database(server, DEVELOPMENT_DATABASE)


async def _drop_development_database(server: Server) -> None:
    import asyncpg

    connection = await asyncpg.connect(server.url("postgres").replace("+asyncpg", ""), ssl=False)
    try:
        # The connections of a service that is running end; it opens others.
        await connection.execute(f'DROP DATABASE IF EXISTS "{DEVELOPMENT_DATABASE}" WITH (FORCE)')
    finally:
        await connection.close()


async def _ensure_database(server: Server, name: str) -> None:
    import asyncpg

    url = server.url("postgres").replace("+asyncpg", "")
    connection = await asyncpg.connect(url, ssl=False)
    try:
        if await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            return
        quoted = name.replace('"', '""')
        # Another client may create it between the two statements.
        with suppress(asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
            await connection.execute(f'CREATE DATABASE "{quoted}"')
    finally:
        await connection.close()


def take_lease(profile: Profile, root: Path = PROJECT_ROOT) -> tuple[int, Server]:
    """Return a running server and the descriptor of a lease, which lasts until it is closed.

    This process, and those that it starts, then forget what their environment says about other
    servers, such as PGSSLMODE=require.

    Raises:
        PostgresError: PostgreSQL is not found or does not start.
    """
    with _needing_its_folder():
        folder = make_state_folder(root, profile)
        # No supervisor stops the server while there is a lease. One that is stopping it has an
        # exclusive lock, so this waits until the server has stopped.
        lease = locks.acquire(folder / "leases", shared=True)
        try:
            server = _start_or_join(folder, profile, root)
            for name in OTHER_SERVERS:
                os.environ.pop(name, None)
            # Nor does a file in ~/.postgresql, or the lack of a home, play a part then.
            os.environ["PGSSLMODE"] = "disable"
            return lease, server
        except BaseException:
            os.close(lease)
            raise


def running_server_if_any(profile: Profile, root: Path = PROJECT_ROOT) -> Server | None:
    """Return the running server, without a lease on it."""
    with _needing_its_folder():
        return _running(state_folder(root, profile))


@contextmanager
def _needing_its_folder() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PostgresError(
            "The database cannot use its folder ({error}). "
            "Make the folder writable, free some space, or set DATABASE_URL.",
            error=error,
        ) from error


def _running(folder: Path) -> Server | None:
    published = locks.read_published(folder / "ready")
    if published is None:
        return None
    password = (folder / "cluster" / "password").read_text()
    return Server("127.0.0.1", json.loads(published)["port"], "app", password)


def preferred_port(profile: Profile, root: Path = PROJECT_ROOT) -> int:
    """Return the port that a project's server takes if it is free."""
    digest = hashlib.sha256(f"{profile} {root.resolve()}".encode()).digest()
    return FIRST_PORT + int.from_bytes(digest[:8]) % PORTS


def _start_or_join(folder: Path, profile: Profile, root: Path) -> Server:
    # One client starts the server; the others wait, and then find it running.
    with locks.locked(folder / "start"):
        if server := _running(folder):
            return server
        if sys.stderr.isatty() and not (folder / "cluster").exists():
            once = _("Creating the embedded database, which takes a moment once.")
            print(once, file=sys.stderr)
        for _attempt in range(3):
            answer = _start_supervisor(folder, profile, root)
            if server := _running(folder):
                return server
            if "error" in answer:
                raise PostgresError(answer["error"])
        raise PostgresError(
            "The database's supervisor ended unexpectedly; {log} says more. Try again.",
            log=folder / "log",
        )


def _start_supervisor(folder: Path, profile: Profile, root: Path) -> dict[str, str]:
    """Start a supervisor, and return its answer, which is empty unless it failed."""
    binaries = find_binaries()
    order = {
        "folder": str(folder),
        "profile": profile,
        "bin": str(binaries.folder),
        "version": binaries.version,
        "first_port": preferred_port(profile, root),
        "grace_seconds": GRACE_SECONDS,
    }
    environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP
    (folder / "log").touch(mode=0o600)
    with (folder / "log").open("ab") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-S", "-m", "template_tools.postgres.supervisor"],
            cwd=PROJECT_ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            creationflags=flags,
        )
    answer, _errors = supervisor.communicate(json.dumps(order).encode())
    return dict(json.loads(answer)) if answer else {}
