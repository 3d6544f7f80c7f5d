"""Every operation of the service, whether or not the API's description shows it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext, iter_route_contexts
from fastapi.security.base import SecurityBase
from starlette.routing import BaseRoute, Host, Mount, WebSocketRoute
from starlette.staticfiles import StaticFiles

from app.utils.sso.introspection import introspect_token

_UUID = "0198a1b2-0000-7000-8000-000000000000"
_EXAMPLES = {"int": "1", "float": "1.5"}


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of a path, a WebSocket, or a mounted application.

    Args:
        method: ``GET``, ``WEBSOCKET`` or ``MOUNT``, for example.
        path: Such as ``/api/v1/user/{user_id:uuid}``.
        host: The host that it is served for, if not for any.
        scopes: What ``introspect_token`` requires; None if the route does not depend on it.
        has_own_scheme: Whether it depends on another security scheme, such as an API key.
        is_public: Whether it is declared public.
        is_api: Whether it is a route of FastAPI, whose dependencies are known.
    """

    method: str
    path: str
    host: str | None
    scopes: frozenset[str] | None
    has_own_scheme: bool
    is_public: bool
    is_api: bool

    def __str__(self) -> str:
        """Return the method and the path."""
        return f"{self.method} {self.path}"

    @property
    def is_marked(self) -> bool:
        """Whether it requires credentials or is declared public."""
        return self.scopes is not None or self.has_own_scheme or self.is_public

    @property
    def encoded(self) -> str:
        """The path as it is sent, with its parameters still in braces."""
        return quote(self.path, safe="/{}:!$&'()*+,;=@~")

    @property
    def example(self) -> str:
        """A path that leads to it."""
        return re.sub(r"\{\w+(?::(\w+))?\}", lambda it: _EXAMPLES.get(it[1], _UUID), self.encoded)


def operations(app: FastAPI) -> list[Operation]:
    """Return all of them but the documentation pages, which a setting switches off."""
    pages = {app.openapi_url, app.docs_url, app.redoc_url, app.swagger_ui_oauth2_redirect_url}
    found = [it for it in _operations(app.routes, "", None) if it.is_api or it.path not in pages]
    # A HEAD tells no more than the GET of the same path.
    public = {it.path for it in found if it.is_public}
    return [it for it in found if it.method != "HEAD" or it.path not in public]


def all_scopes(app: FastAPI) -> str:
    """Return the scope of a caller who may do everything."""
    return " ".join(sorted({scope for it in operations(app) for scope in it.scopes or ()}))


def _operations(routes: Sequence[BaseRoute], prefix: str, host: str | None) -> Iterator[Operation]:
    for route in iter_route_contexts(routes):
        path = prefix + (route.path or "")
        match route.original_route:
            case Mount(app=StaticFiles()):
                # Static files are public.
                continue
            case Mount(routes=[_, *_] as mounted):
                yield from _operations(mounted, path, host)
            case Host(host=served, routes=[_, *_] as mounted):
                yield from _operations(mounted, prefix, served)
            case Mount() | Host():
                yield _operation(route, "MOUNT", f"{path}/", host)
            case WebSocketRoute():
                yield _operation(route, "WEBSOCKET", path, host)
            case _:
                for method in sorted(route.methods or ()):
                    yield _operation(route, method, path, host)


def _operation(route: RouteContext, method: str, path: str, host: str | None) -> Operation:
    dependant: Dependant | None = getattr(route, "dependant", None)
    parts = [] if dependant is None else list(_flattened(dependant))
    checks = [part for part in parts if part.call is introspect_token]
    scopes = {scope for part in checks for scope in _scopes(part)}
    extra = getattr(route, "openapi_extra", None) or {}
    return Operation(
        method,
        path,
        host,
        scopes=frozenset(scopes) if checks else None,
        has_own_scheme=not checks and any(isinstance(it.call, SecurityBase) for it in parts),
        # Only routes of FastAPI have extras; a function may well be called public_something.
        is_public="security" in extra or (route.name or "").startswith("public:"),
        is_api=dependant is not None,
    )


def _flattened(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for dependency in dependant.dependencies:
        yield from _flattened(dependency)


def _scopes(dependant: Dependant) -> list[str]:
    return [*(dependant.parent_oauth_scopes or ()), *(dependant.own_oauth_scopes or ())]
