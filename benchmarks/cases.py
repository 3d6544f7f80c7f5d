"""What is measured: an application, its requests, and what it is compared with."""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

TOKEN = "the-same-token"  # noqa: S105 - the provider calls any text an active token
USERS = 1_000
_serial = itertools.count()

# Returns requests that are sent in turns, of a number that are sent: one, if all may be the same.
# It takes JWTs from an iterator, because signing them takes longer than all else.
type Requests = Callable[[int, Iterator[str]], list[str]]


@dataclass(frozen=True)
class App:
    """A server: the words after ``python -m``, and its settings."""

    command: tuple[str, ...]
    settings: tuple[tuple[str, str], ...] = ()


def _plain(module: str, **settings: str) -> App:
    """Return an application served by uvicorn itself."""
    return App(("uvicorn", f"apps.{module}:app", "--log-level", "warning"), (*settings.items(),))


def service(*options: str, program: str = "app.server", **settings: str) -> App:
    """Return the rendered service, served as in production."""
    return App((program, *options), (*settings.items(),))


def _beside(resources: int) -> App:
    return service(program="apps.service", RESOURCES=str(resources))


BY_HAND = _plain("by_hand")
BARE = _plain("bare")
SERVICE = service()
WAYS = _beside(1)


def request(
    method: str,
    path: str,
    *lines: str,
    token: str | None = TOKEN,
    body: dict[str, str] | None = None,
) -> str:
    """Return the text of a request."""
    head = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Accept: application/json", *lines]
    if token is not None:
        head.append(f"Authorization: Bearer {token}")
    content = "" if body is None else json.dumps(body)
    if content:
        head += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*head, "", content])


def user_id(number: int) -> str:
    """Return the key of a user of the database, from 1 on."""
    key = f"{1_700_000_000_000 + number:012x}70008000{number:012x}"
    return f"{key[:8]}-{key[8:12]}-{key[12:16]}-{key[16:20]}-{key[20:]}"


def _get(path: str) -> Requests:
    return lambda _count, _jwts: [request("GET", path)]


def new_tokens(count: int, _jwts: Iterator[str]) -> list[str]:
    """Return requests of callers who were not seen before."""
    return [request("GET", _ME, token=f"token-{next(_serial)}") for _ in range(count)]


def one_jwt(_count: int, jwts: Iterator[str]) -> list[str]:
    """Return a request with a signed token."""
    return [request("GET", _ME, token=next(jwts))]


def new_jwts(count: int, jwts: Iterator[str]) -> list[str]:
    """Return requests with a signed token each."""
    return [request("GET", _ME, token=next(jwts)) for _ in range(count)]


def _create(path: str) -> Requests:
    def requests(count: int, _jwts: Iterator[str]) -> list[str]:
        names = [f"new-{next(_serial)}" for _ in range(count)]
        bodies = [{"username": it, "email": f"{it}@example.com", "full_name": it} for it in names]
        return [request("POST", path, body=body) for body in bodies]

    return requests


def _update(path: str) -> Requests:
    def requests(_count: int, _jwts: Iterator[str]) -> list[str]:
        body = {"full_name": f"Name {next(_serial)}"}
        # As many rows as are enough for no request to wait for another's lock.
        return [
            request("PATCH", f"{path}{user_id(number)}", "If-Match: *", body=body)
            for number in range(1, USERS + 1)
        ]

    return requests


@dataclass(frozen=True)
class Case:
    """Requests of a kind, sent on some connections; ``goal`` is the least ratio that is aimed at.

    ``limit`` names the case whose processor time is divided by this one's.
    """

    name: str
    app: App
    requests: Requests
    limit: str
    goal: float | None = None
    connections: int = 16
    status: int = 200
    count: int = 2_000
    is_short: bool = False
    is_plotted: bool = False


_ME = "/api/v1/user/me"
_USERS = "/api/v1/user/"
_ROW = f"/{user_id(1)}"
ONE = "by hand: one row"
ONE_64 = "by hand: one row, 64 connections"
LIST = "by hand: list of 20"
CREATE = "by hand: create"
UPDATE = "by hand: update"
ME = "`/me`"
BESIDE_ONE = "`/me` beside one resource"

# What a caller gets, beside the same by hand.
CASES = [
    Case("raw ASGI", _plain("raw"), _get("/livez"), ONE, is_short=True),
    Case(ONE, BY_HAND, _get("/me"), ONE, is_short=True),
    Case(ONE_64, BY_HAND, _get("/me"), ONE_64, connections=64),
    Case("the same, its pool resetting nothing", _plain("by_hand", RESET="no"), _get("/me"), ONE),
    Case("FastAPI and SQLModel, no token", BARE, _get("/me"), ONE, is_plotted=True),
    Case(
        "a client per request, no cache",
        _plain("common_way"),
        _get("/me"),
        ONE,
        count=200,
        is_plotted=True,
    ),
    Case("`/livez`", SERVICE, _get("/livez"), ONE, is_short=True),
    Case(ME, SERVICE, _get(_ME), ONE, goal=0.35, is_short=True, is_plotted=True),
    Case("`/me`, 64 connections", SERVICE, _get(_ME), ONE_64, goal=0.35, connections=64),
    Case(
        "`/me`, a new token each time",
        SERVICE,
        new_tokens,
        ONE,
        goal=0.15,
        is_short=True,
        is_plotted=True,
    ),
    Case("`/me`, jwt", service(SSO_MODE="jwt"), one_jwt, ONE, is_plotted=True),
    Case("`/me`, jwt, a new token each time", service(SSO_MODE="jwt"), new_jwts, ONE),
    Case("`/me`, both", service(SSO_MODE="both"), one_jwt, ONE),
    Case("`/me`, both, a new token each time", service(SSO_MODE="both"), new_jwts, ONE),
    # The same program, because each process has a heap of its own, which costs more or less.
    Case(BESIDE_ONE, WAYS, _get(_ME), BESIDE_ONE, is_short=True),
    Case("`/me` beside 30 resources", _beside(30), _get(_ME), BESIDE_ONE, goal=0.95),
    Case(
        "`/me` beside 100 resources",
        _beside(100),
        _get(_ME),
        BESIDE_ONE,
        goal=0.95,
        is_short=True,
    ),
    Case("`/me`, 2 workers", service("--workers", "2"), _get(_ME), ONE),
    Case(LIST, BY_HAND, _get("/user?limit=20"), LIST, is_short=True),
    Case(
        "list of 20",
        SERVICE,
        _get(f"{_USERS}?limit=20"),
        LIST,
        goal=0.25,
        is_short=True,
        is_plotted=True,
    ),
    Case(CREATE, BY_HAND, _create("/user"), CREATE, status=201, is_short=True),
    Case(
        "create",
        SERVICE,
        _create(_USERS),
        CREATE,
        goal=0.35,
        status=201,
        is_short=True,
        is_plotted=True,
    ),
    Case(UPDATE, BY_HAND, _update("/user/"), UPDATE, is_short=True),
    Case("update", SERVICE, _update(_USERS), UPDATE, goal=0.35, is_short=True, is_plotted=True),
]

_READ = "one row, `ReadSession`"
_LIST_20 = "list of 20 rows"
_POOL_10 = "`/me`, 64 connections, a pool of 10"


def _pool(size: int) -> App:
    return service(DATABASE_POOL_SIZE=str(size), DATABASE_POOL_TIMEOUT="30")


def _telemetry(**settings: str) -> App:
    """Return the service that exports to the provider, which takes all that it is sent."""
    return service(OTEL_EXPORTER_OTLP_ENDPOINT="the provider", **settings)


_ONE_PERCENT = {
    "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
    "OTEL_TRACES_SAMPLER_ARG": "0.01",
}

# What a team can turn. What is compared with is the line whose ratio is 1.
SETTINGS = [
    Case(ME, SERVICE, _get(_ME), ME),
    Case("`LOG_LEVEL=info`, a line per request", service(LOG_LEVEL="info"), _get(_ME), ME),
    Case("as JSON", service(LOG_LEVEL="info", LOG_FORMAT="json"), _get(_ME), ME),
    Case("telemetry: metrics", _telemetry(OTEL_TRACES_EXPORTER="none"), _get(_ME), ME),
    Case("telemetry: metrics, and 1 % of the traces", _telemetry(**_ONE_PERCENT), _get(_ME), ME),
    Case("telemetry: metrics and traces", _telemetry(), _get(_ME), ME),
    Case("`SSO_MODE=jwt`, new tokens", service(SSO_MODE="jwt"), new_jwts, ME),
    Case("`SSO_MODE=introspect`, new tokens", SERVICE, new_tokens, ME),
    Case("`DATABASE_PGBOUNCER=true`", service(DATABASE_PGBOUNCER="true"), _get(_ME), ME),
    Case(_POOL_10, _pool(10), _get(_ME), _POOL_10, connections=64),
    Case("a pool of 5", _pool(5), _get(_ME), _POOL_10, connections=64),
    Case("a pool of 20", _pool(20), _get(_ME), _POOL_10, connections=64),
    Case("a pool of 40", _pool(40), _get(_ME), _POOL_10, connections=64),
    Case(_READ, WAYS, _get(f"/api/v1/way/read-session{_ROW}"), _READ),
    Case("`DbSession`", WAYS, _get(f"/api/v1/way/db-session{_ROW}"), _READ),
    Case(
        "`ReadSession` with `DATABASE_REPLICA_URL`",
        service(program="apps.service", DATABASE_REPLICA_URL="the same server"),
        _get(f"/api/v1/way/read-session{_ROW}"),
        _READ,
    ),
    Case("columns instead of the row", WAYS, _get(f"/api/v1/way/columns{_ROW}"), _READ),
    Case("a `dict` instead of a response model", WAYS, _get(f"/api/v1/way/no-model{_ROW}"), _READ),
    Case("no query at all", WAYS, _get("/api/v1/way/no-database"), _READ),
    Case(_LIST_20, SERVICE, _get(f"{_USERS}?limit=20"), _LIST_20),
    Case("1 row", SERVICE, _get(f"{_USERS}?limit=1"), _LIST_20),
    Case("100 rows", SERVICE, _get(f"{_USERS}?limit=100"), _LIST_20, count=500),
]
