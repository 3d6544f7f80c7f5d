"""A session after its request has ended: in background tasks, streamed bodies, tasks of its own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from traceback import format_exception
from unittest.mock import Mock

import anyio
import httpx2
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Request, Response, WebSocket
from fastapi.exceptions import FastAPIError
from fastapi.responses import EventSourceResponse, StreamingResponse
from sqlalchemy import event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import IntegrityError, InvalidRequestError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.types import Message, Receive, Scope, Send

from app.core.errors import NotFound, add_exception_handlers
from app.core.middleware import ErrorBoundary
from app.database.session import (
    AppDatabase,
    Database,
    DbSession,
    ReadSession,
    SessionEnded,
    open_database,
)
from app.settings import Settings
from tests.service.database.notes import Note

pytestmark = pytest.mark.committed

TITLES = select(Note.title)
SLOW = text("SELECT pg_sleep(2)")
LONG_READ = text("SELECT count(*) FROM pg_class a, pg_class b, pg_class c, pg_class d")


@pytest.fixture
async def small(database: Database, settings: Settings) -> AsyncIterator[Database]:
    """The test's database with a single connection, which nobody may keep."""
    changes = {
        "database_url": database.engine.url,
        "database_pool_size": 1,
        "database_pool_timeout": 1,
    }
    async with open_database(settings.model_copy(update=changes)) as small:
        yield small


@pytest.fixture
async def app(small: Database) -> FastAPI:
    app = FastAPI()
    add_exception_handlers(app)
    app.add_middleware(ErrorBoundary)
    app.state.database = small
    return app


@asynccontextmanager
async def calling(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def failure(app: FastAPI, path: str) -> str:
    """Return the error of a request that must fail, whether or not it has a status already."""
    async with calling(app) as client:
        try:
            response = await client.get(path)
        except Exception as error:
            return "".join(format_exception(error))
    assert response.status_code == 500
    return ""


async def assert_nothing_leaked(database: Database) -> None:
    """The only connection serves the next one, who finds no transaction on it."""
    async with database.sessionmaker.begin() as session:
        assert await session.scalar(text("SELECT count(*) FROM note")) is not None


def _note() -> Note:
    return Note(title="late")


async def _add(session: AsyncSession) -> None:
    session.add(_note())


async def _stream(session: AsyncSession) -> None:
    async for _ in await session.stream(TITLES):
        pass


USES: dict[str, Callable[[AsyncSession], Awaitable[object]]] = {
    "exec": lambda session: session.exec(TITLES),
    "scalar": lambda session: session.scalar(text("SELECT 1")),
    "get": lambda session: session.get(Note, _note().id),
    "connection": lambda session: session.connection(),
    "begin_nested": lambda session: session.begin_nested().start(),
    "begin": lambda session: session.begin().start(),
    "merge": lambda session: session.merge(_note()),
    "commit": lambda session: session.commit(),
    "run_sync": lambda session: session.run_sync(lambda it: it.connection()),
    "add": _add,
    "stream": _stream,
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", ["write", "read"])
async def test_a_background_task_that_uses_the_request_s_session_fails_loudly(
    app: FastAPI, small: Database, use: str, kind: str
) -> None:
    """It was a 200 of which nothing was stored, and a connection that nobody returned."""

    async def use_late(session: AsyncSession) -> None:
        await USES[use](session)

    @app.post("/write")
    async def write(session: DbSession, tasks: BackgroundTasks) -> None:
        await session.exec(TITLES)
        tasks.add_task(use_late, session)

    @app.post("/read")
    async def read(session: ReadSession, tasks: BackgroundTasks) -> None:
        await session.exec(TITLES)
        tasks.add_task(use_late, session)

    async with calling(app) as client:
        with pytest.raises(SessionEnded, match="AppDatabase") as caught:
            await client.post(f"/{kind}")
    assert "database.sessionmaker.begin()" in str(caught.value)
    await assert_nothing_leaked(small)


async def test_what_the_request_has_loaded_stays_readable(app: FastAPI) -> None:
    seen: list[str] = []

    async def remember(note: Note) -> None:
        seen.append(note.title)

    @app.post("/")
    async def write(session: DbSession, tasks: BackgroundTasks) -> None:
        note = _note()
        session.add(note)
        await session.flush()
        tasks.add_task(remember, note)

    async with calling(app) as client:
        assert (await client.post("/")).status_code == 200
    assert seen == ["late"]


async def test_a_background_task_writes_with_a_session_of_its_own(
    app: FastAPI, small: Database
) -> None:
    async def count(database: Database) -> None:
        async with database.sessionmaker.begin() as session:
            session.add(Note(title="by the task"))

    @app.post("/")
    async def write(session: DbSession, database: AppDatabase, tasks: BackgroundTasks) -> None:
        session.add(Note(title="by the route"))
        tasks.add_task(count, database)

    async with calling(app) as client:
        assert (await client.post("/")).status_code == 200
    async with small.reading() as session:
        assert {*await session.exec(TITLES)} == {"by the route", "by the task"}


class TestStreams:
    """The body is read after the route has returned; each kind of body that FastAPI has."""

    @pytest.fixture(autouse=True)
    def routes(self, app: FastAPI) -> None:
        async def titles(session: AsyncSession) -> AsyncIterator[str]:
            # The generator of /events begins before the route's session has ended.
            await asyncio.sleep(0.1)
            for title in await session.exec(TITLES):
                yield title

        @app.get("/response")
        async def respond(session: ReadSession) -> StreamingResponse:
            return StreamingResponse(titles(session))

        @app.get("/raw", response_class=StreamingResponse)
        async def raw(session: DbSession) -> AsyncIterator[str]:
            async for title in titles(session):
                yield title

        @app.get("/lines")
        async def lines(session: DbSession) -> AsyncIterator[str]:
            async for title in titles(session):
                yield title

        @app.get("/events", response_class=EventSourceResponse)
        async def events(session: DbSession) -> AsyncIterator[str]:
            async for title in titles(session):
                yield title

        @app.get("/cursor")
        async def cursor(session: ReadSession) -> StreamingResponse:
            return StreamingResponse(await session.stream_scalars(TITLES))

        @app.get("/own")
        async def own(database: AppDatabase) -> StreamingResponse:
            async def body() -> AsyncIterator[str]:
                async with database.reading() as session:
                    async for title in await session.stream_scalars(TITLES):
                        yield title

            return StreamingResponse(body())

    @pytest.mark.parametrize("path", ["response", "raw", "lines", "events"])
    async def test_one_that_reads_with_the_request_s_session_fails_and_keeps_no_connection(
        self, app: FastAPI, small: Database, caplog: pytest.LogCaptureFixture, path: str
    ) -> None:
        """The pool was empty after as many requests as it has connections."""
        for _ in range(3):
            caplog.clear()
            assert "This session has ended" in await failure(app, f"/{path}") + caplog.text
        await assert_nothing_leaked(small)

    async def test_a_cursor_ends_with_its_session(self, app: FastAPI, small: Database) -> None:
        async with small.sessionmaker.begin() as session:
            session.add_all([Note(title=str(number)) for number in range(200)])
        for _ in range(3):
            assert "outside of a transaction" in await failure(app, "/cursor")
        await assert_nothing_leaked(small)

    async def test_one_that_opens_a_session_of_its_own_is_complete(
        self, app: FastAPI, small: Database
    ) -> None:
        async with small.sessionmaker.begin() as session:
            session.add_all([Note(title="first"), Note(title="last")])
        async with calling(app) as client:
            for _ in range(3):
                assert (await client.get("/own")).text == "firstlast"
        await assert_nothing_leaked(small)


async def test_a_task_that_outlives_the_request_fails(app: FastAPI, small: Database) -> None:
    started: list[asyncio.Task[object]] = []

    @app.get("/")
    async def read(session: DbSession) -> None:
        async def later() -> None:
            await asyncio.sleep(0.05)
            await session.exec(TITLES)

        started.append(asyncio.create_task(later()))

    async with calling(app) as client:
        assert (await client.get("/")).status_code == 200
    with pytest.raises(SessionEnded):
        await started.pop()
    await assert_nothing_leaked(small)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_task_that_is_in_the_middle_of_a_statement_spoils_no_connection(
    app: FastAPI, small: Database, fails: bool
) -> None:
    """The COMMIT fails, and each later request that got the connection would have failed too."""
    started: list[asyncio.Task[object]] = []

    @app.get("/")
    async def read(session: DbSession) -> None:
        await session.exec(TITLES)
        started.append(asyncio.create_task(session.scalar(SLOW)))
        await asyncio.sleep(0.3)
        if fails:
            raise NotFound

    for _ in range(2):
        async with calling(app) as client:
            assert (await client.get("/")).status_code == 500
        with pytest.raises(SQLAlchemyError):
            await started.pop()
        await assert_nothing_leaked(small)


async def test_concurrent_use_within_a_request_fails_and_keeps_no_connection(
    app: FastAPI, small: Database
) -> None:
    @app.get("/")
    async def gather(session: DbSession) -> None:
        await asyncio.gather(*(session.exec(TITLES) for _ in range(3)))

    async with calling(app) as client:
        for _ in range(3):
            assert (await client.get("/")).status_code == 500
    await assert_nothing_leaked(small)


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_a_route_that_ends_the_transaction_is_told_so_at_its_next_statement(
    app: FastAPI, small: Database, end: str
) -> None:
    """What came after it would be another transaction, and the request no longer whole."""

    @app.get("/")
    async def write(session: DbSession) -> None:
        session.add(Note(title="first"))
        await session.flush()
        await getattr(session, end)()
        with pytest.raises(InvalidRequestError):
            await session.exec(TITLES)

    async with calling(app) as client:
        assert (await client.get("/")).status_code == 200
    await assert_nothing_leaked(small)


async def test_a_route_that_goes_on_after_a_flush_that_failed_stores_nothing(
    app: FastAPI, small: Database
) -> None:
    @app.get("/")
    async def write(session: DbSession) -> None:
        session.add(Note(title="first"))
        await session.flush()
        session.add(Note(title="first"))
        with pytest.raises(IntegrityError):
            await session.flush()

    async with calling(app) as client:
        assert (await client.get("/")).status_code == 200
    async with small.reading() as session:
        assert (await session.exec(TITLES)).all() == []
    await assert_nothing_leaked(small)


async def test_a_read_whose_session_ends_meanwhile_is_not_tried_again(small: Database) -> None:
    """It would open a connection that nobody closes."""
    opened, engine = Mock(), small.engine.sync_engine
    event.listen(engine, "connect", opened)
    # The server sees the end of the connection before the one who closes it is done.
    event.listen(engine, "invalidate", lambda it, *_: it.driver_connection.terminate())
    session = small.read_sessionmaker()
    reading = asyncio.create_task(session.scalar(LONG_READ))
    await asyncio.sleep(0.3)
    await session.invalidate()
    with pytest.raises(SQLAlchemyError):
        await reading
    assert opened.call_count == 1
    await assert_nothing_leaked(small)


@pytest.mark.parametrize("dependency", [DbSession, ReadSession])
async def test_a_task_that_is_in_the_middle_of_a_plain_read_spoils_no_connection(
    app: FastAPI, small: Database, dependency: object
) -> None:
    started: list[asyncio.Task[object]] = []

    @app.get("/")
    async def read(session: dependency) -> None:  # type: ignore[valid-type]
        started.append(asyncio.create_task(session.scalar(LONG_READ)))  # type: ignore[attr-defined]
        await asyncio.sleep(0.3)

    for _ in range(2):
        async with calling(app) as client:
            assert (await client.get("/")).status_code == 200
        with pytest.raises(SQLAlchemyError):
            await started.pop()
        await assert_nothing_leaked(small)


@pytest.mark.parametrize("moment", ["before_commit", "after_commit"])
async def test_who_listens_hears_of_the_commit_of_a_request_that_only_reads(
    app: FastAPI, small: Database, moment: str
) -> None:
    heard: list[Session] = []

    @app.get("/")
    async def read(session: DbSession) -> None:
        event.listen(session.sync_session, moment, heard.append)
        await session.exec(TITLES)

    async with calling(app) as client:
        assert (await client.get("/")).status_code == 200
    assert len(heard) == 1
    await assert_nothing_leaked(small)


@pytest.mark.parametrize("moment", ["commit", "rollback"])
async def test_who_listens_to_the_engine_hears_how_a_read_ends(
    app: FastAPI, small: Database, moment: str
) -> None:
    heard: list[object] = []
    event.listen(small.engine.sync_engine, moment, heard.append)

    @app.get("/")
    async def read(session: DbSession) -> None:
        await session.exec(TITLES)

    async with calling(app) as client:
        assert (await client.get("/")).status_code == 200
    assert len(heard) == (moment == "commit")


async def test_who_resets_connections_may_do_so_with_a_statement_after_a_read(
    app: FastAPI, small: Database
) -> None:
    engine, discarded = small.engine.sync_engine, Mock()

    def reset(connection: DBAPIConnection, _entry: object, _state: object) -> None:
        cursor = connection.cursor()
        cursor.execute("DISCARD PLANS")
        cursor.close()

    event.listen(engine, "reset", reset)
    event.listen(engine, "invalidate", discarded)

    @app.get("/")
    async def read(session: ReadSession) -> None:
        await session.exec(TITLES)

    async with calling(app) as client:
        for _ in range(2):
            assert (await client.get("/")).status_code == 200
    assert discarded.call_count == 0


@pytest.mark.parametrize("fails", [False, True])
async def test_a_task_group_around_the_application_does_not_cut_off_the_end(
    app: FastAPI, small: Database, fails: bool
) -> None:
    """FastAPI protects the end of its generators alike."""
    discarded = Mock()
    event.listen(small.engine.sync_engine, "invalidate", discarded)

    @app.get("/")
    async def write(session: DbSession) -> None:
        session.add(Note(title="first"))
        await session.flush()
        if fails:
            around[0].cancel()
            await anyio.lowlevel.checkpoint()
        event.listen(session.sync_session, "before_commit", lambda _: around[0].cancel())

    around: list[anyio.CancelScope] = []

    async def limited(scope: Scope, receive: Receive, send: Send) -> None:
        with anyio.CancelScope() as here:
            around.append(here)
            await app(scope, receive, send)

    transport = httpx2.ASGITransport(limited, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        with suppress(AssertionError):
            await client.get("/")
    assert discarded.call_count == 0
    async with small.reading() as session:
        assert [*await session.exec(TITLES)] == ([] if fails else ["first"])


async def test_what_was_added_after_a_read_is_stored_without_a_flush(
    app: FastAPI, small: Database
) -> None:
    @app.get("/")
    async def write(session: DbSession) -> None:
        await session.exec(TITLES)
        session.add(Note(title="last"))

    async with calling(app) as client:
        assert (await client.get("/")).status_code == 200
    async with small.reading() as session:
        assert [*await session.exec(TITLES)] == ["last"]


@pytest.mark.parametrize("dependency", [DbSession, ReadSession])
async def test_nothing_that_ends_after_the_response_may_depend_on_a_session(
    app: FastAPI, dependency: object
) -> None:
    async def late(session: dependency) -> AsyncIterator[None]:  # type: ignore[valid-type]
        yield

    with pytest.raises(FastAPIError, match="function"):
        app.get("/", dependencies=[Depends(late)])(_note)


async def test_an_exception_handler_that_uses_it_fails_and_keeps_no_connection(
    app: FastAPI, small: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async def record(request: Request, _error: Exception) -> Response:
        await request.state.session.exec(TITLES)
        return Response()

    app.add_exception_handler(LookupError, record)

    @app.get("/")
    async def fail(request: Request, session: DbSession) -> None:
        request.state.session = session
        raise LookupError

    async with calling(app) as client:
        assert (await client.get("/")).status_code == 500
    assert "AppDatabase" in caplog.text
    await assert_nothing_leaked(small)


async def test_a_web_socket_may_open_a_session_for_each_message(
    app: FastAPI, small: Database
) -> None:
    """That of the whole connection would hold a transaction open for as long."""

    @app.websocket("/")
    async def store(socket: WebSocket, database: AppDatabase) -> None:
        await socket.accept()
        async for title in socket.iter_text():
            async with database.sessionmaker.begin() as session:
                session.add(Note(title=title))
            await assert_nothing_leaked(database)

    said: list[Message] = [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "first"},
        {"type": "websocket.receive", "text": "last"},
        {"type": "websocket.disconnect", "code": 1000},
    ]

    async def receive() -> Message:
        return said.pop(0)

    async def send(_message: Message) -> None:
        pass

    scope = {"type": "websocket", "path": "/", "headers": [], "query_string": b""}
    await app(scope | {"subprotocols": []}, receive, send)
    async with small.reading() as session:
        assert [*await session.exec(TITLES)] == ["first", "last"]


async def test_a_session_of_one_s_own_ends_with_its_block(small: Database) -> None:
    async with small.sessionmaker.begin() as session:
        pass
    with pytest.raises(SessionEnded):
        await session.exec(TITLES)
    async with small.reading() as session:
        pass
    with pytest.raises(SessionEnded):
        await session.exec(TITLES)
    await assert_nothing_leaked(small)
