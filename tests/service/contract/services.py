"""Routes that a team may have, and the contract must neither trip over nor overlook."""

from importlib.util import find_spec
from typing import Annotated
from uuid import UUID

from fastapi import (
    APIRouter,
    Depends,
    FastAPI,
    File,
    Form,
    Header,
    Response,
    Security,
    UploadFile,
    WebSocket,
)
from fastapi.security import APIKeyHeader
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from app.core.errors import BadRequest, add_exception_handlers
from app.core.openapi import PUBLIC
from app.core.schema import RequestSchema, ShortText
from app.database.session import DbSession
from app.utils.sso.authorization import require_authentication, require_roles
from app.utils.sso.introspection import CurrentToken, introspect_token
from app.utils.sso.introspection_schema import TokenData

Writer = Annotated[TokenData, Security(introspect_token, scopes=["thing:write"])]
Admin = Annotated[TokenData, Security(require_roles("admin"), scopes=["thing:admin"])]
Recent = Annotated[TokenData, Security(require_authentication(max_age=60), scopes=["thing:read"])]
Key = Annotated[str, Security(APIKeyHeader(name="X-Key"))]


class Numbered(RequestSchema):
    """The body of what has a number for a key, in a service that is older than the template."""

    name: ShortText


async def metrics(scope: Scope, receive: Receive, send: Send) -> None:
    """An application of which nobody knows what it serves."""
    await PlainTextResponse("metrics")(scope, receive, send)


async def status(_request: Request) -> Response:
    """A function of Starlette's kind."""
    return PlainTextResponse("ok")


def require_tenant(x_tenant: Annotated[str | None, Header()] = None) -> None:
    """Refuse a caller who names no tenant."""
    if x_tenant is None:
        raise BadRequest("Which tenant?")


def add_forms(router: APIRouter) -> None:
    """Add routes that take forms and files."""

    @router.post("/upload/{number:int}")
    async def upload(
        number: int,
        file: Annotated[UploadFile, File()],
        note: Annotated[str, Form()],
        _token: Writer,
    ) -> int:
        return len(await file.read())

    @router.post("/form")
    async def form(_token: CurrentToken, name: Annotated[str, Form()]) -> str:
        return name


def add_unusual_routes(app: FastAPI) -> None:
    """Add routes of every kind, all of them in order."""
    router = APIRouter()

    if find_spec("python_multipart"):
        add_forms(router)

    @router.get("/files/{path:path}", include_in_schema=False)
    async def files(path: str, _token: CurrentToken) -> str:
        return path

    @router.post("/numbered")
    async def create_numbered(data: Numbered, _token: CurrentToken) -> dict[str, int | str]:
        return {"id": 1, "name": data.name}

    @router.websocket("/feed/{feed_id}")
    async def feed(socket: WebSocket, feed_id: UUID, _token: CurrentToken) -> None:
        await socket.accept()

    @router.websocket("/news", name="public:news")
    async def news(socket: WebSocket) -> None:
        await socket.accept()

    @router.get("/status", openapi_extra=PUBLIC)
    @router.head("/status", include_in_schema=False)
    async def read_status() -> str:
        return "ok"

    @router.put("/setting")
    async def write_setting(_token: Writer) -> None: ...

    @router.delete("/admin")
    async def admin(_admin: Admin) -> None: ...

    @router.get("/recent/{ratio:float}")
    async def recent(ratio: float, _token: Recent, session: DbSession) -> float:
        return ratio

    @router.post("/hook")
    async def hook(_key: Key) -> None: ...

    # The token stands first, in the list of its router.
    tenants = APIRouter(dependencies=[Depends(introspect_token), Depends(require_tenant)])

    @tenants.get("/tenant")
    async def tenant() -> str:
        return "one"

    app.include_router(router, prefix="/Ünusual prefix/v9")
    app.include_router(tenants, prefix="/{realm}")
    app.mount("/static", StaticFiles(directory="app"))
    app.mount("/metrics", metrics, name="public:metrics")
    mounted = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    mounted.include_router(router, prefix="/again")
    mounted.state = app.state
    add_exception_handlers(mounted)
    app.mount("/mounted", mounted)
    app.host("example.org", Starlette(routes=[Route("/status", status, name="public:status")]))


def add_forgotten_routes(app: FastAPI) -> list[str]:
    """Add routes that nobody has protected, and return how they are called."""
    hidden, mounted = APIRouter(), FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @hidden.get("/hidden/{key}", include_in_schema=False)
    async def public_hidden(key: int) -> None: ...

    @hidden.websocket("/socket")
    async def public_socket(socket: WebSocket) -> None:
        await socket.accept()

    @mounted.put("/thing")
    async def put_thing() -> None: ...

    @mounted.get("/head", openapi_extra=PUBLIC)
    async def head() -> None: ...

    @app.head("/protected")
    async def head_of_protected() -> None: ...

    @app.get("/protected")
    async def protected(_token: CurrentToken) -> None: ...

    app.include_router(hidden, prefix="/v0")
    app.mount("/mounted", mounted)
    app.mount("/metrics", metrics)
    app.add_route("/plain", status, methods=["POST"])
    app.host("example.org", Starlette(routes=[Route("/status", status)]))
    return [
        "GET /v0/hidden/{key}",
        "GET /status",
        "HEAD /protected",
        "HEAD /status",
        "MOUNT /metrics/",
        "POST /plain",
        "PUT /mounted/thing",
        "WEBSOCKET /v0/socket",
    ]
