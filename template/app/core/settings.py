"""The settings of the template's own code, and how they are read.

A field is read from the environment variable of its name in upper case, or from ``.env``. Your own
settings go into ``app/settings.py``.
"""

import logging
import os
import re
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import unquote, urlsplit

import httpx2
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError
from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from app.core.project import SSO_MODE

# Tests do not read the file, because it may name a database with real data.
_ENV_FILE = None if os.environ.get("ENVIRONMENT") == "test" else ".env"

# The parameters that asyncpg reads from a URL. Another one, or another value of ssl, would fail at
# the first connection, long after the start.
_ASYNCPG_PARAMETERS = {"host", "krbsrvname", "passfile", "ssl", "target_session_attrs"}
_SSL_MODES = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}
_WITHOUT_TLS = {"disable", "allow", "prefer"}
_VISIBLE = re.compile(r"[!-~]+")


def _database_url(value: object) -> URL:
    """Accept the usual spellings of a PostgreSQL URL, and name the async driver."""
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
    # What follows it would be taken for the host, and the host is shown.
    if "@" in f"{url.host}{url.database}" or any("@" in f"{it}" for it in url.query.items()):
        raise ValueError("write an @ in its user name or password as %40")
    if not url.database:
        raise ValueError("it names no database: postgresql://user:password@host:5432/database")
    # libpq calls it sslmode and asyncpg ssl; the values are the same.
    query = {"ssl" if name == "sslmode" else name: text for name, text in url.query.items()}
    if unknown := sorted(query.keys() - _ASYNCPG_PARAMETERS):
        raise ValueError(
            f"the parameter {unknown[0]!r} is not one of sslmode, "
            f"{', '.join(sorted(_ASYNCPG_PARAMETERS))} (for certificates, set PGSSLROOTCERT etc.)"
        )
    if query.get("ssl", "prefer") not in _SSL_MODES:
        raise ValueError(f"sslmode must be one of {', '.join(sorted(_SSL_MODES))}")
    if url.port is not None and not 0 < url.port < 65536:
        raise ValueError("its port must be from 1 to 65535")
    # The host may be the folder of a Unix socket: postgresql://user@%2Fvar%2Frun/database.
    host = url.host and unquote(url.host)
    return url.set(drivername="postgresql+asyncpg", host=host, query=query)


def _without_password(url: URL) -> str:
    return url.render_as_string(hide_password=True)


def hosts_of(url: URL) -> list[str]:
    """Return the hosts that a connection is tried to; a path is a Unix socket."""
    named = url.query.get("host", url.host or "")
    hosts = named.split(",") if isinstance(named, str) else named
    return [host.partition(":")[0] if host.count(":") == 1 else host for host in hosts]


def is_remote(host: str) -> bool:
    """Whether a connection to the host leaves this machine."""
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return not re.fullmatch(r"|/.*|(.+\.)?localhost", host.lower())


def _http_url(value: str) -> str:
    # The scheme in lower case, because it is compared to check for TLS, and so is the issuer.
    if not value.startswith(("https://", "http://")) or not _VISIBLE.fullmatch(value):
        raise ValueError("write a complete URL, such as https://sso.example.com/realms/main")
    try:
        parts = urlsplit(value)
        is_valid = bool(parts.hostname) and parts.port != 0
        # A URL that the client rejects would fail at every request instead of at the start.
        httpx2.URL(value)
    except (ValueError, httpx2.InvalidURL):
        is_valid = False
    if not is_valid:
        raise ValueError("its host or port is invalid")
    if parts.username is not None or parts.fragment:
        raise ValueError("it must have no user name, password or #fragment")
    return value


def _without_query(value: str) -> str:
    if "?" in value:
        raise ValueError("it must have no ?query")
    return value


def _comma_separated(value: object) -> object:
    if isinstance(value, str):
        return [item for part in value.split(",") if (item := part.strip())]
    return value


def _origin(value: str) -> str:
    parts = urlsplit(value)
    is_whole = value == f"{parts.scheme}://{parts.netloc}" and not {"*", "@"} & {*value}
    if value != "*" and not (parts.hostname and is_whole):
        raise ValueError("an origin is only scheme, host and port: https://app.example.com")
    # Browsers send it in lower case and without the usual port.
    usual = {"http": ":80", "https": ":443"}.get(parts.scheme, " ")
    return value.lower().removesuffix(usual)


def is_plain_http(url: str, *, remote: bool) -> bool:
    """Whether a URL has no TLS, and leads to another machine, or to this one."""
    parts = urlsplit(url)
    return parts.scheme == "http" and is_remote(parts.hostname or "") is remote


def is_random(secret: str) -> bool:
    """Whether a secret is too long and too varied to be a word that others try."""
    return len(secret) >= 24 and len({*secret}) >= 12


def _readable_file(value: Path) -> Path:
    try:
        value.read_bytes()
    except OSError as error:
        raise ValueError(f"the file cannot be read ({error.strerror})") from None
    return value


def _log_level(value: object) -> int:
    text = str(value).upper()
    level = logging.getLevelNamesMapping().get(text)
    if level is None and not re.fullmatch("[0-9]{1,2}", text):
        raise ValueError("write debug, info, warning or error")
    return int(text) if level is None else level


type ClientAuthMethod = Literal[
    "client_secret_basic",
    "client_secret_basic_raw",
    "client_secret_post",
    "private_key_jwt",
    "tls_client_auth",
]
type Environment = Literal["development", "test", "production"]
type JwtType = Literal["any", "at+jwt"]
_SECRET_METHODS = {"client_secret_basic", "client_secret_basic_raw", "client_secret_post"}
_KEY_METHODS = {"private_key_jwt", "tls_client_auth"}
# What a client of the introspection endpoint needs, and for which methods.
_NEEDED_TO_INTROSPECT = {
    "client_id": _SECRET_METHODS | _KEY_METHODS,
    "client_secret": _SECRET_METHODS,
    "client_private_key_file": _KEY_METHODS,
    "client_certificate_file": {"tls_client_auth"},
}
type DatabaseUrl = Annotated[
    URL, BeforeValidator(_database_url), PlainSerializer(_without_password, return_type=str)
]
type EndpointUrl = Annotated[str, AfterValidator(_http_url)]
type HttpUrl = Annotated[str, AfterValidator(_http_url), AfterValidator(_without_query)]
type Origin = Annotated[str, AfterValidator(_origin)]
type ReadableFile = Annotated[Path, AfterValidator(_readable_file)]


class DatabaseSettings(BaseSettings):
    """The database, and how long the service waits for it, in seconds.

    Migrations read only these, so that they run without the other settings of the service.
    """

    model_config = SettingsConfigDict(
        env_file=_ENV_FILE,
        env_file_encoding="utf-8",
        extra="ignore",
        frozen=True,
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
        env_ignore_empty=True,
        # The text below a field is its description, which explains a missing one.
        use_attribute_docstrings=True,
    )

    environment: Environment = "production"
    """What the service runs for; production has stricter rules."""
    # As it was in older releases: teams have edited the line below it.
    database_url: Annotated[DatabaseUrl, NoDecode] = Field(
        description="The database, as postgresql://user:password@host:5432/database.",
    )
    database_pool_size: int = Field(default=10, ge=1, le=1000)
    database_pool_timeout: float = Field(default=2, gt=0, le=60)
    database_connect_timeout: float = Field(default=3, gt=0, le=60)
    database_lock_timeout: float = Field(default=3, gt=0, le=3600)
    database_statement_timeout: float = Field(default=7, gt=0, le=3600)
    database_command_timeout: float = Field(default=8, gt=0, le=3600)

    database_pgbouncer: bool = False
    """Whether the database URLs lead to PgBouncer, in transaction mode."""
    database_replica_url: Annotated[DatabaseUrl | None, NoDecode] = None
    """A replica for routes that only read, written like DATABASE_URL."""
    database_replica_max_lag: float = Field(default=10, gt=0)
    """A replica that lags further behind is not used; inf for no limit."""
    trusted_network: bool = False
    """Whether connections that leave the machine may be without TLS in production."""

    def _in_plain_text(self) -> Iterator[str]:
        """Say which settings lead through a network without TLS."""
        for name in type(self).model_fields:
            url = getattr(self, name)
            is_plain = isinstance(url, URL) and url.query.get("ssl") in _WITHOUT_TLS
            if is_plain and any(is_remote(host) for host in hosts_of(url)):
                yield f"{name.upper()} must have sslmode=verify-full, or at least require,"

    @model_validator(mode="after")
    def _the_network_is_not_trusted(self) -> Self:
        found = [*self._in_plain_text()]
        if found and self.environment == "production" and not self.trusted_network:
            raise ValueError(
                f"{' and '.join(found)} in production (TRUSTED_NETWORK=true where the network "
                "itself is encrypted)"
            )
        return self

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
                "must hold, so that the server reports a timeout before the client gives up"
            )
        return self


class MigrationSettings(DatabaseSettings):
    """The settings of migrations, which the service does not need."""

    migration_database_url: Annotated[DatabaseUrl | None, NoDecode] = None
    """The database for migrations: as its owner, without a pooler."""
    migration_lock_timeout: float = Field(default=3, gt=0, le=3600)
    """How long a migration, and everyone behind it, waits for a table."""
    migration_wait_timeout: float = Field(default=600, gt=0, le=86400)
    """How long migrations wait for other migrators and for tables in all."""

    @model_validator(mode="before")
    @classmethod
    def _one_url_is_enough(cls, values: dict[str, object]) -> dict[str, object]:
        # A process that only migrates need not have the service's own URL.
        if own := values.get("migration_database_url"):
            return {"database_url": own} | values
        return values

    @model_validator(mode="after")
    def _migrations_do_not_share_a_connection(self) -> Self:
        # The advisory lock belongs to a server connection, and PgBouncer may give each transaction
        # another one.
        if self.database_pgbouncer and self.migration_database_url is None:
            raise ValueError(
                "MIGRATION_DATABASE_URL must be set, and lead to the database itself, where "
                "DATABASE_PGBOUNCER is set: migrations cannot go through a pooler"
            )
        return self


def _request_timeout(known: dict[str, float]) -> float:
    # 10, unless the database may already take longer.
    return max(10, known.get("database_command_timeout", 0) + 2)


class CoreSettings(DatabaseSettings):
    """The settings of the template's own code."""

    sso_issuer: HttpUrl
    """The identity provider, exactly as the `iss` claim of its tokens."""
    sso_audience: str = Field(min_length=1)
    """This service's name in the `aud` claim of tokens made for it."""
    # The default comes from pyproject.toml, so it is validated as well.
    sso_mode: Literal["introspect", "jwt", "both"] = Field(default=SSO_MODE, validate_default=True)
    """How a token is validated: by introspection, by its signature as a JWT, or by both."""
    client_auth_method: ClientAuthMethod = "client_secret_basic"
    """How CLIENT_ID authenticates at the provider."""
    client_id: str = Field(default="", validate_default=True)
    """This service's client at the identity provider."""
    client_secret: SecretStr = Field(default=SecretStr(""), validate_default=True)
    """The secret of CLIENT_ID, for the introspection endpoint."""
    client_private_key_file: ReadableFile | None = Field(default=None, validate_default=True)
    """The key of CLIENT_ID as PEM, for private_key_jwt and tls_client_auth."""
    client_key_id: str | None = None
    """The kid of that key at the provider."""
    client_certificate_file: ReadableFile | None = Field(default=None, validate_default=True)
    """The certificate of CLIENT_ID as PEM, for tls_client_auth."""
    sso_ca_file: ReadableFile | None = None
    """The CA certificates to trust for the provider, instead of the system's."""
    sso_introspection_url: EndpointUrl | None = None
    """The introspection endpoint, if the provider's metadata names none."""
    sso_introspection_response: Literal["json", "jwt"] = "json"
    """Whether the provider must sign its response (RFC 9701)."""
    sso_jwks_url: EndpointUrl | None = None
    """The provider's keys, if its metadata names no jwks_uri."""
    sso_jwt_type: JwtType = "any"
    """The `typ` that a JWT must have; at+jwt is that of access tokens (RFC 9068)."""
    sso_require_issuer: bool = False
    """Reject an introspection response without an issuer."""
    sso_subject_claim: str = Field(default="sub", min_length=1)
    """The claim that tells users apart: token_data.subject, and their rows."""
    sso_roles_claim: str = Field(default="roles", min_length=1)
    """The claim that becomes token_data.roles, such as realm_access.roles."""
    token_cache_seconds: float = Field(default=60, ge=0, le=3600)
    """How long an active token is cached; 0 disables the cache."""
    token_cache_stale_seconds: float = Field(default=0, ge=0, le=3600)
    """How much longer it is accepted while the provider is down."""
    token_cache_url: SecretStr | None = None
    """A Valkey shared by all replicas, such as valkeys://user:password@host:6379/0."""
    token_cache_secret: SecretStr | None = None
    """What its entries are encrypted with; without it, a long CLIENT_SECRET or its key."""
    public_url: HttpUrl | None = None
    """The URL of this service for callers, such as https://api.example.com."""

    cors_origins: Annotated[tuple[Origin, ...], BeforeValidator(_comma_separated), NoDecode] = ()
    """The origins whose pages may call this service, separated by commas."""
    docs_enabled: bool | None = None
    """Whether to serve /docs, /redoc and /openapi.json; by default not in production."""
    docs_client_id: str | None = None
    """A public client (PKCE) for the Authorize button of /docs."""
    docs_scopes: str = "openid profile email"
    """The scopes that are chosen at first, separated by spaces; in development all are."""
    request_timeout: float = Field(default_factory=_request_timeout, gt=0, le=86_400)
    """How long a request may take until its response starts, in seconds."""
    max_body_size: int = Field(default=1_000_000, ge=0)
    """The largest body of a request, in bytes."""

    @property
    def serves_docs(self) -> bool:
        """Whether the API's description and its pages are served."""
        if self.docs_enabled is None:
            return self.environment != "production"
        return self.docs_enabled

    @field_validator(*_NEEDED_TO_INTROSPECT)
    @classmethod
    def _client_can_authenticate[T](cls, value: T, info: ValidationInfo) -> T:
        # Each field by itself, so that one message names all that are missing.
        method = info.data.get("client_auth_method")
        needed = method in _NEEDED_TO_INTROSPECT[str(info.field_name)]
        if needed and not value and info.data.get("sso_mode") != "jwt":
            raise PydanticCustomError("missing", "is not set")
        return value

    def _in_plain_text(self) -> Iterator[str]:
        yield from super()._in_plain_text()
        cache = urlsplit(self.token_cache_url.get_secret_value() if self.token_cache_url else "")
        if cache.scheme in {"valkey", "redis"} and is_remote(cache.hostname or ""):
            yield "TOKEN_CACHE_URL must begin with valkeys://"
        if any(is_plain_http(url, remote=True) for url in self.cors_origins):
            yield "CORS_ORIGINS must be https:// origins"
        if is_plain_http(self.public_url or "", remote=True):
            yield "PUBLIC_URL must be an https:// URL"

    @field_validator("token_cache_secret")
    @classmethod
    def _cannot_be_guessed(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not is_random(value.get_secret_value()):
            raise ValueError("must be a random one: openssl rand -base64 32")
        return value

    @model_validator(mode="after")
    def _provider_is_reached_over_tls(self) -> Self:
        # Without TLS, the client secret and every token would be sent in plain text.
        for name in ("sso_issuer", "sso_introspection_url", "sso_jwks_url"):
            url: str | None = getattr(self, name)
            if self.environment == "production" and url and not url.startswith("https://"):
                raise ValueError(f"{name.upper()} must be an https:// URL in production")
        return self

    @model_validator(mode="after")
    def _id_tokens_are_told_apart(self) -> Self:
        is_client = self.sso_audience in {self.client_id, self.docs_client_id}
        takes_any = self.sso_mode == "jwt" and self.sso_jwt_type == "any"
        if self.environment == "production" and takes_any and is_client:
            raise ValueError(
                "SSO_AUDIENCE must not be a client's name in production with SSO_MODE=jwt and "
                "SSO_JWT_TYPE=any: the ID tokens of that client would be accepted. Set "
                "SSO_JWT_TYPE=at+jwt if the provider's access tokens say so, or another audience"
            )
        return self

    @model_validator(mode="after")
    def _deadline_is_the_last_timeout(self) -> Self:
        if self.request_timeout <= self.database_command_timeout:
            raise ValueError(
                "DATABASE_COMMAND_TIMEOUT < REQUEST_TIMEOUT must hold, so that a request can say "
                "what the database did not answer"
            )
        return self

    @model_validator(mode="after")
    def _pages_are_named(self) -> Self:
        if self.environment == "production" and "*" in self.cors_origins:
            raise ValueError(
                "CORS_ORIGINS must list the origins in production; * allows every page"
            )
        return self


class ServerSettings(BaseSettings):
    """What ``python -m app.server`` logs, and what a connection may take; times are in seconds."""

    model_config = DatabaseSettings.model_config

    environment: Environment = "production"
    log_level: Annotated[int, BeforeValidator(_log_level)] = logging.INFO
    """The lowest level at which the service's own code, and the server, are logged."""
    log_format: Literal["json", "text"] | None = None
    """Whether each line of the log is JSON, or made to be read; by default JSON in production."""
    server_max_connections: int = Field(default=1000, ge=1, le=100_000)
    """The connections of one process, WebSockets included."""
    server_max_head_size: int = Field(default=32_768, ge=1024, le=1_048_576)
    """The longest request line with headers, in bytes."""
    server_max_headers: int = Field(default=100, ge=10, le=10_000)
    """The most headers of a request."""
    server_head_timeout: float = Field(default=10, gt=0, le=600)
    """How long a request's head may take, and a new connection may stay silent."""
    server_body_timeout: float = Field(default=30, gt=0, le=86_400)
    """How long a request's body may take."""
    server_write_timeout: float = Field(default=30, gt=0, le=86_400)
    """How long a client may take to read the next 64 KiB of a response."""
    server_drain_seconds: float | None = Field(default=None, ge=0, le=3600)
    """How long requests are served after SIGTERM; by default 15 in production, else 0."""
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """The port, beside that of the API, where Prometheus reads metrics; by default none."""

    @property
    def drain_seconds(self) -> float:
        """How long to drain; no balancer has to learn that a developer's server stops."""
        if self.server_drain_seconds is None:
            return 15 if self.environment == "production" else 0
        return self.server_drain_seconds

    @property
    def logs_json(self) -> bool:
        """Whether each line of the log is a JSON object."""
        return (self.log_format or ("json" if self.environment == "production" else "")) == "json"


def load_settings[S: BaseSettings](kind: type[S]) -> S:
    """Read the settings from the environment and, except in tests, from ``.env``.

    Raises:
        SystemExit: Settings are missing or wrong. The message names each and says what to write.
            It never repeats a value, which could be a secret.
    """
    if quoted := [name for name, value in os.environ.items() if _is_quoted(kind, name, value)]:
        raise SystemExit(
            f"The service cannot start: write {', '.join(sorted(quoted))} without quotes around "
            "the value, because `docker run --env-file` and others take them for a part of it."
        )
    try:
        return kind.model_validate({})
    except ValidationError as error:
        raise SystemExit(_explain(kind, error)) from None
    except SettingsError as error:
        raise SystemExit(f"The service cannot start: {error}; a list is written as JSON.") from None


def _is_quoted(kind: type[BaseSettings], name: str, value: str) -> bool:
    return name.lower() in kind.model_fields and bool(re.fullmatch(r"(?s)(['\"]).*\1", value))


def _explain(kind: type[BaseSettings], error: ValidationError) -> str:
    lines = ["The service cannot start, because settings are missing or wrong:"]
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        message = problem["msg"].removeprefix("Value error, ")
        if not problem["loc"]:
            lines.append(f"  {message}")
            continue
        name = str(problem["loc"][0])
        description = (kind.model_fields[name].description or "").rstrip(".")
        if problem["type"] == "missing":
            message = "is not set"
        lines.append(f"  {name.upper()} {message}" + (f" ({description})" if description else ""))
    lines.append("Set them in the environment or in .env; .env.example lists them all.")
    return "\n".join(lines)
