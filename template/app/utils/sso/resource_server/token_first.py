"""The token is checked before anything else of a request is looked at.

FastAPI reads a body before it resolves dependencies, and resolves these in the order in which a
route lists them. A caller without a token could so have the service read a megabyte, or learn from
a 422 or 428 what a route expects.
"""

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import HTTPException
from fastapi.routing import iter_route_contexts
from fastapi.security import SecurityScopes
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.errors import Problem
from app.utils.sso.introspection import introspect_token


class TokenRefusedFirst(HTTPException):
    """A refusal that FastAPI lets through where it reads a body; other exceptions become a 400."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.status)
        self.problem = problem


async def answer_token_refused_first(_request: Request, error: Exception) -> Response:
    """Answer with the problem document of the refusal."""
    assert isinstance(error, TokenRefusedFirst)  # noqa: S101 - Starlette's handler type
    return error.problem.response()


def put_token_first(app: FastAPI) -> frozenset[object]:
    """Have each route check its token before its other dependencies.

    Returns:
        The functions of all routes that need a token, as ``scope["endpoint"]`` names them.
    """
    endpoints: set[object] = set()
    for route in iter_route_contexts(app.routes):
        dependant: Dependant | None = getattr(route, "dependant", None)
        if dependant is not None and _put_first(dependant):
            endpoints.add(route.endpoint)
    return frozenset(endpoints)


def _put_first(dependant: Dependant) -> bool:
    """Sort the dependencies, and return whether one of them, or of theirs, needs a token."""
    needing = {id(it) for it in dependant.dependencies if _put_first(it)}
    dependant.dependencies.sort(key=lambda it: id(it) not in needing)
    return bool(needing) or dependant.call is introspect_token


class TokenFirst:
    """Check the token of a request when its body is first asked for."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_first = True

        async def receive_after_token() -> Message:
            nonlocal is_first
            if is_first:
                is_first = False
                await _check(scope)
            return await receive()

        await self.app(scope, receive_after_token, send)


async def _check(scope: Scope) -> None:
    app: FastAPI = scope["app"]
    # Where a test has replaced the check, the route does without it.
    if introspect_token in app.dependency_overrides:
        return
    if scope.get("endpoint") in app.state.endpoints_with_token:
        try:
            await introspect_token(HTTPConnection(scope), SecurityScopes())
        except Problem as refusal:
            raise TokenRefusedFirst(refusal) from None
