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
from importlib import import_module
from multiprocessing.process import BaseProcess

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


class _Context:
    """What uvicorn uses of a context of multiprocessing, whose processes get our environment."""

    def __init__(self) -> None:
        self._forked = multiprocessing.get_context("forkserver")
        self._forked.set_forkserver_preload(_PACKAGES)
        import_module("multiprocessing.forkserver").ensure_running()

    def Process(self, target: Callable[..., None], kwargs: Mapping[str, object]) -> BaseProcess:  # noqa: N802
        return self._forked.Process(target=_run, args=(dict(os.environ), target), kwargs=kwargs)


def _run(environment: dict[str, str], run: Callable[..., None], /, **kwargs: object) -> None:
    os.environ.clear()
    os.environ.update(environment)
    run(**kwargs)


# The server's worker imports this module too.
if __name__ == "__main__":
    if sys.platform != "win32":
        import_module("uvicorn._subprocess").spawn = _Context()
    from app.server import main

    # Nothing is written where the start has failed.
    if given := sys.stdin.read():
        os.environ.clear()
        os.environ.update(json.loads(given))
        main()
