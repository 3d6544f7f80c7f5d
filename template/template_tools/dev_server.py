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
from app.server import main
from template_tools.terminal import print_error, print_traceback


def import_application() -> None:
    """Import the application before uvicorn does, which reports an error below its own frames."""
    dictConfig(logging_config(load_settings(ServerSettings)))
    try:
        import_module("app.main")
    except Exception as error:
        print_traceback(error)
        print_error("dev: the service could not be imported; it starts when that is saved.")
        sys.exit(1)


# The server's worker imports this module too.
if __name__ == "__mp_main__":
    import_application()
elif __name__ == "__main__":
    # Nothing is written where the start has failed.
    if environment := sys.stdin.read():
        os.environ.clear()
        os.environ.update(json.loads(environment))
        main()
