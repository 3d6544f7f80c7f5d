"""How a request ends that cannot be answered as it should: late, unknown, or for nobody."""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager

import httpx2
import pytest
import uvicorn
from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import StreamingResponse
from sqlalchemy import func, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.errors import OutcomeUnknown, add_exception_handlers
from app.core.http_protocol import BoundedProtocol
from app.core.middleware import ErrorBoundary
from app.core.routing import RouteIndex
from app.database.session import AppDatabase, Database, DbSession, ReadSession, open_database
from app.settings import Settings
from tests.service.database.forwarder import Forwarder, forwarding
from tests.service.database.notes import Note

pytestmark = pytest.mark.committed

TITLES = select(Note.title)
SLEEP = text("SELECT pg_sleep(20)")
# A plain read that takes its time, in no transaction.
SLOW = text("SELECT count(*) FROM pg_class a, pg_class b, pg_class c, pg_class d")
DEADLINE = 0.5
# Closing a connection that does not answer takes longer, by two seconds.
LATEST = DEADLINE + 1.5
UNKNOWN = "urn:problem:outcome-unknown"
LATE = "urn:problem:deadline-exceeded"


@pytest.fixture
async def way(database: Database) -> AsyncIterator[Forwarder]:
    """The way from the service to the database."""
    async with forwarding(database.engine.url) as way:
        yield way


@pytest.fixture
async def service(
    database: Database, way: Forwarder, settings: Settings
) -> AsyncIterator[Database]:
    """The test's database, over that way, with two connections."""
    changes = {
        "database_url": database.engine.url.set(host="127.0.0.1", port=way.port),
        "database_pool_size": 2,
        "database_pool_timeout": 3,
    }
    async with open_database(settings.model_copy(update=changes)) as service:
        yield service


@pytest.fixture
def deadline() -> float:
    """How long a request may take."""
    return DEADLINE


@pytest.fixture
async def app(service: Database, deadline: float) -> FastAPI:
    app = FastAPI()
    add_exception_handlers(app)
    app.add_middleware(ErrorBoundary, timeout=deadline)
    app.router.routes.insert(0, RouteIndex(app.router))
    app.state.database = service

    @app.get("/read")
    async def read(session: ReadSession) -> None:
        await session.exec(TITLES)

    @app.get("/slow")
    async def slow(session: ReadSession) -> None:
        await session.scalar(SLOW)

    @app.get("/sleep")
    async def sleep(session: DbSession) -> None:
        await session.scalar(SLEEP)

    @app.post("/sleep")
    async def write_and_sleep(session: DbSession) -> None:
        session.add(Note(title="first"))
        await session.scalar(text("SELECT pg_sleep(0.5)"))

    @app.post("/write")
    async def write(session: DbSession) -> None:
        session.add(Note(title="first"))

    return app


class _Server(uvicorn.Server):
    """A server beside the tests, which leaves Ctrl-C to them."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@pytest.fixture
async def port(app: FastAPI, service: Database) -> AsyncIterator[int]:
    """Where the application is served, in the event loop of the tests."""
    # What the driver asks when it connects would pass for a request at work.
    await assert_pool_is_whole(service)
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, http=BoundedProtocol, lifespan="off", log_config=None, timeout_graceful_shutdown=5
    )
    server = _Server(config)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve([listener]))
        yield listener.getsockname()[1]
        server.should_exit = True


type Call = Callable[[str, str], Coroutine[None, None, httpx2.Response]]


@pytest.fixture
async def call(port: int) -> AsyncIterator[Call]:
    """Call the service with a method and a path."""
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        yield client.request


async def notes(database: Database) -> int:
    async with database.reading() as session:
        return await session.scalar(select(func.count()).select_from(Note)) or 0


async def until(database: Database, *, at_work: int) -> None:
    """Wait until so many connections, apart from this one, are in a statement or transaction."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND state <> 'idle' AND pid <> pg_backend_pid()"
    )
    async with asyncio.timeout(3), database.engine.connect() as connection:
        while await connection.scalar(query) != at_work:
            # What is seen of it stays the same for as long as a transaction.
            await connection.rollback()
            await asyncio.sleep(0.02)


async def assert_pool_is_whole(service: Database) -> None:
    async with asyncio.timeout(5), service.engine.connect() as one, service.engine.connect() as two:
        await one.execute(text("SELECT 1"))
        await two.execute(text("SELECT 1"))


@pytest.mark.parametrize("path", ["/slow", "/sleep"])
async def test_a_statement_ends_with_the_request_that_waits_for_it(
    call: Call, database: Database, service: Database, path: str
) -> None:
    started = time.monotonic()
    responses = await asyncio.gather(*(call("GET", path) for _ in range(2)))
    assert time.monotonic() - started < LATEST
    for response in responses:
        assert (response.status_code, response.json()["type"]) == (504, LATE)
        assert "retry-after" not in response.headers
    await until(database, at_work=0)
    await assert_pool_is_whole(service)


async def test_many_that_are_late_at_once_leave_the_pool_whole(
    call: Call, database: Database, service: Database
) -> None:
    for _ in range(3):
        responses = await asyncio.gather(*(call("GET", "/sleep") for _ in range(20)))
        assert {it.json()["type"] for it in responses} == {LATE}
    await until(database, at_work=0)
    await assert_pool_is_whole(service)
    assert (await call("GET", "/read")).status_code == 200


@pytest.mark.parametrize("path", ["/read", "/slow", "/sleep"])
async def test_an_answer_does_not_wait_for_what_a_black_hole_has_swallowed(
    call: Call, service: Database, way: Forwarder, path: str
) -> None:
    await assert_pool_is_whole(service)
    way.is_silent = True
    started = time.monotonic()
    response = await call("GET", path)
    assert time.monotonic() - started < LATEST
    assert response.json()["type"] == LATE

    way.is_silent = False
    await assert_pool_is_whole(service)


async def test_a_database_that_answers_each_statement_late_is_a_late_request(
    call: Call, app: FastAPI, service: Database, way: Forwarder
) -> None:
    @app.get("/several")
    async def several(session: DbSession) -> None:
        for _ in range(5):
            await session.exec(TITLES)

    await assert_pool_is_whole(service)
    way.delay = 0.3
    started = time.monotonic()
    response = await call("GET", "/several")
    assert time.monotonic() - started < LATEST
    assert response.json()["type"] == LATE
    way.delay = 0
    await assert_pool_is_whole(service)


async def test_what_a_late_request_had_written_is_not_stored(
    call: Call, app: FastAPI, database: Database, service: Database
) -> None:
    @app.post("/late")
    async def late(session: DbSession) -> None:
        session.add(Note(title="first"))
        await session.flush()
        await asyncio.sleep(20)

    assert (await call("POST", "/late")).json()["type"] == LATE
    await until(database, at_work=0)
    assert await notes(database) == 0
    await assert_pool_is_whole(service)


async def test_what_runs_after_the_response_is_not_late(
    call: Call, app: FastAPI, database: Database
) -> None:
    async def store(database: Database) -> None:
        await asyncio.sleep(DEADLINE * 1.5)
        async with database.sessionmaker.begin() as session:
            session.add(Note(title="first"))

    @app.post("/background")
    async def background(database: AppDatabase, tasks: BackgroundTasks) -> None:
        tasks.add_task(store, database)

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            for _ in range(3):
                await asyncio.sleep(DEADLINE / 2)
                yield "part"

        return StreamingResponse(parts())

    assert (await call("POST", "/background")).status_code == 200
    async with asyncio.timeout(3):
        while not await notes(database):  # noqa: ASYNC110 - it is the service's
            await asyncio.sleep(0.02)
    assert (await call("GET", "/stream")).text == "part" * 3


@pytest.mark.parametrize("breaks", [True, False], ids=["broken", "silent"])
async def test_a_commit_that_nobody_has_answered_is_said_to_be_unknown(
    call: Call,
    app: FastAPI,
    database: Database,
    service: Database,
    way: Forwarder,
    breaks: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It was a 503 with Retry-After, and the row was there."""
    way.unanswered, way.breaks = b"COMMIT;", breaks
    response = await call("POST", "/write")

    assert (response.status_code, response.json()["type"]) == (504, UNKNOWN)
    assert "retry-after" not in response.headers
    assert "Read what it was to change" in response.json()["detail"]
    assert await notes(database) == 1
    assert [it.levelno for it in caplog.records if "app" in it.name] == [logging.ERROR]
    way.unanswered = b""
    await assert_pool_is_whole(service)


@pytest.mark.parametrize("breaks", [True, False], ids=["broken", "silent"])
async def test_it_is_an_error_of_its_own_outside_of_requests(
    database: Database, way: Forwarder, settings: Settings, breaks: bool
) -> None:
    way.unanswered, way.breaks = b"COMMIT;", breaks
    changes = {
        "database_url": database.engine.url.set(host="127.0.0.1", port=way.port),
        "database_command_timeout": 0.3,
    }
    async with open_database(settings.model_copy(update=changes)) as service:
        with pytest.raises(OutcomeUnknown):
            async with service.sessionmaker.begin() as session:
                session.add(Note(title="first"))
        with pytest.raises(OutcomeUnknown):
            async with service.engine.begin() as connection:
                await connection.execute(text("UPDATE note SET title = 'second'"))
    assert await notes(database) == 1


async def test_so_is_that_of_a_statement_that_commits_itself(
    database: Database, service: Database, way: Forwarder
) -> None:
    """It is not tried again either, as a plain read would be."""
    insert = text("INSERT INTO note (id, title) VALUES (gen_random_uuid(), :title)")
    async with service.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(insert, {"title": "first"})
        way.unanswered, way.breaks = b"second", True
        with pytest.raises(OutcomeUnknown):
            await connection.execute(insert, {"title": "second"})
        way.unanswered = b""
    assert await notes(database) == 2


async def _lock(session: AsyncSession) -> None:
    await session.exec(TITLES.with_for_update())


async def _savepoint(session: AsyncSession) -> None:
    async with session.begin_nested():
        await session.exec(TITLES)


async def _setting(session: AsyncSession) -> None:
    await session.scalar(text("SHOW work_mem"))
    await session.exec(TITLES)


@pytest.mark.parametrize("read", [_lock, _savepoint, _setting])
async def test_the_end_of_a_transaction_that_wrote_nothing_is_known(
    service: Database, way: Forwarder, read: Callable[[AsyncSession], Awaitable[None]]
) -> None:
    way.unanswered, way.breaks = b"COMMIT;", True
    with pytest.raises(DBAPIError):
        async with service.sessionmaker.begin() as session:
            await read(session)


async def test_nor_is_that_of_a_session_that_only_reads_unknown(
    service: Database, way: Forwarder
) -> None:
    """Its connection, once taken, is in a transaction, which the database lets write nothing."""
    way.unanswered, way.breaks = b"COMMIT;", True
    with pytest.raises(DBAPIError):
        async with service.reading() as session:
            await (await session.connection()).execute(TITLES)


async def test_behind_pgbouncer_a_plain_read_is_known_to_write_nothing(
    database: Database, way: Forwarder, settings: Settings
) -> None:
    """It is in a transaction there."""
    changes = {
        "database_url": database.engine.url.set(host="127.0.0.1", port=way.port),
        "database_pgbouncer": True,
    }

    async def read(service: Database) -> None:
        async with service.sessionmaker.begin() as session:
            await session.exec(TITLES)

    way.unanswered, way.breaks = b"COMMIT;", True
    async with open_database(settings.model_copy(update=changes)) as service:
        with pytest.raises(DBAPIError):
            await read(service)


@pytest.mark.parametrize("lost", ["INSERT", "RELEASE", "ROLLBACK;"])
async def test_what_is_lost_before_the_commit_is_not_stored_and_known_to_be(
    call: Call, app: FastAPI, database: Database, way: Forwarder, lost: str
) -> None:
    @app.post("/savepoint")
    async def savepoint(session: DbSession) -> None:
        async with session.begin_nested():
            session.add(Note(title="first"))
        if lost == "ROLLBACK;":
            raise DBAPIError("lost", {}, TimeoutError(), connection_invalidated=True)

    way.unanswered, way.breaks = lost.encode(), True
    response = await call("POST", "/savepoint")
    assert response.status_code == 503
    assert response.json()["type"] == "urn:problem:database-unavailable"
    assert await notes(database) == 0


async def test_a_connection_that_was_lost_before_the_commit_is_known(
    database: Database, service: Database, way: Forwarder
) -> None:
    """The COMMIT was never sent."""

    async def write() -> None:
        async with service.sessionmaker.begin() as session:
            session.add(Note(title="first"))
            await session.flush()
            await way.close()
            await asyncio.sleep(0.1)

    with pytest.raises(DBAPIError):
        await write()
    assert await notes(database) == 0


async def test_what_the_server_rejects_at_the_commit_is_known(
    database: Database, service: Database
) -> None:
    async with database.engine.begin() as connection:
        await connection.execute(
            text(
                "ALTER TABLE note ADD COLUMN parent uuid"
                " REFERENCES note DEFERRABLE INITIALLY DEFERRED"
            )
        )

    async def refer_to_nobody() -> None:
        async with service.sessionmaker.begin() as session:
            session.add(Note(title="first"))
            await session.flush()
            connection = await session.connection()
            await connection.execute(text("UPDATE note SET parent = gen_random_uuid()"))

    with pytest.raises(DBAPIError, match="foreign key"):
        await refer_to_nobody()
    assert await notes(database) == 0


async def leave(port: int, request: bytes, database: Database, count: int = 1) -> None:
    """Send a request on as many connections, and close them when all are at work."""
    writers = []
    for _ in range(count):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request + b" HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n")
        writers.append(writer)
    await until(database, at_work=count)
    for writer in writers:
        writer.close()


@pytest.mark.parametrize("deadline", [20])
@pytest.mark.parametrize("path", [b"/slow", b"/sleep", b"/waits"])
async def test_a_reader_who_leaves_takes_the_statement_along(
    app: FastAPI, port: int, database: Database, service: Database, path: bytes
) -> None:
    @app.get("/waits")
    async def waits(session: DbSession) -> None:
        session.add(Note(title="first"))
        await session.flush()
        await asyncio.sleep(20)

    await leave(port, b"GET " + path, database, count=2)
    await until(database, at_work=0)
    await assert_pool_is_whole(service)
    assert await notes(database) == 0


@pytest.mark.parametrize("deadline", [20])
async def test_a_reader_who_leaves_gives_up_waiting_for_a_connection(
    port: int, database: Database, service: Database
) -> None:
    async with service.engine.connect(), service.engine.connect():
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /sleep HTTP/1.1\r\nHost: test\r\n\r\n")
        await asyncio.sleep(0.2)
        writer.close()
        await asyncio.sleep(0.2)
    await until(database, at_work=0)
    await assert_pool_is_whole(service)


@pytest.mark.parametrize("deadline", [20])
async def test_a_writer_who_leaves_has_written(port: int, database: Database) -> None:
    await leave(port, b"POST /sleep", database)
    await until(database, at_work=0)
    assert await notes(database) == 1


@pytest.mark.parametrize("deadline", [1.5])
async def test_a_read_that_is_tried_again_can_be_cut_short(
    call: Call, database: Database, service: Database, way: Forwarder
) -> None:
    """The connection is lost, and there is no answer on the way to another one."""
    await assert_pool_is_whole(service)
    async with database.engine.connect() as connection:
        await connection.execute(text("LOCK TABLE note"))
        reading = asyncio.create_task(call("GET", "/read"))
        await until(database, at_work=2)
        way.is_silent = True
        for writer in way.writers:
            writer.transport.abort()
        response = await reading
    assert response.json()["type"] == LATE
    way.is_silent = False
    await assert_pool_is_whole(service)
