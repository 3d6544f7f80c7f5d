"""Errors, and their responses: always ``application/problem+json`` (RFC 9457).

Code raises one of the classes below, from any depth. No other module builds an error response.
"""

import json
import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from http.client import responses
from typing import ClassVar

import asyncpg
from fastapi import FastAPI, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from opentelemetry.metrics import get_meter
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError, IntegrityError, MissingGreenlet, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm.exc import StaleDataError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from app.core.project import DOCUMENTATION
from app.core.request_log import REQUEST
from app.core.routing import routes_for

logger = logging.getLogger(__name__)

PROBLEM_MEDIA_TYPE = "application/problem+json"
_SERVER_ERRORS = get_meter("app.core").create_counter(
    "app.server_errors",
    unit="{response}",
    description="Responses of 500 and more, by their cause",
)
_CONCURRENT = "A concurrent request was in the way; try again."
# What is said about an invalid request is bounded: a small body may have a hundred thousand unknown
# members, a large one a single name, and a nested one a long way to each error.
_MAX_ERRORS = 100
_MAX_NAME = 100
_MAX_DEPTH = 20
_UNSTORABLE = "The database cannot store a value of the request."

type JsonValue = str | int | float | bool | list[JsonValue] | dict[str, JsonValue] | None


class Problem(Exception):
    """An error that is answered with a problem document; subclasses set the status.

    Args:
        detail: A sentence for the caller about this occurrence. It is public.
        headers: Sent with the response.
        **members: Extension members of the problem document (RFC 9457 §3.2).
    """

    status: int = 500
    # RFC 9457 §4.2.1: about:blank means that the type says no more than the status.
    type: ClassVar[str] = "about:blank"
    title: ClassVar[str | None] = None
    # In seconds, for the header Retry-After.
    retry_after: ClassVar[int | None] = None

    def __init__(
        self,
        detail: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        **members: JsonValue,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        retry = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        self.headers = retry | dict(headers or {})
        self.members = members

    def response(self) -> Response:
        """Return the response. No cache may store it, because it may be about the caller."""
        if self.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            cause = self._cause()
            _SERVER_ERRORS.add(1, {"http.response.status_code": self.status, "error.type": cause})
            # The line of the request names it too, long after the one about an outage.
            if (request := REQUEST.get(None)) is not None:
                request["problem"] = cause
        headers = {"Cache-Control": "no-store"} | self.headers
        if self.status < 200 or self.status in {204, 205, 304}:
            return Response(status_code=self.status, headers=headers)
        content: dict[str, JsonValue] = {
            "type": self.type,
            # Not every number has a reason phrase.
            "title": self.title or responses.get(self.status, "Error"),
            "status": self.status,
        }
        if self.detail is not None:
            content["detail"] = self.detail
        body = json.dumps(self.members | content, allow_nan=False)
        return Response(body, self.status, headers, media_type=PROBLEM_MEDIA_TYPE)

    def _cause(self) -> str:
        """Return the last part of the type, such as ``database-unavailable``."""
        if self.type != "about:blank":
            return re.split("[/:#]", self.type.rstrip("/#"))[-1]
        if self.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            return "bug"
        return responses.get(self.status, "error").lower().replace(" ", "-")


class BadRequest(Problem):
    """The request cannot be understood."""

    status = 400


class Unauthorized(Problem):
    """The caller is not authenticated; RFC 9110 §15.5.2 requires ``WWW-Authenticate``."""

    status = 401


class Forbidden(Problem):
    """The caller is authenticated, but not allowed to do this."""

    status = 403


class NotFound(Problem):
    """The resource does not exist, or its existence is hidden from the caller."""

    status = 404


class Conflict(Problem):
    """The request conflicts with what is stored."""

    status = 409


class PreconditionFailed(Problem):
    """The resource has changed since the caller read it (RFC 9110 §15.5.13)."""

    status = 412


class ContentTooLarge(Problem):
    """The request's body is larger than the service accepts."""

    status = 413


class Unprocessable(Problem):
    """The request is well formed, but its content is invalid."""

    status = 422


class PreconditionRequired(Problem):
    """The request must name the state of the resource that it is about (RFC 6585 §3)."""

    status = 428


class RequestTimeout(Problem):
    """The request has not arrived in the time that it may take."""

    status = 408


class RequestHeaderFieldsTooLarge(Problem):
    """The request line and the headers are more than the server accepts (RFC 6585 §5)."""

    status = 431


class ServiceUnavailable(Problem):
    """A dependency of the service does not answer; the caller may retry."""

    status = 503
    retry_after = 5


class GatewayTimeout(Problem):
    """A dependency of the service took too long."""

    status = 504


class DeadlineExceeded(GatewayTimeout):
    """The request was ended because it took too long."""

    type = "urn:problem:deadline-exceeded"
    title = "Deadline exceeded"

    def __init__(self) -> None:
        super().__init__("The request took too long, and was ended before it was complete.")


class OutcomeUnknown(GatewayTimeout):
    """What was written may be stored or not: nobody has answered the COMMIT."""

    type = "urn:problem:outcome-unknown"
    title = "Outcome unknown"

    def __init__(self) -> None:
        super().__init__(
            "Whether the request was carried out is unknown. Read what it was to change before you"
            " send it again."
        )


class DatabaseUnavailable(ServiceUnavailable):
    """The database could not be reached; ``reason`` is for the log, not for the caller."""

    type = "urn:problem:database-unavailable"
    title = "Database unavailable"
    retry_after = 1

    def __init__(self, reason: str = "") -> None:
        super().__init__()
        self.reason = reason


class InternalServerError(Problem):
    """A bug. The log has the traceback; the caller only learns that it happened."""


def add_exception_handlers(app: FastAPI) -> None:
    """Answer the exceptions that routes raise with problem documents.

    An exception without a handler here is a bug, and is left to ``ErrorBoundary``.
    """
    app.add_exception_handler(Problem, _answer_problem)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    for error in (StatementError, PoolTimeoutError, StaleDataError, TimeoutError):
        app.add_exception_handler(error, _answer_database_error)


def problem_from_database_error(error: Exception) -> Problem | None:
    """Return what a database error means to the caller, or None if it is a bug.

    The first two characters of an SQLSTATE are its class (PostgreSQL's documentation, appendix A).
    """
    if isinstance(error, StaleDataError):
        return Conflict("The resource has been changed by another request; read it again.")
    if isinstance(error, PoolTimeoutError):
        return DatabaseUnavailable("all connections of the pool are in use")
    if isinstance(error, TimeoutError):
        # asyncpg's own timeout: the server did not cancel the statement at its statement_timeout.
        return GatewayTimeout("The database took too long.")
    if isinstance(error, StatementError) and isinstance(error.orig, ValueError | OverflowError):
        # A column type could not convert the value, such as a time without a zone.
        return Unprocessable(_UNSTORABLE)
    if not isinstance(error, DBAPIError):
        return None
    if error.orig and isinstance(error.orig.__cause__, asyncpg.InvalidCachedStatementError):
        # A migration has changed the table; the next attempt prepares the statement again.
        return ServiceUnavailable("The database schema has just changed; try again.")
    state = str(getattr(error.orig, "sqlstate", None) or "")
    match state[:2]:
        case "23" if state == "23505":
            return _duplicate(error)
        case "23" if state in {"23001", "23503", "23P01"}:
            return Conflict("The request conflicts with references between resources.")
        case "22" | "23" | "44" | "54":
            # 54000: a value is too long for an index. asyncpg raises 22000 itself for a value that
            # it cannot encode, such as a lone surrogate, or 2**31 for an integer.
            return Unprocessable(_UNSTORABLE)
        case "40":
            return ServiceUnavailable(_CONCURRENT)
        case "08" | "53" | "58":
            return DatabaseUnavailable()
        case "25" if state in {"25006", "25P03"}:
            # The primary has become a replica, or the server has ended an idle transaction.
            return DatabaseUnavailable()
        case "57" | "25" if state in {"57014", "25P04"}:
            return GatewayTimeout("The database took too long.")
        case "57":
            return DatabaseUnavailable()
        case "55" if state == "55P03":
            return ServiceUnavailable(_CONCURRENT)
    return DatabaseUnavailable() if error.connection_invalidated else None


def _duplicate(error: DBAPIError) -> Conflict:
    # PostgreSQL's DETAIL repeats the values, which stay private; the columns are public already.
    detail = str(getattr(error.orig, "detail", None) or "")
    if isinstance(error, IntegrityError) and (key := re.match(r'Key \(([\w", ]+)\)=', detail)):
        # A column whose name is an SQL keyword is quoted.
        columns = key[1].replace('"', "")
        return Conflict(
            f"A resource with this {columns} already exists.", fields=[*columns.split(", ")]
        )
    return Conflict("Such a resource already exists.")


def explain_bug(error: Exception) -> str:
    """Return what a developer should know about a bug, in addition to its traceback.

    SQLAlchemy says of a relation that was not loaded with its row, and that an async session does
    not load when it is read: "greenlet_spawn has not been called".
    """
    places: list[str] = []
    if isinstance(error, ValidationError | ResponseValidationError):
        problems = error.errors()
        unread = [it["loc"] for it in problems if "MissingGreenlet" in it["msg"]]
        places = [".".join(str(part) for part in place) for place in unread]
        for problem in problems:
            # FastAPI's message has the rows otherwise.
            problem.pop("input", None)  # type: ignore[misc]
    elif isinstance(error, MissingGreenlet):
        places = ["an attribute of a row"]
    if not places:
        return ""
    return (
        f": {places[0]} was read, but not loaded with its row. Declare the relation with "
        'sa_relationship_kwargs={"lazy": "selectin"}, or add selectinload() to the query; see '
        f"{DOCUMENTATION}/add-a-resource.md#return-a-relation"
    )


async def _answer_problem(_connection: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - Starlette's handler type is Exception
    # A WebSocket that has not been accepted is denied with the same response.
    return error.response()


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    problem = Problem(headers=error.headers)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and (methods := _methods(request)):
        problem.headers["Allow"] = ", ".join(methods)
    problem.status = error.status_code
    # Without an endpoint, it is the router that has found nothing.
    if error.status_code == HTTPStatus.NOT_FOUND and "endpoint" not in request.scope:
        problem.detail = _other_address(request)
    # Starlette's default for detail is the status phrase, which is the title already.
    elif isinstance(error.detail, str):
        problem.detail = None if error.detail == responses.get(error.status_code) else error.detail
    else:
        # FastAPI allows any JSON as detail; RFC 9457 §3.1.4 wants a string.
        problem.members = {"errors": jsonable_encoder(error.detail)}
    return problem.response()


def _methods(request: Request) -> list[str]:
    """Return the methods of all routes with the request's path (RFC 9110 §10.2.1)."""
    path = _route_path(request)
    allowed: set[str] = set()
    for route in routes_for(request.app, path):
        if route.methods and route.path_regex.match(path):
            allowed |= route.methods
    return sorted(allowed)


def _route_path(request: Request) -> str:
    path: str = request.scope["path"]
    return path.removeprefix(request.scope.get("root_path", ""))


def _other_address(request: Request) -> str | None:
    """Say which address differs from the request's by the slash at its end only.

    A redirect to it would repeat the Host header of the request, which anybody can write.
    """
    path = _route_path(request)
    other = path.rstrip("/") if path.endswith("/") else path + "/"
    for route in routes_for(request.app, other):
        regex: re.Pattern[str] | None = getattr(route, "path_regex", None)
        if regex and route.path and regex.fullmatch(other):
            # Without the types of parameters; and a mount's path has no slash at its end.
            named = re.sub(r":\w+}", "}", route.path).rstrip("/")
            ending = "/" if other.endswith("/") else ""
            address = request.scope.get("root_path", "") + named + ending
            return f"There is nothing at this address; the right one is {address}"
    return None


async def _answer_validation_error(request: Request, error: Exception) -> Response:
    """Name the location and type of each error, and not the input, which may be a password."""
    assert isinstance(error, RequestValidationError)  # noqa: S101
    found = error.errors()
    errors: list[JsonValue] = [
        {
            "location": [_shortened(it) for it in problem["loc"][:_MAX_DEPTH]],
            "type": problem["type"],
        }
        for problem in found[:_MAX_ERRORS]
    ]
    detail = "The request is invalid."
    if len(found) > _MAX_ERRORS:
        detail = (
            f"The request is invalid; these are the first {_MAX_ERRORS} of {len(found)} errors."
        )
    if not _is_json(request) and any(problem["loc"] == ("body",) for problem in found):
        detail = "Send the body as JSON, with the header Content-Type: application/json."
    return Unprocessable(detail, errors=errors).response()


def _shortened(part: str | int) -> str | int:
    return part[:_MAX_NAME] if isinstance(part, str) else part


def _is_json(request: Request) -> bool:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


async def _answer_database_error(_request: Request, error: Exception) -> Response:
    problem = problem_from_database_error(error)
    if problem is None:
        raise error
    # The schema of the body should have rejected what is a 422 only here.
    if isinstance(problem, Unprocessable) or problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        # A message of its own, so that a flood of one kind hides no other.
        line = f"Database error answered with {problem.status}: {_summary(error)}"
        logger.warning(line)
    return problem.response()


def _summary(error: Exception) -> str:
    """Return the kind of the error; its message may contain values, which stay out of logs."""
    cause = getattr(error, "orig", None)
    reason = getattr(cause, "sqlstate", None) or ("" if cause is None else type(cause).__name__)
    return f"{type(error).__name__} {reason}".rstrip()
