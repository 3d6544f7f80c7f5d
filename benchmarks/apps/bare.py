"""FastAPI and SQLModel with the same driver, and nothing else: what starting costs in any case."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from uuid import UUID

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import Field, SQLModel, select
from sqlmodel.ext.asyncio.session import AsyncSession


class UserAccount(SQLModel, table=True):
    """A user."""

    __tablename__ = "user_account"

    id: UUID = Field(primary_key=True)
    username: str
    email: str
    full_name: str | None
    issuer: str | None
    subject: str | None
    created_at: datetime
    updated_at: datetime


MINE = select(UserAccount).where(
    UserAccount.issuer == os.environ["SSO_ISSUER"], UserAccount.subject == "subject-1"
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Hold the connections open."""
    app.state.engine = create_async_engine(os.environ["DATABASE_URL"])
    yield
    await app.state.engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.get("/livez")
async def livez() -> dict[str, str]:
    """Answer."""
    return {"status": "ok"}


@app.get("/me")
async def me() -> UserAccount:
    """Return one row."""
    async with AsyncSession(app.state.engine) as session:
        return (await session.exec(MINE)).one()
