"""The service's server as ``uv run poe dev`` runs it: imported while the database starts.

It starts once its standard input ends, with the environment that was written there as JSON, and
takes the options of ``python -m app.server``.
"""

import json
import os
import sys
from importlib import import_module
from logging.config import dictConfig

from app.core.logs import logging_config
from app.core.settings import ServerSettings, load_settings
from template_tools.terminal import print_error, print_traceback


def main() -> None:
    """Serve, with what was imported before the settings were known."""
    failure = _import("app.server")
    # Nothing is written where the start has failed, which has been reported then.
    if environment := sys.stdin.read():
        if failure is not None:
            print_traceback(failure)
            sys.exit(1)
        os.environ.clear()
        os.environ.update(json.loads(environment))
        import_module("app.server").main()


def import_application() -> None:
    """Import the application before uvicorn does, which reports an error below its own frames."""
    dictConfig(logging_config(load_settings(ServerSettings)))
    if failure := _import("app.main"):
        print_traceback(failure)
        print_error("dev: the service could not be imported; it starts when that is saved.")
        sys.exit(1)


def _import(module: str) -> Exception | None:
    try:
        import_module(module)
    except Exception as error:
        return error
    return None


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":
    # The server's worker, which imports this module too.
    import_application()
