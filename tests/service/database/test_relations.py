"""Rows with relations, as routes return them."""

import logging
from collections.abc import AsyncIterator
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import MetaData, event
from sqlalchemy.orm import registry, selectinload
from sqlmodel import Field, Relationship, SQLModel, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.errors import add_exception_handlers
from app.core.etag import Precondition
from app.core.middleware import ErrorBoundary
from app.core.pagination import Page, PageQuery
from app.core.schema import ResponseSchema
from app.database.base import TableBase
from app.database.queries import find_row, insert_row, list_rows, update_row

shelves = registry(metadata=MetaData(naming_convention=SQLModel.metadata.naming_convention))


class ShelfBase(TableBase, registry=shelves):
    """Where a registry is named, SQLModel maps only the classes below."""


class Shelf(ShelfBase, table=True):
    """Books stand on it."""

    name: str = Field(max_length=255)
    books: list["Book"] = Relationship(back_populates="shelf")


class Book(ShelfBase, table=True):
    """It stands on a shelf."""

    title: str = Field(max_length=255)
    shelf_id: UUID = Field(foreign_key="shelf.id")
    shelf: Shelf = Relationship(back_populates="books", sa_relationship_kwargs={"lazy": "selectin"})


class Room(ShelfBase, table=True):
    """It is read with its chairs, in one statement."""

    chairs: list["Chair"] = Relationship(sa_relationship_kwargs={"lazy": "joined"})


class Chair(ShelfBase, table=True):
    """It stands in a room."""

    room_id: UUID = Field(foreign_key="room.id")


class ShelfRead(ResponseSchema):
    name: str


class BookRead(ResponseSchema):
    title: str
    shelf: ShelfRead


class BookInShelf(ResponseSchema):
    title: str


class FullShelf(ResponseSchema):
    name: str
    books: list[BookInShelf]


@pytest.fixture
async def shelf(session: AsyncSession) -> Shelf:
    await (await session.connection()).run_sync(shelves.metadata.create_all)
    row = await insert_row(session, Shelf, {"name": "first-secret"})
    await insert_row(session, Book, {"title": "Emma", "shelf_id": row.id})
    await session.commit()
    session.expunge_all()
    return row


async def test_a_row_is_found_with_a_collection_that_is_joined(
    session: AsyncSession, shelf: Shelf
) -> None:
    room = await insert_row(session, Room, {})
    session.add_all([Chair(room_id=room.id) for _ in range(2)])
    await session.commit()
    session.expunge_all()
    assert len((await find_row(session, Room, room.id)).chairs) == 2


@pytest.fixture
async def caller(session: AsyncSession, shelf: Shelf) -> AsyncIterator[httpx2.AsyncClient]:
    app = FastAPI()
    add_exception_handlers(app)
    app.add_middleware(ErrorBoundary)

    @app.get("/validated")
    async def validated() -> FullShelf:
        return FullShelf.model_validate(await find_row(session, Shelf, shelf.id))

    @app.get("/returned", response_model=FullShelf)
    async def returned() -> object:
        return await find_row(session, Shelf, shelf.id)

    @app.get("/listed")
    async def listed() -> Page[FullShelf]:
        return Page[FullShelf].of(await list_rows(session, Shelf, PageQuery()))

    @app.get("/nested", response_model=list[FullShelf])
    async def nested() -> object:
        return [await find_row(session, Shelf, shelf.id)]

    @app.get("/read")
    async def read() -> int:
        return len((await find_row(session, Shelf, shelf.id)).books)

    @app.get("/wrong", response_model=list[BookRead])
    async def wrong() -> object:
        return [{"title": "first-secret"}]

    @app.get("/loaded", response_model=list[FullShelf])
    async def loaded() -> object:
        return await session.exec(select(Shelf).options(selectinload(Shelf.books)))  # type: ignore[arg-type]

    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.mark.parametrize("path", ["/validated", "/returned", "/listed", "/nested", "/read"])
async def test_a_relation_that_was_not_loaded_is_explained_to_the_developer(
    caller: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    response = await caller.get(path)

    assert response.status_code == 500
    assert "books" not in response.text
    [record] = [it for it in caplog.records if it.levelno == logging.ERROR]
    place = "an attribute of a row" if path == "/read" else "books"
    message = record.getMessage()
    assert f"{place} was read, but not loaded with its row" in message
    assert 'sa_relationship_kwargs={"lazy": "selectin"}' in message
    assert "add-a-resource.md#return-a-relation" in message
    assert "first-secret" not in caplog.text


async def test_a_response_that_does_not_fit_is_logged_without_its_values(
    caller: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await caller.get("/wrong")).status_code == 500
    assert "'loc': ('response', 0, 'shelf')" in caplog.text
    assert "first-secret" not in caplog.text
    assert "loaded with its row" not in caplog.text


async def test_a_relation_that_a_query_loads_is_returned(caller: httpx2.AsyncClient) -> None:
    expected = [{"name": "first-secret", "books": [{"title": "Emma"}]}]
    assert (await caller.get("/loaded")).json() == expected


async def test_a_relation_that_is_declared_so_comes_with_every_row(
    session: AsyncSession, shelf: Shelf
) -> None:
    other = await insert_row(session, Shelf, {"name": "other"})

    book = await insert_row(session, Book, {"title": "Persuasion", "shelf_id": shelf.id})
    assert BookRead.model_validate(book).shelf.name == "first-secret"
    changes = {"shelf_id": other.id}
    book = await update_row(session, Book, book.id, changes, Precondition(None))
    assert BookRead.model_validate(book).shelf.name == "other"
    session.expunge_all()
    found = await find_row(session, Book, book.id)
    assert BookRead.model_validate(found).shelf.name == "other"
    session.expunge_all()
    page = Page[BookRead].of(await list_rows(session, Book, PageQuery()))
    assert [it.shelf.name for it in page.items] == ["first-secret", "other"]


async def test_a_page_loads_a_relation_with_one_query(session: AsyncSession, shelf: Shelf) -> None:
    for number in range(20):
        await insert_row(session, Book, {"title": f"{number}", "shelf_id": shelf.id})
    session.expunge_all()
    statements: list[str] = []
    engine = (await session.connection()).sync_connection
    assert engine is not None
    event.listen(engine, "before_cursor_execute", lambda *it: statements.append(it[2]))

    rows = await list_rows(session, Book, PageQuery())

    assert len(rows.items) == 21
    assert len(statements) == 2
