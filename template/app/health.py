"""Whether the service is alive, for the platform that runs it. No token is asked for."""

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
    """How the service and what it depends on are.

    The identity provider is named where it is not well.
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
    """Answer 200 where requests can be served, and 503 where the database cannot be reached.

    It is a 503 too where the identity provider refuses this service itself. That it does not
    answer at all is everybody's outage, which taking each replica out of service would not end.
    """
    database: Database = request.app.state.database
    try:
        await database.ping()
    except Exception as error:  # Whatever it is, the answer is no.
        logger.warning("Health: the database does not answer (%s)", type(error).__name__)
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        return Health(status="unavailable", database="unavailable")
    introspector: Introspector = request.app.state.introspector
    provider = await introspector.health()
    if provider is ProviderHealth.MISCONFIGURED:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        return Health(status="unavailable", database="ok", identity_provider=provider)
    if provider is ProviderHealth.UNAVAILABLE:
        return Health(status="ok", database="ok", identity_provider=provider)
    return Health(status="ok", database="ok")


@router.head("/livez", include_in_schema=False)
@router.get("/livez", openapi_extra=PUBLIC)
async def read_liveness() -> Literal["ok"]:
    """Answer whenever the process can; restarting it would not bring a database back."""
    return "ok"
