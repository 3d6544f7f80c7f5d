"""A service with a table of items, made of a rendered project's own code.

It is run by the project's Python, in the project's folder: ``python database.py PORT``.
"""

import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI
from sqlalchemy import text

from app.core.errors import add_exception_handlers
from app.core.settings import DatabaseSettings, load_settings
from app.database.session import DbSession, ReadSession, open_database

logging.basicConfig(level=logging.INFO)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with open_database(load_settings(DatabaseSettings)) as app.state.database:
        yield


app = FastAPI(lifespan=lifespan)
add_exception_handlers(app)

COUNT = text("SELECT count(*), pg_is_in_recovery(), pg_backend_pid() FROM item WHERE id >= :id")
INSERT = text("INSERT INTO item (name) VALUES (:name) RETURNING id, pg_backend_pid()")


@app.get("/ready")
async def ready() -> None: ...


@app.get("/items")
async def count(session: ReadSession, first: int = 0) -> tuple[int, bool, int]:
    return tuple((await (await session.connection()).execute(COUNT, {"id": first})).one())


@app.get("/own")
async def count_own(session: DbSession, first: int = 0) -> tuple[int, bool, int]:
    return tuple((await (await session.connection()).execute(COUNT, {"id": first})).one())


@app.post("/items")
async def create(session: DbSession, name: str) -> tuple[int, int]:
    return tuple((await (await session.connection()).execute(INSERT, {"name": name})).one())


@app.post("/mistake")
async def create_by_mistake(session: ReadSession) -> None:
    await (await session.connection()).execute(INSERT, {"name": "mistake"})


@app.get("/slow")
async def slow(session: DbSession) -> None:
    await (await session.connection()).execute(text("SELECT pg_sleep(5)"))


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
