"""Routing whose cost does not grow with the number of resources."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import Any

from fastapi import APIRouter, FastAPI, params
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette._utils import get_route_path
from starlette.datastructures import URLPath
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import Receive, Scope, Send


class RouteIndex(BaseRoute):
    """Leads a request straight to its route, by the segments that its path begins with.

    FastAPI tries all routes in turn, those of an included router twice at each level, which beside
    a hundred resources costs several times the request itself. This route stands before them all,
    and tries those that can match, in their order. If it leads all of these, it also answers when
    none matches. Whatever it does not lead is routed as ever: a mount, a WebSocket, a route that
    was added to a router later.

    Of a request that is led, ``scope["route"].path`` is the whole path, with all prefixes.
    """

    # What FastAPI's telemetry reads as soon as ``matches`` has returned.
    path_format: str | None = None

    def __init__(self, router: APIRouter) -> None:
        self._router = router
        self._indexed: list[BaseRoute] = []
        self._by_prefix: dict[str, list[RouteContext]] = {}
        self._led: dict[str, list[RouteContext]] = {}
        self._depth = 0
        self._routers: list[APIRouter] = []
        self._versions: list[int] = []
        self._has_frontend = False

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match what the first route that matches does, or what none does, if it is known."""
        if scope["type"] != "http":
            return Match.NONE, {}
        if self._indexed != self._router.routes:
            self._index()
        prefix = self._prefix(get_route_path(scope))
        found: tuple[RouteContext, Scope] | None = None
        for route in self._led.get(prefix, ()):
            match, child_scope = route.matches(scope)
            if match is Match.FULL:
                found = route, child_scope
                break
            if match is Match.PARTIAL and found is None:
                found = route, child_scope
        else:
            if not self._leads_all(prefix):
                return Match.NONE, {}
        if found is None:
            self.path_format = None
            return Match.FULL, {}
        route, child_scope = found
        self.path_format = route.path_format
        return Match.FULL, {**child_scope, "route": route}

    @property
    def path(self) -> str | None:
        """What other instrumentations read then."""
        return self.path_format

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request that matches."""
        route = scope.get("route")
        if not isinstance(route, RouteContext):
            await self._router.default(scope, receive, send)
        elif route.methods and scope["method"] not in route.methods:
            raise HTTPException(405, headers={"Allow": ", ".join(route.methods)})
        else:
            await route.app(scope, receive, send)

    def candidates(self, path: str) -> Iterable[RouteContext]:
        """Return, in their order, at least those routes that match a path."""
        if self._indexed != self._router.routes or self._has_late_routes():
            return iter_route_contexts(self._router.routes)
        return self._by_prefix.get(self._prefix(path), ())

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:  # noqa: ANN401
        """Leave the answer to the routes behind this one."""
        raise NoMatchFound(name, path_params)

    def _index(self) -> None:
        """Note for each prefix without parameters the routes that paths below it can match.

        Those that are led end before the first one to which a request cannot be led.
        """
        self._indexed = [*self._router.routes]
        self._routers = [*_with_included(self._router)]
        self._versions = [it._routes_version for it in self._routers]
        # Files that are looked for after all routes.
        self._has_frontend = any(it._low_priority_routes for it in self._routers)
        found = defaultdict[str, list[tuple[int, RouteContext]]](list)
        others = [it for it in self._router.routes if it is not self]
        for number, route in enumerate(iter_route_contexts(others)):
            found[_literal(route.path or "")].append((number, route))
        self._depth = max((it.count("/") for it in found), default=0) + 1
        self._by_prefix, self._led = {}, {}
        for prefix in found:
            segments = prefix.split("/")
            above = ["/".join(segments[: size + 1]) for size in range(len(segments))]
            numbered = dict(pair for it in above for pair in found.get(it, ()))
            self._by_prefix[prefix] = [numbered[it] for it in sorted(numbered)]
            self._led[prefix] = [*takewhile(_is_led, self._by_prefix[prefix])]

    def _prefix(self, path: str) -> str:
        """Return the longest prefix of a path for which there are routes, or nothing."""
        # A regular expression for a path allows for a newline behind it.
        segments = path.removesuffix("\n").split("/", self._depth)
        prefix = "/".join(segments[: self._depth])
        while prefix and prefix not in self._by_prefix:
            prefix = prefix.rpartition("/")[0]
        return prefix

    def _leads_all(self, prefix: str) -> bool:
        """Whether FastAPI has nothing for paths with this prefix but the routes that are led."""
        return (
            len(self._led.get(prefix, ())) == len(self._by_prefix.get(prefix, ()))
            and not self._has_late_routes()
            and not self._router.redirect_slashes
            and not self._has_frontend
        )

    def _has_late_routes(self) -> bool:
        return [it._routes_version for it in self._routers] != self._versions


def routes_for(app: FastAPI, path: str) -> Iterable[RouteContext]:
    """Return, in their order, at least those routes of an application that match a path."""
    for route in app.routes:
        if isinstance(route, RouteIndex):
            return route.candidates(path)
    return iter_route_contexts(app.routes)


def route_path(scope: Scope) -> str:
    """Return what the log calls a request: its route, because a path has callers' data in it."""
    # A plain route of Starlette, such as that of /docs, is known by its function only.
    function = getattr(scope.get("endpoint"), "__name__", "(no route)")
    path: str = getattr(scope.get("route"), "path", function)
    return path


def _with_included(router: APIRouter) -> Iterator[APIRouter]:
    yield router
    for route in router.routes:
        if included := getattr(route, "original_router", None):
            yield from _with_included(included)


def _literal(path: str) -> str:
    """Return the segments of a path before the first with a parameter."""
    return "/".join(takewhile(lambda segment: "{" not in segment, path.split("/")))


def _is_led(context: RouteContext) -> bool:
    """Whether FastAPI would do nothing for this route but match its path and call its app."""
    route = context.original_route
    return (
        isinstance(route, APIRoute)
        and type(route).matches is APIRoute.matches
        and type(route).handle is APIRoute.handle
        # Routers on the way set the limits of a form.
        and not (context.body_field and isinstance(context.body_field.field_info, params.Form))
    )
