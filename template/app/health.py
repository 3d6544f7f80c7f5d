"""Whether the service works, for the platform that runs it; no token is needed."""

import logging
from typing import Literal

from fastapi import APIRouter, Request, Response, status
from pydantic import BaseModel

from app.core.openapi import PUBLIC
from app.database.session import Database
from app.utils.sso.resource_server.introspector import Introspector, ProviderHealth

logger = logging.getLogger(__name__)

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The state of the service and of what it depends on.

    The identity provider is only named if something is wrong with it.
    """

    status: Literal["ok", "unavailable"]
    database: Literal["ok", "unavailable"]
    identity_provider: ProviderHealth | None = None


@router.head("/health", include_in_schema=False)
@router.get(
    "/health",
    openapi_extra=PUBLIC,
    responses={503: {"model": Health}},
    response_model_exclude_none=True,
)
async def read_health(request: Request, response: Response) -> Health:
    """Answer 200 if requests can be served, and 503 if the database cannot be reached.

    It is also a 503 if the identity provider rejects this service from the start, so that a
    replica with wrong settings replaces no other. Later on, and if the provider does not answer at
    all, every replica is affected alike, and taking them out of service would not help.
    """
    database: Database = request.app.state.database
    try:
        await database.ping()
    except Exception as error:  # Whatever the error is, requests cannot be served.
        logger.warning("Health: the database does not answer (%s)", type(error).__name__)
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        return Health(status="unavailable", database="unavailable")
    introspector: Introspector = request.app.state.introspector
    provider = await introspector.health()
    if provider is ProviderHealth.OK:
        return Health(status="ok", database="ok")
    if provider is ProviderHealth.UNAVAILABLE:
        return Health(status="ok", database="ok", identity_provider=provider)
    if introspector.has_worked:
        return Health(status="ok", database="ok", identity_provider=provider)
    response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return Health(status="unavailable", database="ok", identity_provider=provider)


@router.head("/livez", include_in_schema=False)
@router.get("/livez", openapi_extra=PUBLIC)
async def read_liveness() -> Literal["ok"]:
    """Answer as long as the process can: restarting it would not bring a database back."""
    return "ok"
