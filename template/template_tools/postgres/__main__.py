"""Run a command with DATABASE_URL set, open psql, print the URL, or empty the database."""

import os
import shutil
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from template_tools.arguments import ArgumentParser
from template_tools.configuration import PROJECT_ROOT, configured
from template_tools.messages import _
from template_tools.postgres import (
    DEVELOPMENT_DATABASE,
    PostgresError,
    Profile,
    database_settings,
    empty_development_database,
    refuse_configured_database,
    running_server,
    running_server_if_any,
    take_lease,
)
from template_tools.postgres.binaries import find_binaries
from template_tools.terminal import DIM, print_error, styled


def main() -> int:
    """Run a command and return its exit code; errors are one sentence on standard error."""
    options = _parse(sys.argv[1:])
    try:
        if options.command == "run":
            return _run(options.profile, options.root, options.program)
        if options.command == "db" and options.fresh:
            return _fresh(options.root)
        is_typed = sys.stdin.isatty() and sys.stdout.isatty()
        if options.command == "db" and is_typed and not options.url:
            return _psql(options.root)
        print(_url(options.profile, options.root))
        return 0
    except PostgresError as error:
        print_error(f"error: {error}")
        return 1


def _parse(arguments: Sequence[str]) -> Namespace:
    parser = ArgumentParser(prog="python -m template_tools.postgres", description=_(__doc__))
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run",
        help=_("run a command with DATABASE_URL set"),
        usage="%(prog)s [--profile {dev,test}] [--root ROOT] -- COMMAND [ARG ...]",
    )
    program = _("and its arguments, after --")
    run.add_argument("program", nargs="+", metavar="COMMAND", help=program)
    url = commands.add_parser("url", help=_("print the database's URL, for psql and editors"))
    opens = _("open psql on the development database; where no terminal is, print its URL")
    database = commands.add_parser("db", help=opens)
    database.add_argument("--url", action="store_true", help=_("print the URL in a terminal too"))
    fresh = _(
        "drop the embedded development database with all that is in it, and migrate a new one"
    )
    database.add_argument("--fresh", action="store_true", help=fresh)
    database.set_defaults(profile="dev")
    for command in (run, url):
        command.add_argument("--profile", choices=("dev", "test"), default="dev")
    for command in (run, url, database):
        folder = _("the project's folder")
        command.add_argument("--root", type=Path, default=PROJECT_ROOT, help=folder)
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


def _psql(root: Path) -> int:
    """Open psql on the development database, whose embedded server runs on for that long."""
    from sqlalchemy import URL, make_url

    psql = _find_psql()
    if psql is None:
        print(_("psql was not found. Give this URL to another client:"), file=sys.stderr)
        print(_url("dev", root))
        return 0
    _set_database("dev", root)
    url = make_url(configured("DATABASE_URL", root) or "")
    # Everybody on the machine can read a command line, and only its user an environment.
    if url.password:
        os.environ["PGPASSWORD"] = url.password
    # SQLAlchemy's names of the driver and of its option mean nothing to psql.
    query = {("sslmode" if name == "ssl" else name): value for name, value in url.query.items()}
    shown = URL.create("postgresql", url.username, None, url.host, url.port, url.database, query)
    address = shown.render_as_string()
    hint = _("(--url prints it with its password)")
    print(styled(f"{address}  {hint}", DIM, sys.stdout), flush=True)
    return _become([psql, address])


def _find_psql() -> str | None:
    """Return the user's own psql, which has line editing, or else that of the embedded server."""
    if found := shutil.which("psql"):
        return found
    with suppress(PostgresError):
        psql = find_binaries().program("psql")
        return psql if Path(psql).is_file() else None
    return None


def _fresh(root: Path) -> int:
    """Replace the embedded development database, and no other, by an empty one, and migrate it."""
    refuse_configured_database(root)
    with running_server("dev", root) as server:
        empty_development_database(server)
    return _run("dev", root, [sys.executable, "-m", "alembic", "upgrade", "head"])


def _run(profile: Profile, root: Path, program: list[str]) -> int:
    _set_database(profile, root)
    return _become(program)


def _set_database(profile: Profile, root: Path) -> None:
    """Set DATABASE_URL unless it is configured, and take a lease that a program inherits."""
    if configured("DATABASE_URL", root) is None:
        lease, server = take_lease(profile, root)
        os.environ |= database_settings(server)
        os.set_inheritable(lease, True)


def _become(program: list[str]) -> int:
    """Replace this process by the program, which inherits the lease and receives the signals."""
    try:
        if sys.platform == "win32":
            return subprocess.run(program, check=False).returncode
        os.execvp(program[0], program)  # noqa: S606
    except OSError as error:
        raise PostgresError(
            "Cannot run `{program}`: {reason}.", program=program[0], reason=error.strerror
        ) from error


if __name__ == "__main__":
    sys.exit(main())
