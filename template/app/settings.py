"""This service's settings.

Add a field for each setting of your own: ``billing_url: str`` is read from ``BILLING_URL`` in the
environment or in ``.env``. What the template needs is declared in ``app/core/settings.py``.
"""

from typing import Annotated

from fastapi import Depends, Request
from pydantic import Field

from app.core.settings import CoreSettings


class Settings(CoreSettings):
    """Everything that the environment decides about this service."""

    provision_users: bool = Field(
        default=False,
        description="make a user for each caller at their first request, from their token",
    )


def get_settings(request: Request) -> Settings:
    """Return the settings that the application was created with."""
    settings: Settings = request.app.state.settings
    return settings


CurrentSettings = Annotated[Settings, Depends(get_settings)]
