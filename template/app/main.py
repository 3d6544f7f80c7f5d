"""The application: what is opened, what surrounds a request, and where the routes come from.

The template's; what the service adds to it stands in ``app/hooks.py``.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from app import hooks
from app.api.v1.router import router as api_v1
from app.core.errors import add_exception_handlers
from app.core.middleware import BodyLimit, ErrorBoundary, SecurityHeaders
from app.core.openapi import describe_problems
from app.core.project import DESCRIPTION, TITLE, VERSION
from app.core.settings import load_settings
from app.database.session import open_database
from app.health import router as health
from app.settings import Settings
from app.utils.sso.resource_server.introspector import open_introspector
from app.utils.sso.resource_server.resource_metadata import router as resource_metadata


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Hold open what all requests share: the database, the provider, and the service's own."""
    settings: Settings = app.state.settings
    async with (
        open_database(settings) as app.state.database,
        open_introspector(settings) as app.state.introspector,
        hooks.lifespan(app),
    ):
        yield


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application, with the settings of the environment unless others are given.

    Raises:
        SystemExit: A setting is missing or wrong; the message says which.
    """
    settings = settings or load_settings(Settings)
    docs = settings.serves_docs
    app = FastAPI(
        title=TITLE,
        description=DESCRIPTION,
        version=VERSION,
        lifespan=lifespan,
        docs_url="/docs" if docs else None,
        redoc_url="/redoc" if docs else None,
        openapi_url="/openapi.json" if docs else None,
        swagger_ui_init_oauth={
            "clientId": settings.docs_client_id or settings.client_id,
            "scopes": settings.docs_scopes,
            "usePkceWithAuthorizationCodeGrant": True,
        },
        # A redirect to the other spelling of a path would name the host that the caller sent.
        redirect_slashes=False,
    )
    app.state.settings = settings
    app.include_router(health)
    app.include_router(resource_metadata)
    app.include_router(api_v1, prefix="/api/v1")
    add_exception_handlers(app)
    app.openapi = describe_problems(app, settings.sso_issuer)  # type: ignore[method-assign]

    # The last one added is the outermost: what the service's own middleware answers or raises is
    # seen by the template's.
    hooks.configure(app)
    app.add_middleware(BodyLimit, max_body_size=settings.max_body_size)
    app.add_middleware(ErrorBoundary)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["ETag", "Location", "Retry-After", "WWW-Authenticate"],
        )
    app.add_middleware(SecurityHeaders)
    return app


app = create_app()
