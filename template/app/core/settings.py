"""The settings that every service made from the template has, and how they are read.

A field is read from the environment variable of its name in capitals, or from ``.env``. Settings
of your own go into ``app/settings.py``.
"""

import os
import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

import httpx2
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

# In tests the file is left alone: it may name a precious database.
_ENV_FILE = None if os.environ.get("ENVIRONMENT") == "test" else ".env"

# What asyncpg understands in a URL's query. Another parameter, or value of ssl, would fail at the
# first connection, long after the start.
_ASYNCPG_PARAMETERS = {"host", "krbsrvname", "passfile", "ssl", "target_session_attrs"}
_SSL_MODES = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}
_VISIBLE = re.compile(r"[!-~]+")


def _database_url(value: object) -> URL:
    """Read a PostgreSQL URL as people and platforms write it, and name the async driver."""
    try:
        url = make_url(value) if isinstance(value, str) else value
    except (ArgumentError, ValueError):
        url = None
    if not isinstance(url, URL) or url.get_backend_name() not in {"postgresql", "postgres"}:
        raise ValueError("write it as postgresql://user:password@host:5432/database")
    if url.drivername not in {"postgresql", "postgres", "postgresql+asyncpg"}:
        raise ValueError(
            f"the service uses asyncpg, so write postgresql:// instead of {url.drivername}://"
        )
    if not url.database:
        raise ValueError("it names no database: postgresql://user:password@host:5432/database")
    # libpq says sslmode, asyncpg says ssl; the values are the same.
    query = {"ssl" if name == "sslmode" else name: text for name, text in url.query.items()}
    if unknown := sorted(query.keys() - _ASYNCPG_PARAMETERS):
        raise ValueError(
            f"the parameter {unknown[0]!r} is not among those understood here: sslmode, "
            f"{', '.join(sorted(_ASYNCPG_PARAMETERS))} (certificates: PGSSLROOTCERT and the like)"
        )
    if query.get("ssl", "prefer") not in _SSL_MODES:
        raise ValueError(f"sslmode is one of {', '.join(sorted(_SSL_MODES))}")
    if url.port is not None and not 0 < url.port < 65536:
        raise ValueError("its port is not from 1 to 65535")
    return url.set(drivername="postgresql+asyncpg", query=query)


def _http_url(value: str) -> str:
    # Lower case, because the check for TLS compares the beginning, and an issuer is compared whole.
    if not value.startswith(("https://", "http://")) or not _VISIBLE.fullmatch(value):
        raise ValueError("write a whole URL, such as https://sso.example.com/realms/main")
    try:
        parts = urlsplit(value)
        whole = bool(parts.hostname) and parts.port != 0
        # What the client cannot address would fail at every request, and not at the start.
        httpx2.URL(value)
    except (ValueError, httpx2.InvalidURL):
        whole = False
    if not whole:
        raise ValueError("its host or port cannot be right")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("a user name, password, ?query or #fragment has no place in it")
    return value


def _comma_separated(value: object) -> object:
    if isinstance(value, str):
        return [item for part in value.split(",") if (item := part.strip())]
    return value


def _origin(value: str) -> str:
    parts = urlsplit(value)
    if value != "*" and (not parts.hostname or value != f"{parts.scheme}://{parts.netloc}"):
        raise ValueError("an origin is scheme, host and port only, such as https://app.example.com")
    return value


type DatabaseUrl = Annotated[URL, BeforeValidator(_database_url)]
type HttpUrl = Annotated[str, AfterValidator(_http_url)]
type Origin = Annotated[str, AfterValidator(_origin)]


class DatabaseSettings(BaseSettings):
    """Where the database is, and how long the service waits for it.

    Migrations read these alone, so that they run without the settings of the service. Times
    are in seconds; each is shorter than the one that would otherwise hide it.
    """

    model_config = SettingsConfigDict(
        env_file=_ENV_FILE,
        env_file_encoding="utf-8",
        extra="ignore",
        frozen=True,
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
        env_ignore_empty=True,
    )

    environment: Literal["development", "test", "production"] = Field(
        default="production",
        description="development, test or production",
    )
    database_url: Annotated[DatabaseUrl, NoDecode] = Field(
        description="the database, as postgresql://user:password@host:5432/database",
    )
    database_pool_size: int = Field(default=10, ge=1, le=1000)
    database_pool_timeout: float = Field(default=2, gt=0, le=60)
    database_connect_timeout: float = Field(default=3, gt=0, le=60)
    database_lock_timeout: float = Field(default=3, gt=0, le=3600)
    database_statement_timeout: float = Field(default=7, gt=0, le=3600)
    database_command_timeout: float = Field(default=8, gt=0, le=3600)

    @model_validator(mode="after")
    def _timeouts_are_ordered(self) -> Self:
        ordered = (
            self.database_lock_timeout
            < self.database_statement_timeout
            < self.database_command_timeout
        )
        if not ordered:
            raise ValueError(
                "DATABASE_LOCK_TIMEOUT < DATABASE_STATEMENT_TIMEOUT < DATABASE_COMMAND_TIMEOUT "
                "must hold, or the server's own message is lost"
            )
        return self


class CoreSettings(DatabaseSettings):
    """What the template's own code needs to know."""

    sso_issuer: HttpUrl = Field(
        description="the identity provider, exactly as the `iss` claim of its tokens",
    )
    sso_audience: str = Field(
        min_length=1,
        description="this service's name in the `aud` claim of tokens made for it",
    )
    client_id: str = Field(
        min_length=1,
        description="this service's client at the identity provider",
    )
    client_secret: SecretStr = Field(
        min_length=1,
        description="the secret of CLIENT_ID, which the introspection endpoint asks for",
    )
    sso_introspection_url: HttpUrl | None = Field(
        default=None,
        description="the introspection endpoint, where the provider publishes none",
    )

    cors_origins: Annotated[tuple[Origin, ...], BeforeValidator(_comma_separated), NoDecode] = (
        Field(
            default=(),
            description="origins whose pages may call this service, separated by commas",
        )
    )
    docs_enabled: bool | None = Field(
        default=None,
        description="serve /docs, /redoc and /openapi.json; by default not in production",
    )
    docs_client_id: str | None = Field(
        default=None,
        description="a public client (PKCE) for the Authorize button of /docs",
    )
    docs_scopes: str = Field(
        default="openid profile email",
        description="what that button asks for, separated by spaces",
    )
    max_body_size: int = Field(default=1_000_000, ge=0, description="of a request, in bytes")

    @property
    def serves_docs(self) -> bool:
        """Whether the API describes itself to anyone who asks."""
        if self.docs_enabled is None:
            return self.environment != "production"
        return self.docs_enabled

    @model_validator(mode="after")
    def _provider_is_reached_over_tls(self) -> Self:
        # Without TLS, the client secret and every caller's token travel in the clear.
        for name in ("sso_issuer", "sso_introspection_url"):
            url: str | None = getattr(self, name)
            if self.environment == "production" and url and not url.startswith("https://"):
                raise ValueError(f"{name.upper()} must be an https:// URL in production")
        return self

    @model_validator(mode="after")
    def _pages_are_named(self) -> Self:
        if self.environment == "production" and "*" in self.cors_origins:
            raise ValueError(
                "CORS_ORIGINS must name the origins in production; * admits every page"
            )
        return self


def load_settings[S: DatabaseSettings](kind: type[S]) -> S:
    """Read the settings from the environment and, outside tests, from ``.env``.

    Raises:
        SystemExit: A setting is missing or wrong. The message names each of them and says what
            to write; it never repeats a value, which could be a secret.
    """
    try:
        return kind.model_validate({})
    except ValidationError as error:
        raise SystemExit(_explain(kind, error)) from None


def _explain(kind: type[DatabaseSettings], error: ValidationError) -> str:
    lines = ["The service cannot start, because its settings are incomplete or wrong:"]
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        message = problem["msg"].removeprefix("Value error, ")
        if not problem["loc"]:
            lines.append(f"  {message}")
            continue
        name = str(problem["loc"][0])
        description = kind.model_fields[name].description
        if problem["type"] == "missing":
            message = "is not set"
        lines.append(f"  {name.upper()} {message}" + (f" ({description})" if description else ""))
    lines.append("Set them in the environment or in .env; .env.example shows all of them.")
    return "\n".join(lines)
