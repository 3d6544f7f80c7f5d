"""The token is checked before anything else of a request is looked at.

FastAPI reads a body before it resolves dependencies, and resolves these in the order in which a
route lists them. A caller without a token could so have the service read a megabyte, or learn from
a 422 or 428 what a route expects.
"""

from itertools import chain

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


def check_token_first(app: FastAPI) -> None:
    """Have each route check its token before it reads the body or resolves other dependencies."""
    app.add_exception_handler(TokenRefusedFirst, _answer)
    app.add_middleware(TokenFirst)


async def _answer(_request: Request, error: Exception) -> Response:
    assert isinstance(error, TokenRefusedFirst)  # noqa: S101 - Starlette's handler type
    return error.problem.response()


class TokenFirst:
    """Check the token of a request when its body is first asked for."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        # The scopes that each route needs, by its function, as scope["endpoint"] names it.
        self._scopes: dict[object, list[str]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        app: FastAPI = scope["app"]
        if self._scopes is None:
            # All routes are there by now, also those that the service adds as it starts.
            self._scopes = _put_token_first(app)
        is_first = True

        async def receive_after_token() -> Message:
            nonlocal is_first
            if is_first:
                is_first = False
                await self._check(app, scope)
            return await receive()

        is_http = scope["type"] == "http"
        await self.app(scope, receive_after_token if is_http else receive, send)

    async def _check(self, app: FastAPI, scope: Scope) -> None:
        # Where a test has replaced the check, the route does without it.
        if introspect_token in app.dependency_overrides:
            return
        required = (self._scopes or {}).get(scope.get("endpoint"))
        if required is not None:
            try:
                await introspect_token(HTTPConnection(scope), SecurityScopes(required))
            except Problem as refusal:
                raise TokenRefusedFirst(refusal) from None


def _put_token_first(app: FastAPI) -> dict[object, list[str]]:
    """Sort the dependencies of all routes, and return the scopes of those that need a token."""
    found = dict[object, list[str] | None]()
    for route in iter_route_contexts(app.routes):
        dependant: Dependant | None = getattr(route, "dependant", None)
        required = None if dependant is None else _sort(dependant)
        # Of a function that serves several routes, only what all of them need is known here.
        others = found.setdefault(route.endpoint, required)
        if required is None or others is None:
            found[route.endpoint] = None
        else:
            found[route.endpoint] = [it for it in others if it in required]
    return {endpoint: required for endpoint, required in found.items() if required is not None}


def _sort(dependant: Dependant) -> list[str] | None:
    """Return the scopes that a dependency and its own need; None is that they need no token."""
    required = {id(it): _sort(it) for it in dependant.dependencies}
    dependant.dependencies.sort(key=lambda it: required[id(it)] is None)
    found = [scopes for scopes in required.values() if scopes is not None]
    if dependant.call is introspect_token:
        found.append([*(dependant.parent_oauth_scopes or []), *(dependant.own_oauth_scopes or [])])
    return list(dict.fromkeys(chain.from_iterable(found))) if found else None
