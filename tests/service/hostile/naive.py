"""A resource as it is written in a hurry: whatever comes is handed to the database."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, FastAPI, Query
from pydantic import BaseModel
from sqlmodel import Field, select

from app.core.errors import NotFound, add_exception_handlers
from app.core.middleware import ErrorBoundary
from app.database.session import Database, DbSession
from tests.service.database.notes import NoteBase


class Reading(NoteBase, table=True):
    """A row whose columns are narrower than what the schema lets through."""

    title: str = Field(unique=True)
    number: int | None = None
    ratio: float | None = None
    taken_at: datetime | None = None


class ReadingCreate(BaseModel):
    """A body without any bounds."""

    title: str
    number: int | None = None
    ratio: float | None = None
    taken_at: datetime | None = None


class ReadingRead(ReadingCreate):
    """What is stored."""

    id: UUID


router = APIRouter()


@router.post("/reading/", status_code=201)
async def create_reading(data: ReadingCreate, session: DbSession) -> ReadingRead:
    """Store what has come."""
    reading = Reading(**data.model_dump())
    session.add(reading)
    await session.flush()
    return ReadingRead.model_validate(reading, from_attributes=True)


@router.get("/reading/")
async def list_readings(
    session: DbSession,
    limit: int = 50,
    offset: int = 0,
    title: Annotated[str | None, Query()] = None,
    number: int | None = None,
) -> list[ReadingRead]:
    """List whatever is asked for."""
    statement = select(Reading).limit(limit).offset(offset)
    if title is not None:
        statement = statement.where(Reading.title == title)
    if number is not None:
        statement = statement.where(Reading.number == number)
    rows = (await session.exec(statement)).all()
    return [ReadingRead.model_validate(row, from_attributes=True) for row in rows]


@router.get("/reading/{reading_id}")
async def read_reading(reading_id: UUID, session: DbSession) -> ReadingRead:
    """Return one."""
    reading = await session.get(Reading, reading_id)
    if reading is None:
        raise NotFound
    return ReadingRead.model_validate(reading, from_attributes=True)


def create_naive_app(database: Database) -> FastAPI:
    """Return an application with that resource, and the template's answers to errors."""
    app = FastAPI(redirect_slashes=False)
    app.state.database = database
    app.include_router(router)
    add_exception_handlers(app)
    app.add_middleware(ErrorBoundary)
    return app
