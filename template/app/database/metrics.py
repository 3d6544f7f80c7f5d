"""The metrics of the connections to the database, named as OpenTelemetry's conventions have them.

They are read when somebody asks, and cost a request nothing.
"""

from collections.abc import Iterable, Iterator

from opentelemetry.metrics import CallbackOptions, Observation, get_meter
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database.pool import FairPool

_meter = get_meter("app.database")
_engines: dict[str, AsyncEngine] = {}

_ERRORS = _meter.create_counter(
    "app.database.errors",
    unit="{error}",
    description="Errors of the database and of connecting to it, by SQLSTATE",
)


def observe(name: str, engine: AsyncEngine) -> None:
    """Report the pool of an engine under a name, and count its errors.

    Args:
        name: ``primary`` or ``replica``.
        engine: The engine, whose pool may be replaced.
    """
    _engines[name] = engine
    event.listen(engine.sync_engine, "handle_error", _count)


def count_error(error: BaseException) -> None:
    """Count an error by its SQLSTATE, or by its kind if it has none."""
    # A request that was cancelled is none.
    if isinstance(error, Exception):
        state = getattr(error, "sqlstate", None) or type(error).__name__
        _ERRORS.add(1, {"db.response.status_code": state})


def _count(context: ExceptionContext) -> None:
    count_error(context.original_exception)


def _pools() -> Iterator[tuple[FairPool, dict[str, str]]]:
    for name, engine in _engines.items():
        if isinstance(engine.pool, FairPool):
            yield engine.pool, {"db.client.connection.pool.name": name}


def _count_connections(_: CallbackOptions) -> Iterable[Observation]:
    for pool, name in _pools():
        yield Observation(pool.checkedout(), name | {"db.client.connection.state": "used"})
        yield Observation(pool.checkedin(), name | {"db.client.connection.state": "idle"})


_meter.create_observable_up_down_counter(
    "db.client.connection.count",
    [_count_connections],
    unit="{connection}",
    description="Open connections, by state: used or idle",
)
_meter.create_observable_up_down_counter(
    "db.client.connection.max",
    [lambda _: [Observation(pool.size(), name) for pool, name in _pools()]],
    unit="{connection}",
    description="The most connections that may be open",
)
_meter.create_observable_up_down_counter(
    "db.client.connection.pending_requests",
    [lambda _: [Observation(pool.waiting, name) for pool, name in _pools()]],
    unit="{request}",
    description="Requests that wait for a connection",
)
_meter.create_observable_counter(
    "db.client.connection.timeouts",
    [lambda _: [Observation(pool.timeouts, name) for pool, name in _pools()]],
    unit="{timeout}",
    description="Requests that got no connection in time",
)
