"""Whether the service is alive, for the platform that runs it. No token is asked for."""

import logging
from typing import Literal

from fastapi import APIRouter, Request, Response, status
from pydantic import BaseModel

from app.core.openapi import PUBLIC
from app.database.session import Database

logger = logging.getLogger(__name__)

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """How the service and what it depends on are."""

    status: Literal["ok", "unavailable"]
    database: Literal["ok", "unavailable"]


@router.head("/health", include_in_schema=False)
@router.get("/health", openapi_extra=PUBLIC, responses={503: {"model": Health}})
async def read_health(request: Request, response: Response) -> Health:
    """Answer 200 where requests can be served, and 503 where the database cannot be reached."""
    database: Database = request.app.state.database
    try:
        await database.ping()
    except Exception as error:  # Whatever it is, the answer is no.
        logger.warning("Health: the database does not answer (%s)", type(error).__name__)
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        return Health(status="unavailable", database="unavailable")
    return Health(status="ok", database="ok")


@router.head("/livez", include_in_schema=False)
@router.get("/livez", openapi_extra=PUBLIC)
async def read_liveness() -> Literal["ok"]:
    """Answer whenever the process can; restarting it would not bring a database back."""
    return "ok"
