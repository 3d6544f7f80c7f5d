"""How errors are answered."""

import json
from collections.abc import AsyncIterator

import asyncpg
import httpx2
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import HTTPException as FastAPIHTTPException
from pydantic import BaseModel, ConfigDict
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm.exc import StaleDataError
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient, WebSocketDenialResponse

from app.core.errors import (
    Conflict,
    DatabaseUnavailable,
    ServiceUnavailable,
    add_exception_handlers,
    problem_from_database_error,
)
from app.core.middleware import ErrorBoundary
from app.utils.sso.introspection import CurrentToken


class Body(BaseModel):
    number: int


class StrictBody(BaseModel):
    model_config = ConfigDict(extra="forbid")


@pytest.fixture
async def caller() -> AsyncIterator[httpx2.AsyncClient]:
    app = FastAPI(redirect_slashes=False)
    add_exception_handlers(app)
    app.add_middleware(ErrorBoundary)

    @app.get("/conflict")
    async def conflict() -> None:
        raise Conflict("It is taken.", field="name")

    @app.get("/teapot")
    async def teapot() -> None:
        raise HTTPException(418, "short and stout", {"X-Spout": "yes"})

    @app.get("/odd/{status}")
    async def odd(status: int) -> None:
        raise HTTPException(status, "odd")

    @app.get("/structured")
    async def structured() -> None:
        raise FastAPIHTTPException(409, {"reason": "taken"})

    @app.get("/unavailable")
    async def unavailable() -> None:
        raise ServiceUnavailable

    @app.get("/bug")
    async def bug() -> None:
        raise RuntimeError("canary")

    @app.get("/database-bug")
    async def database_bug() -> None:
        raise DBAPIError("SELECT", {}, Exception("canary"))

    @app.get("/refused")
    async def refused() -> None:
        raise IntegrityError("INSERT", {"name": "canary"}, asyncpg.CheckViolationError("canary"))

    @app.post("/")
    async def create(body: Body) -> Body:
        return body

    @app.post("/strict")
    async def create_strictly(_body: StrictBody) -> None: ...

    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_a_problem_has_its_status_its_sentence_and_its_members(
    caller: httpx2.AsyncClient,
) -> None:
    response = await caller.get("/conflict")

    assert response.status_code == 409
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert response.json() == {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "detail": "It is taken.",
        "field": "name",
    }


async def test_an_http_exception_becomes_a_problem_and_keeps_its_headers(
    caller: httpx2.AsyncClient,
) -> None:
    response = await caller.get("/teapot")

    assert response.status_code == 418
    assert response.headers["x-spout"] == "yes"
    assert response.json()["detail"] == "short and stout"


@pytest.mark.parametrize(
    ("status", "title"), [(499, "Error"), (520, "Error"), (402, "Payment Required")]
)
async def test_a_status_without_a_name_is_answered_too(
    caller: httpx2.AsyncClient, status: int, title: str
) -> None:
    response = await caller.get(f"/odd/{status}")
    assert (response.status_code, response.json()["title"]) == (status, title)


async def test_a_status_that_forbids_a_body_gets_none(caller: httpx2.AsyncClient) -> None:
    response = await caller.get("/odd/304")
    assert (response.status_code, response.content) == (304, b"")


async def test_a_detail_that_is_no_sentence_becomes_a_member(caller: httpx2.AsyncClient) -> None:
    body = (await caller.get("/structured")).json()
    assert "detail" not in body
    assert body["errors"] == {"reason": "taken"}


def test_a_web_socket_is_refused_with_the_same_document() -> None:
    app = FastAPI()
    add_exception_handlers(app)

    @app.websocket("/")
    async def socket(_token: CurrentToken) -> None: ...

    with (
        TestClient(app) as client,
        pytest.raises(WebSocketDenialResponse) as caught,
        client.websocket_connect("/"),
    ):
        pass
    assert caught.value.status_code == 401
    assert caught.value.headers["content-type"] == "application/problem+json"


async def test_an_unavailable_service_says_when_to_try_again(caller: httpx2.AsyncClient) -> None:
    response = await caller.get("/unavailable")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "5"


async def test_what_only_the_database_refuses_is_logged_without_its_values(
    caller: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The schema should have refused it: somebody wants to know of what kind it was."""
    response = await caller.get("/refused")
    assert response.status_code == 422
    assert "Database error answered with 422: IntegrityError 23514" in caplog.text
    assert "canary" not in caplog.text + response.text


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nowhere", 404), ("DELETE", "/", 405)]
)
async def test_the_framework_s_own_errors_are_problems_too(
    caller: httpx2.AsyncClient, method: str, path: str, status: int
) -> None:
    response = await caller.request(method, path)

    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert "detail" not in response.json()


async def test_a_method_that_is_not_allowed_is_told_all_that_are() -> None:
    """RFC 9110 §10.2.1; the framework would name those of the first route alone."""
    items = APIRouter()

    @items.get("/{item}")
    @items.delete("/{item}")
    async def one(item: int) -> None: ...

    @items.patch("/{item:int}")
    async def change(item: int) -> None: ...

    app = FastAPI()
    add_exception_handlers(app)
    app.include_router(items, prefix="/items")
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://test"
    ) as client:
        response = await client.put("/items/1")
        other = await client.put("/items/x")

    assert response.status_code == 405
    assert response.headers["allow"] == "DELETE, GET, PATCH"
    assert other.headers["allow"] == "DELETE, GET"


@pytest.mark.parametrize(
    ("body", "location", "kind"),
    [
        ('{"number": "canary"}', ["body", "number"], "int_parsing"),
        ('{"number": NaN}', ["body", "number"], "finite_number"),
        ("{canary", ["body", 1], "json_invalid"),
        ('{"number": [' + "1," * 20 + "1]}", ["body", "number"], "int_type"),
    ],
)
async def test_a_422_names_the_place_and_the_rule_and_not_the_input(
    caller: httpx2.AsyncClient, body: str, location: list[str | int], kind: str
) -> None:
    response = await caller.post("/", content=body, headers={"content-type": "application/json"})

    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["errors"] == [{"location": location, "type": kind}]
    assert "canary" not in response.text


async def test_what_is_said_about_a_request_is_bounded(caller: httpx2.AsyncClient) -> None:
    """Of a megabyte of members that nobody knows, each would be an error with its name."""
    few = {f"canary-{number}": 0 for number in range(99)}
    many = {f"canary-{number}": 0 for number in range(50_000)}
    headers = {"content-type": "application/json"}
    for body in (few, many, {"x" * 900_000: 0}):
        response = await caller.post("/strict", content=json.dumps(body), headers=headers)
        errors = response.json()["errors"]
        assert response.status_code == 422
        assert len(errors) == min(100, len(body))
        assert len(response.content) < 20_000
        is_cut = "100 of 50000" in response.json()["detail"]
        assert is_cut == (body is many)


async def test_a_member_whose_name_utf_8_cannot_write_is_refused_like_any_other() -> None:
    """JSON can escape half of a surrogate pair."""
    app = FastAPI()
    add_exception_handlers(app)

    @app.post("/")
    async def create(body: dict[str, dict[str, int]]) -> None: ...

    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://test"
    ) as client:
        response = await client.post(
            "/", content='{"x": {"a\\ud800": "y"}}', headers={"content-type": "application/json"}
        )
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["type"] == "int_parsing"
    response.json()["errors"][0]["location"][-1].encode()


@pytest.mark.parametrize(
    ("media_type", "is_named"),
    [
        ("application/x-www-form-urlencoded", True),
        ("", True),
        ("application/json; charset=utf-8", False),
        ("application/merge-patch+json", False),
    ],
)
async def test_a_body_that_is_not_called_json_gets_a_sentence_that_says_how(
    caller: httpx2.AsyncClient, media_type: str, is_named: bool
) -> None:
    """It is what curl sends with -d alone."""
    headers = {"content-type": media_type}
    response = await caller.post("/", content='["no object"]', headers=headers)
    assert response.status_code == 422
    assert ("Content-Type: application/json" in response.json()["detail"]) is is_named


@pytest.mark.parametrize("path", ["/bug", "/database-bug"])
async def test_a_bug_is_a_500_that_tells_the_log_and_not_the_caller(
    caller: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    response = await caller.get(path)

    assert response.status_code == 500
    assert response.json() == {
        "type": "about:blank",
        "title": "Internal Server Error",
        "status": 500,
    }
    assert "Traceback" in caplog.text


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (asyncpg.ForeignKeyViolationError("x"), 409),
        (asyncpg.RestrictViolationError("x"), 409),
        (asyncpg.ExclusionViolationError("x"), 409),
        (asyncpg.CheckViolationError("x"), 422),
        (asyncpg.NumericValueOutOfRangeError("x"), 422),
        (asyncpg.DataError("x"), 422),
        (asyncpg.WithCheckOptionViolationError("x"), 422),
        (asyncpg.ProgramLimitExceededError("x"), 422),
        (asyncpg.SerializationError("x"), 503),
        (asyncpg.DeadlockDetectedError("x"), 503),
        (asyncpg.LockNotAvailableError("x"), 503),
        (asyncpg.TooManyConnectionsError("x"), 503),
        (asyncpg.ConnectionDoesNotExistError("x"), 503),
        (asyncpg.AdminShutdownError("x"), 503),
        (asyncpg.ReadOnlySQLTransactionError("x"), 503),
        (asyncpg.IdleInTransactionSessionTimeoutError("x"), 503),
        (asyncpg.DiskFullError("x"), 503),
        (asyncpg.PostgresIOError("x"), 503),
        (asyncpg.CrashShutdownError("x"), 503),
        (asyncpg.QueryCanceledError("x"), 504),
        (asyncpg.TransactionTimeoutError("x"), 504),
    ],
)
def test_an_sqlstate_decides_what_the_caller_learns(error: Exception, status: int) -> None:
    problem = problem_from_database_error(DBAPIError("SELECT", {}, error))
    assert problem is not None
    assert problem.status == status


def test_another_statement_that_the_database_does_not_support_is_a_bug() -> None:
    error = DBAPIError("SELECT", {}, asyncpg.FeatureNotSupportedError("x"))
    assert problem_from_database_error(error) is None


def test_a_connection_that_broke_is_unavailable_even_without_an_sqlstate() -> None:
    error = OperationalError("SELECT", {}, Exception(), connection_invalidated=True)
    problem = problem_from_database_error(error)
    assert problem is not None
    assert problem.status == 503


def test_a_statement_that_the_server_did_not_even_end_is_a_timeout() -> None:
    problem = problem_from_database_error(TimeoutError())
    assert problem is not None
    assert problem.status == 504


@pytest.mark.parametrize("reason", [ValueError("no zone"), OverflowError("year 10000")])
def test_a_value_that_no_type_could_hand_on_is_refused(reason: Exception) -> None:
    problem = problem_from_database_error(StatementError("x", "INSERT", {}, reason))
    assert problem is not None
    assert problem.status == 422
    assert problem_from_database_error(StatementError("x", "INSERT", {}, KeyError())) is None


def test_a_stale_row_is_a_conflict() -> None:
    problem = problem_from_database_error(StaleDataError())
    assert problem is not None
    assert problem.status == 409


def test_a_duplicate_is_a_conflict_even_where_the_database_does_not_say_of_what() -> None:
    error = IntegrityError("INSERT", {}, asyncpg.UniqueViolationError("x"))
    problem = problem_from_database_error(error)
    assert problem is not None
    assert (problem.status, problem.members) == (409, {})


@pytest.mark.parametrize(
    ("key", "fields"),
    [
        ("(email)=(canary@example.com)", ["email"]),
        ('(tenant, "order")=(1, canary)', ["tenant", "order"]),
        ("(lower(email))=(canary@example.com)", None),
    ],
)
def test_a_duplicate_names_the_columns_and_not_the_values(
    key: str, fields: list[str] | None
) -> None:
    cause = asyncpg.UniqueViolationError("x")
    cause.detail = f"Key {key} already exists."
    problem = problem_from_database_error(IntegrityError("INSERT", {}, cause))
    assert problem is not None
    assert problem.status == 409
    assert problem.members.get("fields") == fields
    assert "canary" not in str(problem.detail)


def test_a_pool_without_a_free_connection_is_unavailable() -> None:
    problem = problem_from_database_error(PoolTimeoutError())
    assert isinstance(problem, DatabaseUnavailable)


def test_a_syntax_error_is_a_bug() -> None:
    error = DBAPIError("SELEC", {}, asyncpg.PostgresSyntaxError("x"))
    assert problem_from_database_error(error) is None
    assert problem_from_database_error(ValueError()) is None


def test_no_member_says_something_else_about_the_status() -> None:
    document = json.loads(bytes(Conflict("It is taken.", status=200).response().body))
    assert document["status"] == 409


def test_problems_are_valid_json_even_with_odd_members() -> None:
    response = Conflict("\u2028 \ud800", list=[1, None]).response()
    assert json.loads(bytes(response.body))["list"] == [1, None]
