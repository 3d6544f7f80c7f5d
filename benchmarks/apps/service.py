"""The rendered service, served as in production, with routes of the benchmarks' own.

Beside ``RESOURCES`` further resources, and with the ways to read a row that are compared. The
routes are added when this module is imported, which each worker does.
"""

import os
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from sqlalchemy import bindparam
from sqlmodel import col, select

from app import server
from app.api.v1 import router as v1
from app.api.v1.user import service
from app.api.v1.user.router import UserReader, UserWriter
from app.api.v1.user.schema import UserCreate, UserQuery, UserRead, UserUpdate
from app.core.etag import IfMatch, OptionalIfMatch
from app.core.pagination import Page
from app.database.model.user import User
from app.database.session import DbSession, ReadSession


def resource() -> APIRouter:
    """Return the router of a resource, with the routes that ``poe resource`` generates."""
    router = APIRouter()

    @router.get("/")
    async def list_things(
        _reader: UserReader, query: Annotated[UserQuery, Query()], session: ReadSession
    ) -> Page[UserRead]:
        return Page[UserRead].of(await service.list_users(session, query))

    @router.post("/")
    async def create_thing(_writer: UserWriter, data: UserCreate, session: DbSession) -> UserRead:
        return UserRead.model_validate(await service.create_user(session, data))

    @router.get("/{thing_id:uuid}")
    async def read_thing(_reader: UserReader, thing_id: UUID, session: DbSession) -> UserRead:
        return UserRead.model_validate(await service.read_user(session, thing_id))

    @router.patch("/{thing_id:uuid}")
    async def update_thing(
        _writer: UserWriter, thing_id: UUID, data: UserUpdate, if_match: IfMatch, session: DbSession
    ) -> UserRead:
        return UserRead.model_validate(await service.update_user(session, thing_id, data, if_match))

    @router.delete("/{thing_id:uuid}")
    async def delete_thing(
        _writer: UserWriter, thing_id: UUID, if_match: OptionalIfMatch, session: DbSession
    ) -> None:
        await service.delete_user(session, thing_id, if_match)

    return router


def ways_to_read() -> APIRouter:
    """Return routes that answer with the same row, read and shown in different ways."""
    router = APIRouter()

    @router.get("/no-database")
    async def token_only(_reader: UserReader) -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/db-session/{key}")
    async def db_session(_reader: UserReader, key: UUID, session: DbSession) -> UserRead:
        return UserRead.model_validate(await service.read_user(session, key))

    @router.get("/read-session/{key}")
    async def read_session(_reader: UserReader, key: UUID, session: ReadSession) -> UserRead:
        return UserRead.model_validate(await service.read_user(session, key))

    @router.get("/no-model/{key}", response_model=None)
    async def no_model(_reader: UserReader, key: UUID, session: ReadSession) -> dict[str, Any]:
        user = await service.read_user(session, key)
        return {name: getattr(user, name) for name in UserRead.model_fields}

    columns = [getattr(User, name) for name in UserRead.model_fields]
    # As find_row has its statement, built once.
    by_key = select(*columns).where(col(User.id) == bindparam("key"))

    @router.get("/columns/{key}")
    async def only_columns(_reader: UserReader, key: UUID, session: ReadSession) -> UserRead:
        result = await session.exec(by_key, params={"key": key})
        return UserRead.model_validate(result.one()._mapping)

    return router


user = list(v1.router.routes)
v1.router.routes.clear()
for number in range(int(os.environ.get("RESOURCES", "1")) - 1):
    v1.router.include_router(resource(), prefix=f"/thing-{number}", tags=[f"thing-{number}"])
# What came with the project is the last, as the alphabet may have it.
v1.router.routes.extend(user)
v1.router.include_router(ways_to_read(), prefix="/way")

if __name__ == "__main__":
    server.main()
