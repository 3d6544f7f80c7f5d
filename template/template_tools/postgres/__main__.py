"""Run a command with DATABASE_URL set, or print the URL."""

import argparse
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
    database_settings,
    running_server_if_any,
    take_lease,
)


def main() -> int:
    """Run a command and return its exit code; errors are one sentence on standard error."""
    options = _parse(sys.argv[1:])
    try:
        if options.command == "url":
            print(_url(options.profile, options.root))
            return 0
        return _run(options.profile, options.root, options.program)
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
    for command in (run, url):
        command.add_argument("--profile", choices=("dev", "test"), default="dev")
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
