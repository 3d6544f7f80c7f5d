"""Where an error becomes a response: always ``application/problem+json`` (RFC 9457).

Code that finds something wrong raises one of the classes below, from any depth; nothing else in
the service builds an error response.
"""

import json
import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar

import asyncpg
from fastapi import FastAPI, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm.exc import StaleDataError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

logger = logging.getLogger(__name__)

PROBLEM_MEDIA_TYPE = "application/problem+json"

type JsonValue = str | int | float | bool | list[JsonValue] | dict[str, JsonValue] | None


class Problem(Exception):
    """An error that has an answer; subclasses name the status.

    Args:
        detail: A sentence for the caller, about this occurrence. It is public.
        headers: Sent with the answer.
        **members: Further members of the problem document (RFC 9457 §3.2).
    """

    status: int = 500
    # RFC 9457 §4.2.1: about:blank says that the status tells everything about the type.
    type: ClassVar[str] = "about:blank"
    title: ClassVar[str | None] = None

    def __init__(
        self,
        detail: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        **members: JsonValue,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    def response(self) -> Response:
        """Return the problem document; never stored by a cache, because it may say who asked."""
        headers = {"Cache-Control": "no-store"} | self.headers
        if self.status < 200 or self.status in {204, 205, 304}:
            return Response(status_code=self.status, headers=headers)
        content: dict[str, JsonValue] = {
            "type": self.type,
            "title": self.title or _phrase(self.status),
            "status": self.status,
        }
        if self.detail is not None:
            content["detail"] = self.detail
        body = json.dumps(self.members | content, allow_nan=False)
        return Response(body, self.status, headers, media_type=PROBLEM_MEDIA_TYPE)


class BadRequest(Problem):
    """The request cannot be understood."""

    status = 400


class Unauthorized(Problem):
    """The caller has not shown who they are; RFC 9110 §15.5.2 wants a ``WWW-Authenticate``."""

    status = 401


class Forbidden(Problem):
    """The caller is known, and may not."""

    status = 403


class NotFound(Problem):
    """There is no such thing, or the caller may not know of it."""

    status = 404


class Conflict(Problem):
    """The request contradicts what is stored."""

    status = 409


class PreconditionFailed(Problem):
    """The resource is no longer what the caller has read (RFC 9110 §15.5.13)."""

    status = 412


class ContentTooLarge(Problem):
    """The request's body is larger than the service accepts."""

    status = 413


class Unprocessable(Problem):
    """The request is well formed, and its content is not acceptable."""

    status = 422


class PreconditionRequired(Problem):
    """The caller must say which state of the resource the request is about (RFC 6585 §3)."""

    status = 428


class ServiceUnavailable(Problem):
    """Something that the service depends on does not answer; the caller may try again."""

    status = 503
    retry_after: ClassVar[int] = 5

    def __init__(
        self,
        detail: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        **members: JsonValue,
    ) -> None:
        retry = {"Retry-After": str(self.retry_after)}
        super().__init__(detail, headers=retry | dict(headers or {}), **members)


class GatewayTimeout(Problem):
    """Something that the service depends on took too long."""

    status = 504


class DatabaseUnavailable(ServiceUnavailable):
    """No connection to the database could be had; ``reason`` is for the log, not for the caller."""

    type = "urn:problem:database-unavailable"
    title = "Database unavailable"
    retry_after = 1

    def __init__(self, reason: str = "") -> None:
        super().__init__()
        self.reason = reason


class InternalServerError(Problem):
    """A bug. The log has the traceback, the caller only learns that it happened."""


def add_exception_handlers(app: FastAPI) -> None:
    """Answer every exception that leaves a route with a problem document.

    Exceptions that have no handler here are bugs and go on to ``ErrorBoundary``.
    """
    app.add_exception_handler(Problem, _answer_problem)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(StatementError, _answer_database_error)
    app.add_exception_handler(PoolTimeoutError, _answer_database_error)
    app.add_exception_handler(StaleDataError, _answer_database_error)
    app.add_exception_handler(TimeoutError, _answer_database_error)


def problem_from_database_error(error: Exception) -> Problem | None:
    """Return the problem that a database error means to the caller, or None for a bug.

    The first two characters of an SQLSTATE are its class (PostgreSQL's documentation, appendix A).
    """
    if isinstance(error, StaleDataError):
        return Conflict("The resource was changed by somebody else meanwhile; read it again.")
    if isinstance(error, PoolTimeoutError):
        return DatabaseUnavailable("every connection of the pool is in use")
    if isinstance(error, TimeoutError):
        # asyncpg's own limit: the server did not even end the statement when its time was over.
        return GatewayTimeout("The database took too long.")
    if isinstance(error, StatementError) and isinstance(error.orig, ValueError | OverflowError):
        # A type could not even hand the value on: a time without its zone, or beyond the calendar.
        return _Refused()
    if not isinstance(error, DBAPIError):
        return None
    if error.orig and isinstance(error.orig.__cause__, asyncpg.InvalidCachedStatementError):
        # A migration has changed the table; the next attempt asks for the new plan.
        return ServiceUnavailable("The database was changed meanwhile; try again.")
    state = str(getattr(error.orig, "sqlstate", None) or "")
    match state[:2]:
        case "23" if state == "23505":
            return _duplicate(error)
        case "23" if state in {"23001", "23503", "23P01"}:
            return Conflict("The request contradicts what other resources refer to.")
        case "22" | "23" | "44" | "54":
            # 54000: a value is too long for an index. 22000 is the driver's too, for what it could
            # not even write: half a surrogate pair, or 2**31 for an integer.
            return _Refused()
        case "40":
            return ServiceUnavailable("Another request was in the way; try again.")
        case "08" | "53" | "58":
            return DatabaseUnavailable()
        case "25" if state in {"25006", "25P03"}:
            # The primary has become a replica, or the server has ended a session that did nothing.
            return DatabaseUnavailable()
        case "57" | "25" if state in {"57014", "25P04"}:
            return GatewayTimeout("The database took too long.")
        case "57":
            return DatabaseUnavailable()
        case "55" if state == "55P03":
            return ServiceUnavailable("Another request was in the way; try again.")
    return DatabaseUnavailable() if error.connection_invalidated else None


class _Refused(Unprocessable):
    """A value that the schema has let through, and the database has not."""

    def __init__(self) -> None:
        super().__init__("The database refuses a value of the request.")


def _duplicate(error: DBAPIError) -> Conflict:
    # PostgreSQL's DETAIL line repeats the values. The columns are enough, and public already.
    detail = str(getattr(error.orig, "detail", None) or "")
    if isinstance(error, IntegrityError) and (key := re.match(r'Key \(([\w", ]+)\)=', detail)):
        # A column that is called like a word of SQL stands there in quotes.
        columns = key[1].replace('"', "")
        return Conflict(f"There is one already with this {columns}.", fields=[*columns.split(", ")])
    return Conflict("There is one already.")


async def _answer_problem(_connection: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - Starlette's handler type is Exception
    # A socket that is not open yet is refused with the same answer.
    return error.response()


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    problem = Problem(headers=error.headers)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and (methods := _methods(request)):
        problem.headers["Allow"] = ", ".join(methods)
    problem.status = error.status_code
    # Starlette fills an absent detail with the status's phrase, which the title says already.
    if isinstance(error.detail, str):
        problem.detail = None if error.detail == _phrase(error.status_code) else error.detail
    else:
        # FastAPI lets it be any JSON; RFC 9457 §3.1.4 wants a string in this place.
        problem.members = {"errors": jsonable_encoder(error.detail)}
    return problem.response()


def _methods(request: Request) -> list[str]:
    """Return what the request's path allows (RFC 9110 §10.2.1); a route knows only its own."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    allowed: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        if route.methods and route.path_regex.match(path):
            allowed |= route.methods
    return sorted(allowed)


async def _answer_validation_error(request: Request, error: Exception) -> Response:
    """Name each offending place and rule. The input is not repeated: it may be a password."""
    assert isinstance(error, RequestValidationError)  # noqa: S101
    errors: list[JsonValue] = [
        {"location": [_encodable(part) for part in problem["loc"]], "type": problem["type"]}
        for problem in error.errors()
    ]
    detail = "The request does not fit its description."
    if not _is_json(request) and any(problem["loc"] == ("body",) for problem in error.errors()):
        detail = "Send the body as JSON, with the header Content-Type: application/json."
    return Unprocessable(detail, errors=errors).response()


def _is_json(request: Request) -> bool:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


async def _answer_database_error(_request: Request, error: Exception) -> Response:
    problem = problem_from_database_error(error)
    if problem is None:
        raise error
    if isinstance(problem, _Refused) or problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.warning("Database error answered with %s: %s", problem.status, _summary(error))
    return problem.response()


def _phrase(status: int) -> str:
    """Return what RFC 9110 calls a status; not every number has a name."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _summary(error: Exception) -> str:
    """Return the kind of error without the statement's values, which do not belong in a log."""
    cause = getattr(error, "orig", None)
    reason = getattr(cause, "sqlstate", None) or ("" if cause is None else type(cause).__name__)
    return f"{type(error).__name__} {reason}".rstrip()


def _encodable(part: str | int) -> str | int:
    # The name of a member that the caller made up may hold half of a surrogate pair, which
    # no UTF-8 document can carry.
    return part if isinstance(part, int) else part.encode("utf-8", "replace").decode()
