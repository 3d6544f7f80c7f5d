"""The configuration of the development provider, and where the provider refuses to run."""

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from template_tools.messages import Problem

LOOPBACK_HOSTS = ("127.0.0.1", "localhost")
LOOPBACK_ORIGIN = r"http://(?:127\.0\.0\.1|localhost)(?::[0-9]{1,5})?"
_CLIENT_ID = re.compile(r"[\x20-\x7e]{1,100}")

TokenFormat = Literal["opaque", "jwt"]


class ProviderError(Problem):
    """A sentence for the developer: what is wrong and what to do about it."""


@dataclass(frozen=True)
class ProviderConfig:
    """The provider's identity, and the one confidential client registered with it.

    `issuer` has no trailing slash; its path is free, while the provider sets its scheme, host and
    port. `audience` is the `aud` of every token. `docs_client_id` names the public client of the
    docs page's Authorize button. The lifetime is in seconds. `service_url` is where the service
    runs; without it the development page has no links, and the scopes of the routes are unknown.

    Raises:
        ProviderError: A value is empty or cannot be used.
    """

    issuer: str = "http://127.0.0.1:9000"
    audience: str = "app"
    client_id: str = "app"
    client_secret: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    docs_client_id: str = "docs"
    token_format: TokenFormat = "opaque"  # noqa: S105 - a format, not a secret.
    access_token_lifetime: int = 3600
    default_scope: str = "openid profile email"
    service_url: str = ""

    def __post_init__(self) -> None:
        """Refuse what would make a provider that nobody can use."""
        for name in ("client_id", "docs_client_id"):
            if not _CLIENT_ID.fullmatch(getattr(self, name)):
                raise ProviderError(
                    "The provider's {name} must be 1 to 100 ASCII characters.", name=name
                )
        if not self.client_secret or not self.audience:
            raise ProviderError("The provider needs a client_secret and an audience: set both.")
        if self.client_id == self.docs_client_id:
            raise ProviderError("The provider's client_id and docs_client_id must differ.")
        if self.service_url and not re.fullmatch(LOOPBACK_ORIGIN, self.service_url):
            raise ProviderError(
                "The provider's service_url must be of this machine, as http://127.0.0.1:8000."
            )
        if self.token_format not in ("opaque", "jwt"):
            raise ProviderError('The provider\'s token_format must be "opaque" or "jwt".')

    @property
    def issuer_path(self) -> str:
        """The path of the issuer, which prefixes every endpoint; empty for most issuers."""
        return urlsplit(self.issuer).path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "ProviderConfig":
        """Read DEV_PROVIDER_AUDIENCE, _CLIENT_ID and so on, whose names are those of the fields.

        An unset or empty variable keeps the default; the default secret is a random one.
        """
        names = (
            "audience",
            "client_id",
            "client_secret",
            "docs_client_id",
            "service_url",
            "token_format",
        )
        found = {name: environment.get(f"DEV_PROVIDER_{name.upper()}", "") for name in names}
        # An unknown token format is refused by __post_init__.
        return cls(**{name: value for name, value in found.items() if value})  # type: ignore[arg-type]


def refuse_production() -> None:
    """Raise ProviderError in production: anyone can log in here as anyone."""
    if os.environ.get("ENVIRONMENT", "").strip().lower() == "production":
        raise ProviderError(
            "The development provider refuses to start because ENVIRONMENT is production: "
            "set SSO_ISSUER to your real identity provider."
        )
