"""Run a command with DATABASE_URL set, print the URL, or begin with an empty database."""

import argparse
import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from template_tools.configuration import PROJECT_ROOT, configured
from template_tools.postgres import (
    DEVELOPMENT_DATABASE,
    PostgresError,
    Profile,
    Server,
    database_settings,
    running_server,
    running_server_if_any,
    take_lease,
)


def main() -> int:
    """Run a command and return its exit code; errors are one sentence on standard error."""
    options = _parse(sys.argv[1:])
    try:
        if options.command == "run":
            return _run(options.profile, options.root, options.program)
        if options.command == "db" and options.fresh:
            return _fresh(options.root)
        print(_url(options.profile, options.root))
        return 0
    except PostgresError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m template_tools.postgres", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run",
        help="run a command with DATABASE_URL set",
        usage="%(prog)s [--profile {dev,test}] [--root ROOT] -- COMMAND [ARG ...]",
    )
    run.add_argument("program", nargs="+", metavar="COMMAND", help="and its arguments, after --")
    url = commands.add_parser("url", help="print the database's URL, for psql and editors")
    database = commands.add_parser("db", help="print the URL of the development database")
    database.add_argument(
        "--fresh",
        action="store_true",
        help="drop the embedded development database with all that is in it, and migrate a new one",
    )
    database.set_defaults(profile="dev")
    for command in (run, url):
        command.add_argument("--profile", choices=("dev", "test"), default="dev")
    for command in (run, url, database):
        command.add_argument("--root", type=Path, default=PROJECT_ROOT, help="the project's folder")
    return parser.parse_args(arguments)


def _url(profile: Profile, root: Path) -> str:
    url = configured("DATABASE_URL", root)
    if url is None:
        server = running_server_if_any(profile, root)
        if server is None:
            raise PostgresError(
                "No database server is running. Start the service, or run "
                "`python -m template_tools.postgres run -- COMMAND`."
            )
        # The environment of whoever asks, such as PGSSLMODE=require, is about another server.
        url = f"{server.url(DEVELOPMENT_DATABASE)}?sslmode=disable"
    # Other programs do not know SQLAlchemy's name of the driver.
    return url.replace("postgresql+asyncpg://", "postgresql://", 1)


def _fresh(root: Path) -> int:
    """Replace the embedded development database, and no other, by an empty one, and migrate it."""
    if configured("DATABASE_URL", root) is not None:
        raise PostgresError(
            "DATABASE_URL is set, and only the embedded development database is ever dropped. "
            "Drop and create yours by hand, or remove DATABASE_URL from .env and the environment. "
            "Nothing was changed."
        )
    with running_server("dev", root) as server:
        asyncio.run(_drop(server))
    return _run("dev", root, [sys.executable, "-m", "alembic", "upgrade", "head"])


async def _drop(server: Server) -> None:
    import asyncpg

    url = server.url("postgres").replace("+asyncpg", "")
    connection = await asyncpg.connect(url, ssl=False)
    try:
        # The connections of a service that is running end; it opens others.
        await connection.execute(f'DROP DATABASE IF EXISTS "{DEVELOPMENT_DATABASE}" WITH (FORCE)')
    finally:
        await connection.close()


def _run(profile: Profile, root: Path, program: list[str]) -> int:
    """Replace this process by the program, which inherits the lease and receives the signals."""
    if configured("DATABASE_URL", root) is None:
        lease, server = take_lease(profile, root)
        os.environ |= database_settings(server)
        os.set_inheritable(lease, True)
    try:
        if sys.platform == "win32":
            return subprocess.run(program, check=False).returncode
        os.execvp(program[0], program)  # noqa: S606
    except OSError as error:
        raise PostgresError(f"Cannot run `{program[0]}`: {error.strerror}.") from error


if __name__ == "__main__":
    sys.exit(main())
