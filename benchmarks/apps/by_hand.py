"""The limit: the same answers, written by hand with FastAPI and asyncpg, and nothing else.

No token is checked, no header is set, nothing is logged, and a failure is whatever it becomes.
The statements and the bodies are those of the service. With ``RESET=no`` the pool does not reset
its connections, which saves a round trip for each request that no SQLAlchemy pool makes either.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from uuid import UUID

import asyncpg
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel


class User(BaseModel):
    """A user."""

    id: UUID
    username: str
    email: str
    full_name: str | None
    created_at: datetime
    updated_at: datetime


class Me(BaseModel):
    """What a token would say about the caller, and their user."""

    subject: str
    username: str
    client_id: str
    scopes: list[str]
    user: User | None


class UserCreate(BaseModel):
    """What a new user is made of."""

    username: str
    email: str
    full_name: str | None = None


class UserUpdate(BaseModel):
    """What is changed of a user."""

    full_name: str


class Page(BaseModel):
    """A page of users."""

    items: list[User]
    next_cursor: str | None


_ISSUER = os.environ["SSO_ISSUER"]
_COLUMNS = "id, username, email, full_name, created_at, updated_at"


async def _leave_as_it_is(_connection: asyncpg.Connection) -> None:
    pass


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Hold the connections open."""
    url = os.environ["DATABASE_URL"].replace("+asyncpg", "")
    reset = _leave_as_it_is if os.environ.get("RESET") == "no" else None
    async with asyncpg.create_pool(url, min_size=10, max_size=10, reset=reset) as app.state.pool:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/livez")
async def livez() -> dict[str, str]:
    """Answer."""
    return {"status": "ok"}


@app.get("/me")
async def read_me(request: Request) -> Me:
    """Return one row."""
    query = f"SELECT {_COLUMNS} FROM user_account WHERE issuer = $1 AND subject = $2"
    row = await request.app.state.pool.fetchrow(query, _ISSUER, "subject-1")
    return Me(
        subject="subject-1",
        username="user-1",
        client_id="web",
        scopes=["user:read", "user:write"],
        user=User(**row),
    )


@app.get("/user")
async def list_users(request: Request, limit: int = 20) -> Page:
    """Return a page of rows."""
    query = f"SELECT {_COLUMNS} FROM user_account ORDER BY id LIMIT $1"
    rows = await request.app.state.pool.fetch(query, limit + 1)
    items = [User(**row) for row in rows[:limit]]
    return Page(items=items, next_cursor=str(items[-1].id) if len(rows) > limit else None)


@app.post("/user", status_code=201)
async def create_user(request: Request, data: UserCreate, response: Response) -> User:
    """Insert a row, in a transaction."""
    query = (
        "INSERT INTO user_account (id, username, email, full_name)"
        f" VALUES (uuidv7(), $1, $2, $3) RETURNING {_COLUMNS}"
    )
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(query, data.username, data.email, data.full_name)
    response.headers["Location"] = str(row["id"])
    return User(**row)


@app.patch("/user/{user_id}")
async def update_user(request: Request, user_id: UUID, data: UserUpdate) -> User:
    """Lock a row and change it, in a transaction."""
    lock = "SELECT version FROM user_account WHERE id = $1 FOR NO KEY UPDATE"
    change = (
        "UPDATE user_account SET full_name = $2, version = version + 1, updated_at = now()"
        f" WHERE id = $1 RETURNING {_COLUMNS}"
    )
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        await connection.fetchval(lock, user_id)
        row = await connection.fetchrow(change, user_id, data.full_name)
    return User(**row)
