"""The service's server as ``uv run poe dev`` runs it: imported while the database starts.

It starts once its standard input ends, with the environment that was written there as JSON, and
takes the options of ``python -m app.server``.

Its worker, which each change of the code replaces, is forked from a process that has the packages
imported, so that a reload imports the service alone. Windows cannot fork.
"""

import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from logging.config import dictConfig
from multiprocessing.process import BaseProcess

from template_tools.messages import _
from template_tools.terminal import print_error, print_traceback

# None of the service's own modules: a reload imports these anew.
_PACKAGES = [
    "fastapi",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.loops.auto",
    "pydantic_settings",
    "email_validator",
    "sqlmodel.ext.asyncio.session",
    "sqlalchemy.ext.asyncio",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "asyncpg",
    "httpx2",
    "httpcore2",
    "jwt",
    "cachetools",
]


def main() -> None:
    """Serve, with what was imported before the settings were known."""
    context = _Context()
    from uvicorn import _subprocess

    _subprocess.spawn = context  # type: ignore[assignment]
    failure = _import("app.server")
    # Nothing is written where the start has failed, which has been reported then.
    if environment := sys.stdin.read():
        if failure is not None:
            print_traceback(failure)
            sys.exit(1)
        os.environ.clear()
        os.environ.update(json.loads(environment))
        import_module("app.server").main()


class _Context:
    """What uvicorn uses of a context of multiprocessing, for processes that run ``_work``."""

    def __init__(self) -> None:
        self._process: Callable[..., BaseProcess] = multiprocessing.get_context("spawn").Process
        if sys.platform == "win32":
            return
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PACKAGES)
        # It runs when the packages are imported, so that whatever imports them next finds them
        # compiled: to compile them takes longer than all else at the first start.
        first = context.Process(target=int)
        # TMPDIR can be too long for the path of a socket, or on a file system that has none.
        with suppress(OSError):
            first.start()
            first.join()
            self._process = context.Process

    def Process(self, target: Callable[..., None], kwargs: Mapping[str, object]) -> BaseProcess:  # noqa: N802
        # Where they are forked from was started before the environment was known.
        return self._process(target=_work, args=(dict(os.environ), target), kwargs=kwargs)


def _work(environment: dict[str, str], serve: Callable[..., None], /, **options: object) -> None:
    """Import the application before uvicorn does, which reports an error below its own frames."""
    os.environ.clear()
    os.environ.update(environment)
    from app.core.logs import logging_config
    from app.core.settings import ServerSettings, load_settings

    dictConfig(logging_config(load_settings(ServerSettings)))
    if failure := _import("app.main"):
        print_traceback(failure)
        print_error(_("dev: the service could not be imported; it starts when that is saved."))
        sys.exit(1)
    serve(**options)


def _import(module: str) -> Exception | None:
    try:
        import_module(module)
    except Exception as error:
        return error
    return None


if __name__ == "__main__":
    main()
