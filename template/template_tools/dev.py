"""Run the service, and what it needs.

Without DATABASE_URL that is the embedded PostgreSQL, without SSO_ISSUER the development identity
provider. Both stop with the service.
"""

import importlib
import json
import math
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from threading import Thread
from types import FrameType
from typing import TYPE_CHECKING, NoReturn
from urllib.request import getproxies

from app.core.project import NAME, SSO_MODE
from template_tools.arguments import ArgumentParser
from template_tools.configuration import PROJECT_ROOT, configured
from template_tools.messages import _
from template_tools.postgres import (
    PostgresError,
    database_settings,
    development_database,
    empty_development_database,
    refuse_configured_database,
    running_server,
    running_server_if_any,
)
from template_tools.processes import (
    HOST,
    DevError,
    accepts_connections,
    child,
    environment_of_children,
    free_port,
    is_free,
    wait_until,
)
from template_tools.terminal import DIM, print_error, print_traceback, styled

if TYPE_CHECKING:
    from app.settings import Settings

# Most of the time to the first response is imports. What this process needs of them it imports
# while PostgreSQL starts; the module of a team is not among them, because a second import of one
# that fails may report another error.
_IMPORTED_MEANWHILE = (
    "alembic.config",
    "sqlmodel",
    "app.core.settings",
    "template_tools.provider.__main__",
)
_END_SIGNALS = [signal.SIGINT, signal.SIGTERM]
if sys.platform != "win32":
    _END_SIGNALS.append(signal.SIGHUP)
_DATABASE_STOP_SECONDS = 3
# A database that ends so often within a minute is not started again.
_DATABASE_ENDS = 3


def main() -> int:
    """Run everything until Ctrl-C or SIGTERM; errors are one sentence on standard error."""
    parser = ArgumentParser(prog="uv run poe dev", description=_(__doc__))
    port = _("of the service (default: 8000)")
    parser.add_argument("--port", type=_port, default=8000, help=port)
    fresh = _("drop the embedded development database with all that is in it, and begin anew")
    parser.add_argument("--fresh", action="store_true", help=fresh)
    options = parser.parse_args()
    for number in _END_SIGNALS:
        signal.signal(number, _interrupt)
    try:
        _run(options.port, fresh=options.fresh)
    except KeyboardInterrupt:
        print(f"\n{_('Stopped the service and everything that was started for it.')}")
    except (DevError, PostgresError) as error:
        print_error(error)
        return 1
    return 0


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise ArgumentTypeError(_("a port is a number from 1 to 65535"))
    return int(text)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """Stop once: a second signal, such as a second Ctrl-C, would interrupt the clean-up."""
    for number in _END_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _run(port: int, *, fresh: bool) -> NoReturn:
    if not is_free(port):
        raise DevError(
            "Port {port} of {host} is in use. Stop the program that uses it, "
            "or choose another port: uv run poe dev --port 8010",
            port=port,
            host=HOST,
        )
    os.environ["ENVIRONMENT"] = configured("ENVIRONMENT") or "development"
    if os.environ["ENVIRONMENT"] == "production" and configured("SSO_ISSUER") is None:
        raise DevError(
            "ENVIRONMENT is production, where the development identity provider does not run. "
            "Set SSO_ISSUER, or ENVIRONMENT=development."
        )
    if fresh:
        refuse_configured_database()

    os.environ["PUBLIC_URL"] = configured("PUBLIC_URL") or f"http://{HOST}:{port}"
    options = ["--host", HOST, "--port", str(port), "--reload", "--reload-dir", "app"]
    if configured("LOG_LEVEL") is None:
        # Which processes uvicorn starts is said in ten lines, and the service says that it starts.
        options += ["--log-level", "warning"]
    has_provider = configured("SSO_ISSUER") is None
    has_database = configured("DATABASE_URL") is None
    # The server imports what it needs, and waits to be told the settings. It is the first to stop.
    with ExitStack() as stack, ExitStack() as service:
        server = service.enter_context(_server(options))
        Thread(target=_import_meanwhile, daemon=True).start()
        settings = _prepare(stack, port, fresh=fresh)
        _say(_("starting the service"))
        _tell_settings(server)
        # One that cannot be imported has said so, and starts when its file is saved.
        wait_until(lambda: accepts_connections(port), server, _("The service"), math.inf)
        _print_directory(settings, port, has_tokens=has_provider)
        ends: list[float] = []
        while server.poll() is None:
            time.sleep(0.5)
            if has_database and _has_ended() and _start_database_again(stack, ends):
                _say(_("its data was gone, or its port was taken: starting the service again"))
                migrate(_("the service was not started again"))
                service.close()
                server = service.enter_context(_server(options))
                _tell_settings(server)
        raise DevError(
            "The service exited unexpectedly (exit code {code}): see above.",
            code=server.returncode,
        )


def _server(options: list[str]) -> AbstractContextManager[subprocess.Popen[bytes]]:
    return child("-m", "template_tools.dev_server", *options, stdin=subprocess.PIPE)


def _has_ended() -> bool:
    try:
        return running_server_if_any("dev") is None
    except PostgresError:
        # Its data is gone, and its supervisor will notice.
        return False


def _start_database_again(stack: ExitStack, ends: list[float]) -> bool:
    """Start the database that has ended unexpectedly; return whether its URL is another now.

    Raises:
        DevError: It has ended a few times in a row.
    """
    import asyncpg

    now = time.monotonic()
    ends[:] = [end for end in ends if now - end < 60] + [now]
    try:
        if len(ends) > _DATABASE_ENDS:
            raise DevError(
                "PostgreSQL has ended again and again, so the service was stopped. Start "
                "`uv run poe dev` again; its first lines say what is wrong with the database."
            )
        _say(_("PostgreSQL has ended unexpectedly: starting it again"))
        server = stack.enter_context(running_server("dev"))
        settings = database_settings(server)
    except (PostgresError, OSError, asyncpg.PostgresError) as error:
        if len(ends) == _DATABASE_ENDS:
            raise DevError("PostgreSQL could not be started again: {error}", error=error) from error
        return False
    _say(_("PostgreSQL is running again"))
    is_another = settings["DATABASE_URL"] != os.environ["DATABASE_URL"]
    os.environ |= settings
    return is_another


def _tell_settings(server: subprocess.Popen[bytes]) -> None:
    assert server.stdin is not None  # noqa: S101 - it is a pipe
    # Where the server has ended already, wait_until says so.
    with suppress(BrokenPipeError), server.stdin as pipe:
        pipe.write(json.dumps(environment_of_children()).encode())


def _import_meanwhile() -> None:
    # An error is raised again where the module is used.
    with suppress(Exception):
        for name in _IMPORTED_MEANWHILE:
            importlib.import_module(name)


def _prepare(stack: ExitStack, port: int, *, fresh: bool) -> "Settings":
    """Start the database and the provider, migrate, and return the service's settings."""
    embedded = configured("DATABASE_URL") is None
    _say(
        _("starting the embedded PostgreSQL")
        if embedded
        else _("using the database of DATABASE_URL")
    )
    if embedded:
        stack.callback(_wait_for_database_end)
    stack.enter_context(development_database(PROJECT_ROOT))

    if configured("SSO_ISSUER") is None:
        _say(_("starting the development identity provider"))
        stack.enter_context(_development_provider(port))

    settings = _load_settings()

    # Not before it is known that no other `poe dev` of this project uses the database.
    if fresh:
        _say(_("emptying the development database"))
        with running_server("dev") as server:
            empty_development_database(server)
    _say(_("applying the migrations"))
    migrate(_("the service was not started"))
    return settings


def _load_settings() -> "Settings":
    """Read the settings here: uvicorn's reloader would report a wrong one and wait for a change."""
    from app.core.settings import load_settings

    try:
        from app.settings import Settings
    except Exception as error:
        print_traceback(error)
        raise DevError(
            "app/settings.py could not be imported, so the service was not started: see above."
        ) from None
    return load_settings(Settings)


def migrate(otherwise: str) -> None:
    """Run ``alembic upgrade head`` in this process, which has imported most of it already.

    Raises:
        DevError: It failed; the message says what then does not happen: ``otherwise``.
    """
    from alembic.config import main as alembic

    try:
        alembic(["upgrade", "head"])
    except SystemExit as error:
        print(error.code, file=sys.stderr)
    except Exception as error:
        # A migration is a program of the team's.
        print_traceback(error)
    else:
        return
    raise DevError("The migrations failed, so {otherwise}: see above.", otherwise=otherwise)


def _wait_for_database_end() -> None:
    """Wait for the database to stop, which it does a second after its last client has left.

    The wait is short, because the database keeps running while another terminal uses it.
    """
    deadline = time.monotonic() + _DATABASE_STOP_SECONDS
    while running_server_if_any("dev") is not None and time.monotonic() < deadline:
        time.sleep(0.05)


def settings_of_provider(issuer: str) -> dict[str, str]:
    """Return the settings that lead to a development provider.

    Among them are those that `.env` has for another one. None is empty, because the service reads
    `.env` then.
    """
    usual = {
        "CLIENT_AUTH_METHOD": "client_secret_basic",
        "SSO_INTROSPECTION_RESPONSE": "json",
        "SSO_INTROSPECTION_URL": f"{issuer}/introspect",
        "SSO_JWKS_URL": f"{issuer}/jwks",
        "SSO_JWT_TYPE": "any",
        "SSO_SUBJECT_CLAIM": "sub",
    }
    return {"SSO_ISSUER": issuer} | {it: value for it, value in usual.items() if configured(it)}


@contextmanager
def _development_provider(service_port: int) -> Iterator[None]:
    """Run the development provider, and set the settings that make the service trust it."""
    from template_tools.provider.__main__ import running_provider_url
    from template_tools.provider.config import ProviderConfig, ProviderError
    from template_tools.provider.serve import published_provider
    from template_tools.token_command import STATE_FILE

    if running := running_provider_url():
        raise DevError(
            "This project's development provider is already running at {url}: stop the other "
            "`uv run poe dev` first, because this service would not accept its tokens.",
            url=running,
        )
    port = service_port + 1
    if port > 65535 or not is_free(port):
        port = free_port()
    os.environ |= settings_of_provider(f"http://{HOST}:{port}")
    os.environ |= {
        "SSO_AUDIENCE": configured("SSO_AUDIENCE") or NAME,
        "CLIENT_ID": configured("CLIENT_ID") or NAME,
        "CLIENT_SECRET": secrets.token_urlsafe(24),
        "DOCS_CLIENT_ID": "docs",
    }
    introspects = (configured("SSO_MODE") or SSO_MODE) == "introspect"
    config = ProviderConfig.from_environment(
        os.environ
        | {
            "DEV_PROVIDER_AUDIENCE": os.environ["SSO_AUDIENCE"],
            "DEV_PROVIDER_CLIENT_ID": os.environ["CLIENT_ID"],
            "DEV_PROVIDER_CLIENT_SECRET": os.environ["CLIENT_SECRET"],
            "DEV_PROVIDER_SERVICE_URL": f"http://{HOST}:{service_port}",
            "DEV_PROVIDER_TOKEN_FORMAT": "opaque" if introspects else "jwt",
        }
    )
    try:
        with published_provider(config, port, STATE_FILE):
            yield
    except ProviderError as error:
        raise DevError(str(error)) from error


def _say(what: str) -> None:
    print(f"{styled('dev:', DIM, sys.stdout)} {what}", flush=True)


def _print_directory(settings: "Settings", port: int, *, has_tokens: bool) -> None:
    database = settings.database_url.render_as_string(hide_password=True)
    address = f"http://{HOST}:{port}"
    # `python -m uv` does not need uv on the PATH, and sets UV to its location.
    uv = "uv" if shutil.which("uv") else os.environ.get("UV", "uv")
    # curl would ask the proxy for this machine.
    direct = "--noproxy '*' " if getproxies().keys() & {"http", "all"} else ""
    places = {
        _("Service"): address,
        _("API documentation"): f"{address}/docs",
        _("Database"): database,
        _("Identity provider"): str(settings.sso_issuer),
    }
    if has_tokens:
        places[_("Development page")] = f"{settings.sso_issuer}/"
    width = max(map(len, places)) + 2
    lines = [f"{name:<{width}}{place}" for name, place in places.items()]
    if has_tokens:
        lines += [
            "",
            _("Who am I? In another terminal:"),
            f"cd {shlex.quote(str(PROJECT_ROOT))}",
            f'curl {direct}-H "Authorization: Bearer $({uv} run poe token)" '
            f"{address}/api/v1/user/me",
        ]
    print("\n" + "".join(f"  {line}".rstrip() + "\n" for line in lines), flush=True)


if __name__ == "__main__":
    sys.exit(main())
