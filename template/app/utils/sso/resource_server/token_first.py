"""The token is checked before anything else of a request is looked at.

FastAPI reads a body before it resolves dependencies, and resolves these in the order in which a
route lists them. A caller without a token could so have the service read a megabyte, or learn from
a 422 or 428 what a route expects.
"""

from itertools import chain
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from fastapi.security import SecurityScopes
from starlette.requests import HTTPConnection
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from app.utils.sso.introspection import introspect_token


class TokenFirst:
    """Has the routes of the application, of whichever router, check their token first.

    They are those that are there when the first request comes. A route that is added later checks
    its token where it lists it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._is_done = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if not self._is_done and scope["type"] != "lifespan":
            self._is_done = True
            _check_first(scope["app"])
        await self.app(scope, receive, send)


def _check_first(app: FastAPI) -> None:
    for context in iter_route_contexts(app.routes):
        # What FastAPI calls for this route, in this inclusion of its router.
        route: Any = context._effective_route
        required = _required_scopes(getattr(route, "dependant", None))
        if required is not None:
            route.app = _checked(app, route.app, required)
        elif isinstance(route, Mount) and isinstance(route.app, FastAPI):
            _check_first(route.app)


def _checked(app: FastAPI, route: ASGIApp, required: list[str]) -> ASGIApp:
    async def check_and_handle(scope: Scope, receive: Receive, send: Send) -> None:
        # Where a test replaces dependencies, the token may be checked by one of them, or not at
        # all. The route does as it says.
        if not app.dependency_overrides:
            await introspect_token(HTTPConnection(scope), SecurityScopes(required))
        await route(scope, receive, send)

    return check_and_handle


def _required_scopes(dependant: Dependant | None) -> list[str] | None:
    """Return the scopes that a route needs; None is that it needs no token."""
    if dependant is None:
        return None
    needed = (_required_scopes(it) for it in dependant.dependencies)
    found = [scopes for scopes in needed if scopes is not None]
    if dependant.call is introspect_token:
        found.append([*(dependant.parent_oauth_scopes or []), *(dependant.own_oauth_scopes or [])])
    return list(dict.fromkeys(chain.from_iterable(found))) if found else None
