"""What this service adds to the application that ``app/main.py`` builds.

The two functions are called by name; leave them in place, even empty.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI


def configure(app: FastAPI) -> None:
    """Add middleware, exception handlers or mounts of your own, before the first request."""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open what the service needs beside its database, and close it when the service stops.

    Keep what you open on ``app.state``; the database is open already.
    """
    yield
