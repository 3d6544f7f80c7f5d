"""Whether the service works, for the platform that runs it; no token is needed."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import anyio
from fastapi import APIRouter, FastAPI, Request, Response, status
from opentelemetry.metrics import CallbackOptions, Observation, get_meter
from pydantic import BaseModel
from sqlalchemy import event
from sqlalchemy.pool import QueuePool

from app.core.draining import drain
from app.core.openapi import PUBLIC
from app.core.rate_limited_log import RateLimitedLog
from app.database.revisions import HistoryUnknown, applied_revisions, read_history
from app.database.session import Database
from app.utils.sso.resource_server.introspector import Introspector, ProviderHealth

_KNOWN_SECONDS = 1
# Longer than a statement may take: requests that wait for a dead database have failed by then.
_BUSY_SECONDS = 10
# More than a check of the database takes.
_PATIENT_SECONDS = 3
_VERSIONS = Path(__file__).parents[1] / "migrations" / "versions"

logger = RateLimitedLog(logging.getLogger(__name__), time)

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The state of the service and of what it depends on.

    The identity provider is only named if something is wrong with it.
    """

    status: Literal["ok", "unavailable"]
    database: Literal["ok", "unavailable"]
    identity_provider: ProviderHealth | None = None


class Readiness(BaseModel):
    """Whether the service should be sent requests, and what is in the way."""

    status: Literal["ok", "draining", "unavailable"]
    database: Literal["ok", "unavailable"] | None = None
    migrations: Literal["ok", "missing", "unknown"] | None = None


class DatabaseHealth:
    """Whether the database answers: asked once a second, however often the service is asked.

    Anybody can ask the service, and must not take the connections that requests need.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._lock = asyncio.Lock()
        self._error: Exception | None = None
        self._asked_at = self._answered_at = self._compared_at = float("-inf")
        self._migrations: Literal["ok", "missing", "unknown"] = "unknown"
        event.listen(database.engine.pool, "checkin", self._note_answer)

    async def check(self) -> None:
        """Return if it answers now, or did a second ago.

        Raises:
            Exception: It does not, for whatever reason.
        """
        async with self._lock:
            if time.monotonic() - self._asked_at >= _KNOWN_SECONDS:
                self._error = await self._ask()
                self._asked_at = time.monotonic()
            if self._error is not None:
                raise self._error.with_traceback(None)

    async def _ask(self) -> Exception | None:
        try:
            await self.database.ping()
        except Exception as error:
            is_busy = isinstance(error, TimeoutError) and self._is_busy()
            return None if is_busy else error
        self._answered_at = time.monotonic()
        return None

    def _note_answer(self, connection: object, _record: object) -> None:
        # One that a request could not use any more is None here.
        if connection is not None:
            self._answered_at = time.monotonic()

    async def migrations(self) -> Literal["ok", "missing", "unknown"]:
        """Return whether it has the revisions of this release; once it has, it is not asked."""
        async with self._lock:
            if self._migrations != "ok" and time.monotonic() - self._compared_at >= _KNOWN_SECONDS:
                self._migrations = await self._compare()
                self._compared_at = time.monotonic()
            return self._migrations

    async def _compare(self) -> Literal["ok", "missing", "unknown"]:
        try:
            history = read_history(_VERSIONS)
            with anyio.fail_after(1):
                async with self.database.engine.connect() as connection:
                    missing = history.missing(await applied_revisions(connection))
        except HistoryUnknown as error:
            logger.warning("Readiness does not include migrations: %s", error)
        except Exception as error:  # It has just answered, so this is no reason to refuse requests.
            logger.warning("Cannot read alembic_version: %s", type(error).__name__)
        else:
            if not missing:
                return "ok"
            names = ", ".join(sorted(missing))
            logger.warning("The database lacks %s: run `alembic upgrade head`", names)
            return "missing"
        return "unknown"

    def _is_busy(self) -> bool:
        """Whether requests have taken all connections, and the database has answered lately."""
        pool = self.database.engine.pool
        is_full = isinstance(pool, QueuePool) and pool.checkedout() >= pool.size()
        return is_full and time.monotonic() - self._answered_at < _BUSY_SECONDS


@router.head("/health", include_in_schema=False)
@router.get(
    "/health",
    openapi_extra=PUBLIC,
    responses={503: {"model": Health}},
    response_model_exclude_none=True,
)
async def read_health(request: Request, response: Response) -> Health:
    """Answer 200 if requests can be served, and 503 if the database cannot be reached.

    It is also a 503 if the identity provider rejects this service from the start, so that a
    replica with wrong settings replaces no other. Later on, and if the provider does not answer at
    all, every replica is affected alike, and taking them out of service would not help.
    """
    try:
        await _database_health(request.app).check()
    except Exception as error:  # Whatever the error is, requests cannot be served.
        logger.warning("Health: the database does not answer (%s)", type(error).__name__)
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        return Health(status="unavailable", database="unavailable")
    introspector: Introspector = request.app.state.introspector
    provider = await introspector.health()
    if provider is ProviderHealth.OK:
        return Health(status="ok", database="ok")
    if provider is ProviderHealth.UNAVAILABLE:
        return Health(status="ok", database="ok", identity_provider=provider)
    if introspector.has_worked:
        return Health(status="ok", database="ok", identity_provider=provider)
    response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return Health(status="unavailable", database="ok", identity_provider=provider)


def _database_health(app: FastAPI) -> DatabaseHealth:
    state = app.state
    known: DatabaseHealth | None = getattr(state, "database_health", None)
    if known is None or known.database is not state.database:
        known = state.database_health = DatabaseHealth(state.database)
    return known


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    openapi_extra=PUBLIC,
    responses={503: {"model": Readiness}},
    response_model_exclude_none=True,
)
async def read_readiness(request: Request, response: Response) -> Readiness:
    """Answer 200 if this process should be sent requests, and 503 if it should not.

    It should not while it stops, while the database cannot be reached, or before the migrations of
    this release. All replicas share the identity provider, so that it does not count.
    """
    readiness = await _readiness(request.app)
    if readiness.status != "ok":
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return readiness


async def _readiness(app: FastAPI) -> Readiness:
    if drain.has_begun:
        return Readiness(status="draining")
    known = _database_health(app)
    try:
        await known.check()
    except Exception as error:  # Whatever the error is, requests cannot be served.
        logger.warning("Readiness: the database does not answer: %s", type(error).__name__)
        return Readiness(status="unavailable", database="unavailable")
    migrations = await known.migrations()
    if migrations == "missing":
        return Readiness(status="unavailable", database="ok", migrations=migrations)
    return Readiness(status="ok", database="ok", migrations=migrations)


_reported: list[tuple[FastAPI, asyncio.AbstractEventLoop]] = []


@asynccontextmanager
async def reporting_readiness(app: FastAPI) -> AsyncIterator[None]:
    """Report what ``/readyz`` says as a metric too, whether or not anybody asks it."""
    _reported[:] = [(app, asyncio.get_running_loop())]
    try:
        yield
    finally:
        _reported.clear()


def _observe_readiness(_: CallbackOptions) -> Iterable[Observation]:
    """Ask as those who send requests do: the thread that exports must not touch the database."""
    for app, loop in [*_reported]:
        answer = asyncio.run_coroutine_threadsafe(_readiness(app), loop)
        try:
            yield Observation(int(answer.result(_PATIENT_SECONDS).status == "ok"))
        except TimeoutError:
            answer.cancel()
            yield Observation(0)


get_meter("app.health").create_observable_gauge(
    "app.ready",
    [_observe_readiness],
    description="1 if this process should be sent requests, which /readyz says too, else 0",
)


@router.head("/livez", include_in_schema=False)
@router.get("/livez", openapi_extra=PUBLIC)
async def read_liveness() -> Literal["ok"]:
    """Answer as long as the process can: restarting it would not bring a database back."""
    return "ok"
