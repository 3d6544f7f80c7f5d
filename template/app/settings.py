"""This service's settings.

Add your own settings as fields: ``billing_url: str`` is read from ``BILLING_URL`` in the
environment or in ``.env``. The settings of the template's code are in ``app/core/settings.py``.
"""

from typing import Annotated

from fastapi import Depends
from fastapi.requests import HTTPConnection

from app.core.settings import CoreSettings, JwtType


class Settings(CoreSettings):
    """All settings of this service."""

    sso_jwt_type: JwtType = "at+jwt"
    """The `typ` that a verified JWT must have; any where the provider's access tokens have none."""
    provision_users: bool = False
    """Whether to create a user from the token at a caller's first request."""


async def get_settings(connection: HTTPConnection) -> Settings:
    """Return the application's settings."""
    settings: Settings = connection.app.state.settings
    return settings


CurrentSettings = Annotated[Settings, Depends(get_settings)]
