"""The service's server as ``uv run poe dev`` runs it: imported while the database starts.

It starts once its standard input ends, with the environment that was written there as JSON, and
takes the options of ``python -m app.server``.
"""

import json
import os
import sys

from app.server import main

# The server's worker imports this module too.
if __name__ == "__main__":
    # Nothing is written where the start has failed.
    if environment := sys.stdin.read():
        os.environ.clear()
        os.environ.update(json.loads(environment))
        main()
