"""The application: the resources that it opens, its routes and its middleware.

This file is the template's; add to the application in ``app/hooks.py``.
"""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from app import hooks
from app.api.v1.router import router as api_v1
from app.core.draining import draining
from app.core.errors import add_exception_handlers
from app.core.logs import log_if_nobody_does, log_start
from app.core.middleware import BodyLimit, ErrorBoundary, SecurityHeaders, WholePath
from app.core.openapi import describe_problems
from app.core.project import DESCRIPTION, TITLE, VERSION
from app.core.request_log import RequestLog
from app.core.routing import RouteIndex
from app.core.settings import ServerSettings, load_settings
from app.core.telemetry import telemetry, telemetry_config
from app.database.session import open_database
from app.docs import router as docs
from app.health import reporting_readiness
from app.health import router as health
from app.settings import Settings
from app.utils.sso.resource_server.introspector import open_introspector
from app.utils.sso.resource_server.resource_metadata import router as resource_metadata
from app.utils.sso.resource_server.token_first import TokenFirst


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Hold open what all requests share: connections to the database and to the provider."""
    settings: Settings = app.state.settings
    log_if_nobody_does(app.state.server_settings)
    log_start(app.state.server_settings, settings)
    async with (
        telemetry(app.state.server_settings),
        open_database(settings) as app.state.database,
        open_introspector(settings) as app.state.introspector,
        reporting_readiness(app),
        hooks.lifespan(app),
        draining(app.state.server_settings.drain_seconds),
    ):
        # What there is by now stays to the end. The garbage collector would go through all of it
        # again and again.
        gc.freeze()
        try:
            yield
        finally:
            gc.unfreeze()


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application; its settings are those of the environment unless given.

    Raises:
        SystemExit: A setting is missing or wrong; the message says which.
    """
    settings = settings or load_settings(Settings)
    server_settings = load_settings(ServerSettings)
    app = FastAPI(
        title=TITLE,
        description=DESCRIPTION,
        version=VERSION,
        lifespan=lifespan,
        # The page of app.docs takes the place of FastAPI's, whose viewer comes from another host.
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if settings.serves_docs else None,
        # The redirect that adds or removes a slash would repeat the Host header of the request.
        redirect_slashes=False,
        telemetry=telemetry_config(server_settings),
    )
    app.state.settings = settings
    app.state.server_settings = server_settings
    app.include_router(health)
    if settings.serves_docs:
        app.include_router(docs)
    app.include_router(resource_metadata)
    app.include_router(api_v1, prefix="/api/v1")
    add_exception_handlers(app)
    app.openapi = describe_problems(app, settings.sso_issuer)  # type: ignore[method-assign]

    # The last middleware added is the outermost, so that the template's sees what the service's
    # own answers or raises.
    hooks.configure(app)
    app.add_middleware(TokenFirst)
    app.add_middleware(BodyLimit, max_body_size=settings.max_body_size)
    app.add_middleware(ErrorBoundary, timeout=settings.request_timeout)
    app.add_middleware(WholePath)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["ETag", "Location", "Retry-After", "WWW-Authenticate"],
        )
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RequestLog)
    app.router.routes.insert(0, RouteIndex(app.router))
    return app


app = create_app()
