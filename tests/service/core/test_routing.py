"""A request that is led straight to its route gets the answer that it would get anyway."""

from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import override
from uuid import UUID

import httpx2
import pytest
from fastapi import APIRouter, FastAPI, Request, WebSocket
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Router
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from app.core.errors import add_exception_handlers
from app.core.routing import RouteIndex

type Part = Callable[[FastAPI], None]


def including(name: str, prefix: str, *paths: str) -> Part:
    """Return what includes a router, whose routes say their name and path."""

    def include(app: FastAPI) -> None:
        router = APIRouter()
        for path in paths:
            router.add_api_route(path, _answering(name), methods=["GET"])
        router.add_api_route("/posted", _answering(name), methods=["POST"])
        app.include_router(router, prefix=prefix)

    return include


def nesting(*parts: Part) -> Part:
    """Return what includes a router that has all of these below /api."""

    def include(app: FastAPI) -> None:
        inner = FastAPI()
        for part in parts:
            part(inner)
        outer = APIRouter()
        outer.routes.extend(it for it in inner.router.routes if hasattr(it, "include_context"))
        app.include_router(outer, prefix="/api")

    return include


def mounting(path: str) -> Part:
    """Return what mounts another application."""
    return lambda app: app.router.routes.append(Mount(path, app=PlainTextResponse("mounted")))


def hosting(app: FastAPI) -> None:
    """Have another application answer for a host."""
    app.router.routes.append(Host("other", Router(default=PlainTextResponse("hosted"))))


def fronting(app: FastAPI) -> None:
    """Serve files where no route matches."""
    app.frontend("/files", directory=Path(__file__).parent, check_dir=False)


def _answering(name: str) -> Callable[[Request], object]:
    async def answer(request: Request) -> dict[str, object]:
        return {"name": name, "path": request.scope["path"], **request.path_params}

    return answer


USER = including("user", "/user", "/", "/me", "/{key}")
GROUP = including("group", "/user-group", "/", "/{key}")
OTHER = including("other", "/user", "/other", "/{key}/{part}")
ANY = including("any", "/{tenant}", "/", "/me")
ALL = including("all", "", "/{rest:path}")
DEEP = including("deep", "/user/{key}/deep", "/", "/me")
TYPED = including("typed", "/user", "/{key:uuid}", "/{number:int}", "/{rest:path}")

APPS: dict[str, list[Part]] = {
    f"{label} {number}": [*order]
    for label, parts in {
        "prefixes": [USER, GROUP, OTHER],
        "types": [USER, TYPED, DEEP],
        "parameters": [USER, ANY, DEEP],
        "catch-all": [USER, ALL],
        "mount": [USER, mounting("/user")],
        "host": [USER, hosting],
        "frontend": [USER, GROUP, fronting],
        "nested": [nesting(USER, OTHER), nesting(GROUP, ANY), including("api", "/api", "/{a}/{b}")],
    }.items()
    for number, order in enumerate(permutations(parts))
}
PATHS = ["/user", "/user/", "/user/me", "/user/1", "/user/other", "/user/posted", "/user/1/deep"]
PATHS += [
    f"/user/{UUID(int=1)}",
    "/user/1/deep/me",
    "/user-group/",
    "/user-group/2",
    "/us/",
    "/",
    "//user/me",
    "/nobody",
    "/nobody/at/all/",
    "/user/me/",
    "/user/me//",
    "/user/me%0A",
    "/user/me%0A%0A",
    f"/files/{Path(__file__).name}",
]


def build(parts: list[Part]) -> FastAPI:
    app = FastAPI(redirect_slashes=False)
    add_exception_handlers(app)
    for part in parts:
        part(app)
    return app


type Answer = tuple[int, list[tuple[str, str]], str]


async def answers(app: FastAPI, root_path: str = "") -> dict[str, Answer]:
    transport = httpx2.ASGITransport(app, root_path=root_path)
    found = {}
    async with httpx2.AsyncClient(transport=transport) as client:
        for method in ("GET", "HEAD", "POST", "PUT"):
            for host in ("test", "other"):
                for path in [*PATHS, *(f"/api{it}" for it in PATHS)]:
                    url = f"http://{host}{root_path}{path}"
                    response = await client.request(method, url)
                    found[f"{method} {url}"] = (
                        response.status_code,
                        response.headers.multi_items(),
                        response.text,
                    )
    return found


@pytest.mark.parametrize("parts", APPS.values(), ids=APPS)
async def test_the_answer_is_the_same(parts: list[Part]) -> None:
    plain, led = build(parts), build(parts)
    led.router.routes.insert(0, RouteIndex(led.router))
    assert await answers(led) == await answers(plain)


async def test_it_is_the_same_below_the_path_of_a_proxy() -> None:
    plain, led = build([USER, GROUP]), build([USER, GROUP])
    led.router.routes.insert(0, RouteIndex(led.router))
    found = await answers(led, root_path="/orders")
    assert found == await answers(plain, root_path="/orders")
    assert found["GET http://test/orders/user/me"][0] == 200


async def test_only_the_routes_below_its_own_prefix_are_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cost of a request does not depend on how many other resources there are."""
    resources = [including(f"{it}", f"/thing-{it}", "/", "/{key}") for it in range(50)]
    # The routes of the probes stand in a router without a prefix.
    app = build([including("probes", "", "/livez"), nesting(*resources)])
    app.router.routes.insert(0, RouteIndex(app.router))
    tried: list[object] = []
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as client:
        await client.get("http://test/api/thing-1/")
        contexts = [it for it in iter_route_contexts(app.routes[1:]) if "thing" in (it.path or "")]
        for kind in {type(app.routes[-1]), type(contexts[0]._effective_route)}:
            monkeypatch.setattr(kind, "matches", _counting(kind.matches, tried))
        for number in (0, 49):
            tried.clear()
            response = await client.get(f"http://test/api/thing-{number}/a")
            assert response.json()["name"] == f"{number}"
            assert len(tried) == 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/thing-7/a/b", 404),
        ("GET", "/api/thing-7", 404),
        ("GET", "/nobody", 404),
        ("DELETE", "/api/thing-7/a", 405),
    ],
)
async def test_neither_are_more_tried_where_none_matches(
    monkeypatch: pytest.MonkeyPatch, method: str, path: str, status: int
) -> None:
    """Such a request needs no token, so that it must not be the dearest."""
    resources = [including(f"{it}", f"/thing-{it}", "/", "/{key}") for it in range(50)]
    app = build([including("probes", "", "/livez"), nesting(*resources)])
    app.router.routes.insert(0, RouteIndex(app.router))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as client:
        await client.get("http://test/api/thing-1/")
        tried: list[object] = []
        contexts = [it for it in iter_route_contexts(app.routes[1:]) if "thing" in (it.path or "")]
        for kind in {type(app.routes[-1]), type(contexts[0]._effective_route)}:
            monkeypatch.setattr(kind, "matches", _counting(kind.matches, tried))
        monkeypatch.setattr("app.core.routing.iter_route_contexts", _refusing)
        response = await client.request(method, f"http://test{path}")
        assert response.status_code == status
        assert response.headers["content-type"] == "application/problem+json"
        # The routes of one resource at most.
        assert len(tried) <= 3


async def test_a_path_without_a_route_gets_the_answer_of_the_router() -> None:
    app = build([USER])
    app.router.routes.insert(0, RouteIndex(app.router))
    app.router.default = PlainTextResponse("nothing", 410)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as client:
        assert (await client.get("http://test/nobody")).status_code == 410


async def test_a_route_knows_its_whole_path() -> None:
    """Metrics and logs group requests by it."""
    app = build([nesting(USER)])
    app.router.routes.insert(0, RouteIndex(app.router))
    found: list[object] = []

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)
        found.append((scope["route"].path, scope["endpoint"].__name__))

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(noting)) as client:
        await client.get("http://test/api/user/1")
        await client.get("http://test/api/user/me")
    assert found == [("/api/user/{key}", "answer"), ("/api/user/me", "answer")]


async def test_the_address_of_a_route_is_found_by_its_name() -> None:
    app = build([nesting(USER)])
    app.router.routes.insert(0, RouteIndex(app.router))

    @app.get("/address")
    async def address(request: Request) -> str:
        return str(request.url_for("answer", key="1"))

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as client:
        assert (await client.get("http://test/address")).json() == "http://test/api/user/1"


async def test_telemetry_learns_the_whole_path(monkeypatch: pytest.MonkeyPatch) -> None:
    app = build([nesting(USER)])
    app.router.routes.insert(0, RouteIndex(app.router))
    selected: list[object] = []

    def select(*, path: str | None, **_: object) -> None:
        selected.append(path)

    monkeypatch.setattr("fastapi.routing._route_selected", select)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as client:
        await client.get("http://test/api/user/1")
    assert selected == ["/api/user/{key}"]


async def test_a_route_that_is_added_later_is_found() -> None:
    app = build([USER])
    app.router.routes.insert(0, RouteIndex(app.router))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as client:
        assert (await client.get("http://test/user/1")).json()["name"] == "user"
        assert (await client.get("http://test/user/1/2")).status_code == 404
        OTHER(app)
        assert (await client.get("http://test/user/1/2")).json()["name"] == "other"
        app.router.routes.insert(1, app.router.routes.pop())
        assert (await client.get("http://test/user/other")).json()["name"] == "other"
        del app.router.routes[1:]
        assert (await client.get("http://test/user/1")).status_code == 404


async def test_what_a_route_class_does_by_itself_is_done() -> None:
    class Refusing(APIRoute):
        @override
        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            await PlainTextResponse("refused", 418)(scope, receive, send)

    app, router = build([]), APIRouter(route_class=Refusing)
    router.add_api_route("/tea", _answering("tea"))
    app.include_router(router, prefix="/pots")
    app.router.routes.insert(0, RouteIndex(app.router))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as client:
        assert (await client.get("http://test/pots/tea")).status_code == 418


def test_a_websocket_is_routed_as_ever() -> None:
    async def greet(websocket: WebSocket, key: str) -> None:
        await websocket.accept()
        await websocket.send_text(key)
        await websocket.close()

    app, router = build([USER]), APIRouter()
    router.add_api_websocket_route("/{key}", greet)
    app.include_router(router, prefix="/user")
    app.router.routes.insert(0, RouteIndex(app.router))
    with TestClient(app) as client, client.websocket_connect("/user/me") as socket:
        assert socket.receive_text() == "me"


async def test_a_route_that_is_added_later_to_an_included_router_is_found() -> None:
    app, router = build([USER]), APIRouter()
    app.include_router(router, prefix="/late")
    app.router.routes.insert(0, RouteIndex(app.router))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as client:
        assert (await client.get("http://test/late/1")).status_code == 404
        router.add_api_route("/1", _answering("late"), methods=["GET"])
        assert (await client.get("http://test/late/1")).status_code == 200
        assert "/late/1" in (await client.get("http://test/late/1/")).json()["detail"]
        assert (await client.post("http://test/late/1")).headers["Allow"] == "GET"
        router.add_api_route("/1", _answering("late"), methods=["POST"])
        assert (await client.post("http://test/late/1")).status_code == 200
        assert (await client.put("http://test/late/1")).headers["Allow"] == "GET, POST"


async def test_a_frontend_that_is_added_later_is_served(tmp_path: Path) -> None:
    app = build([USER])
    app.router.routes.insert(0, RouteIndex(app.router))
    (tmp_path / "page.txt").write_text("page")
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as client:
        assert (await client.get("http://test/page.txt")).status_code == 404
        app.frontend("/", directory=tmp_path)
        assert (await client.get("http://test/page.txt")).text == "page"


async def test_the_slash_of_a_redirecting_router_is_redirected() -> None:
    app = build([USER])
    app.router.redirect_slashes = True
    app.router.routes.insert(0, RouteIndex(app.router))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as client:
        assert (await client.get("http://test/user/me/")).status_code == 307


type Matches = Callable[..., object]


def _counting(matches: Matches, tried: list[object]) -> Matches:
    def counted(route: object, scope: Scope) -> object:
        tried.append(route)
        return matches(route, scope)

    return counted


def _refusing(_routes: object) -> object:
    pytest.fail("all routes are looked through")
