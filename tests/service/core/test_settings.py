"""Settings, and the sentences about wrong ones."""

import json
import os
import re
import traceback
from base64 import b64encode
from pathlib import Path
from pprint import pformat

import pytest
from pydantic import Field
from pydantic_settings import BaseSettings

from app.core.project import SSO_MODE
from app.core.settings import (
    CoreSettings,
    DatabaseSettings,
    MigrationSettings,
    ServerSettings,
    load_settings,
)
from app.settings import Settings
from template_tools.configuration import PROJECT_ROOT

GOOD = {
    "ENVIRONMENT": "production",
    "DATABASE_URL": "postgresql://app:p%40ss@db.example.com:5433/app",
    "SSO_ISSUER": "https://sso.example.com/realms/main",
    "SSO_AUDIENCE": "app",
    "SSO_MODE": "introspect",
    "CLIENT_ID": "app",
    "CLIENT_SECRET": "canary-secret",
    "TOKEN_CACHE_URL": "valkeys://:canary-password@cache.example.com:6379/0",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Set what a production service would have, and nothing else."""
    monkeypatch.chdir(tmp_path)
    for field in EverySetting.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def refusal(kind: type[BaseSettings] = Settings) -> str:
    """Return the message with which the settings are refused."""
    with pytest.raises(SystemExit) as caught:
        load_settings(kind)
    return str(caught.value)


def test_the_environment_is_read(environment: pytest.MonkeyPatch) -> None:
    settings = load_settings(Settings)

    assert settings.database_url.drivername == "postgresql+asyncpg"
    assert settings.database_url.password == "p@ss"
    assert settings.client_secret.get_secret_value() == "canary-secret"
    assert not settings.serves_docs


def test_every_missing_setting_is_named_in_one_message(environment: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "SSO_ISSUER", "CLIENT_SECRET"):
        environment.delenv(name)

    message = refusal()

    for name in ("DATABASE_URL", "SSO_ISSUER", "CLIENT_SECRET"):
        assert f"  {name} is not set (The " in message
    assert "SSO_AUDIENCE" not in message


@pytest.mark.parametrize("name", ["CLIENT_SECRET", "SSO_AUDIENCE", "DATABASE_URL"])
def test_an_empty_setting_is_a_missing_one(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.setenv(name, "")
    environment.setenv("PUBLIC_URL", "")
    assert re.findall(r"(\w+) is not set", refusal()) == [name]


@pytest.mark.parametrize("mode", ["introspect", "both"])
@pytest.mark.parametrize(
    ("method", "needed"),
    [
        ("client_secret_basic", {"CLIENT_ID", "CLIENT_SECRET"}),
        ("client_secret_basic_raw", {"CLIENT_ID", "CLIENT_SECRET"}),
        ("client_secret_post", {"CLIENT_ID", "CLIENT_SECRET"}),
        ("private_key_jwt", {"CLIENT_ID", "CLIENT_PRIVATE_KEY_FILE"}),
        (
            "tls_client_auth",
            {"CLIENT_ID", "CLIENT_PRIVATE_KEY_FILE", "CLIENT_CERTIFICATE_FILE"},
        ),
    ],
)
def test_a_client_needs_what_its_method_shows(
    environment: pytest.MonkeyPatch, mode: str, method: str, needed: set[str]
) -> None:
    environment.setenv("SSO_MODE", mode)
    environment.setenv("CLIENT_AUTH_METHOD", method)
    for name in ("CLIENT_ID", "CLIENT_SECRET"):
        environment.delenv(name)
    assert set(re.findall(r"(\w+) is not set", refusal(CoreSettings))) == needed


def test_where_nobody_is_asked_no_client_is_needed(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SSO_MODE", "jwt")
    for name in ("CLIENT_ID", "CLIENT_SECRET"):
        environment.delenv(name)
    assert load_settings(CoreSettings).client_id == ""


@pytest.mark.parametrize("client", ["CLIENT_ID", "DOCS_CLIENT_ID"])
@pytest.mark.parametrize("jwt_type", ["any", ""])
def test_where_id_tokens_would_be_accepted_production_does_not_start(
    environment: pytest.MonkeyPatch, client: str, jwt_type: str
) -> None:
    """The audience of an ID token is its client, and nothing else may tell it apart."""
    for name, value in {"SSO_MODE": "jwt", client: "orders", "SSO_AUDIENCE": "orders"}.items():
        environment.setenv(name, value)
    environment.setenv("SSO_JWT_TYPE", jwt_type)
    assert "SSO_AUDIENCE must not be a client's name" in refusal(CoreSettings)

    for name, value in [
        ("ENVIRONMENT", "development"),
        ("SSO_MODE", "both"),
        ("SSO_MODE", "introspect"),
        ("SSO_JWT_TYPE", "at+jwt"),
        ("SSO_AUDIENCE", "https://api.example.com"),
    ]:
        with environment.context() as changed:
            changed.setenv(name, value)
            load_settings(CoreSettings)


def test_what_is_not_set_is_as_it_is_documented(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("SSO_MODE")
    environment.setenv("SSO_AUDIENCE", "no-client")
    settings = load_settings(CoreSettings)
    assert settings.sso_mode == SSO_MODE
    # New projects have a stricter default, in their own settings.
    assert load_settings(Settings).sso_jwt_type == "at+jwt"
    assert settings.client_auth_method == "client_secret_basic"
    assert settings.sso_introspection_response == "json"
    assert settings.sso_jwt_type == "any"
    assert not settings.sso_require_issuer
    assert (settings.sso_subject_claim, settings.sso_roles_claim) == ("sub", "roles")
    assert (settings.token_cache_seconds, settings.token_cache_stale_seconds) == (60, 0)


def test_migrations_need_the_database_only(environment: pytest.MonkeyPatch) -> None:
    for name in ("SSO_ISSUER", "SSO_AUDIENCE", "CLIENT_ID", "CLIENT_SECRET"):
        environment.delenv(name)
    assert load_settings(DatabaseSettings).database_url.host == "db.example.com"


def test_migrations_do_not_go_through_pgbouncer(environment: pytest.MonkeyPatch) -> None:
    """Their lock belongs to a connection, and each transaction would have another one."""
    environment.setenv("DATABASE_PGBOUNCER", "true")
    assert "MIGRATION_DATABASE_URL must be set" in refusal(MigrationSettings)
    load_settings(DatabaseSettings)

    environment.setenv("MIGRATION_DATABASE_URL", "postgresql://owner@db.example.com/app")
    assert load_settings(MigrationSettings).database_pgbouncer


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_a_database_url_may_be_written_in_the_usual_ways(
    environment: pytest.MonkeyPatch, scheme: str
) -> None:
    environment.setenv("DATABASE_URL", f"{scheme}://u:p@h/d?sslmode=require")

    url = load_settings(Settings).database_url

    assert url.render_as_string(hide_password=False) == "postgresql+asyncpg://u:p@h/d?ssl=require"


@pytest.mark.parametrize(
    "url",
    [
        "not a url",
        "mysql://u:canary@h/d",
        "postgresql+psycopg://u:canary@h/d",
        "postgresql://u:canary@h",
        "postgresql://u:canary@h/d?connect_timeout=3",
        "postgresql://u:canary@h:port/d",
        "postgresql://u:canary@h:99999/d",
        "postgresql://u:canary@h:0/d",
        "postgresql://u:canary@h/d?sslmode=bogus",
        "sqlite:///canary.db",
    ],
)
def test_a_database_url_that_cannot_work_is_refused_without_repeating_it(
    environment: pytest.MonkeyPatch, url: str
) -> None:
    environment.setenv("DATABASE_URL", url)

    message = refusal()

    assert "  DATABASE_URL " in message
    assert "canary" not in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SSO_ISSUER", "sso.example.com"),
        ("SSO_ISSUER", "http://sso.example.com"),
        ("SSO_ISSUER", "HTTP://sso.example.com"),
        ("SSO_ISSUER", "https://sso.example.com?x=1"),
        ("SSO_ISSUER", "https://sso.example.com "),
        ("SSO_ISSUER", "https://sso example.com"),
        ("SSO_ISSUER", "https://sso.example.com:99999"),
        ("SSO_ISSUER", "https://[sso"),
        ("SSO_ISSUER", "https://256.256.256.256"),
        ("SSO_ISSUER", "https://user:canary@sso.example.com"),
        ("SSO_ISSUER", "https://sso.example.com#canary"),
        ("SSO_MODE", "canary"),
        ("SSO_JWT_TYPE", "canary"),
        ("SSO_CA_FILE", "/nowhere/canary.pem"),
        ("CLIENT_AUTH_METHOD", "canary"),
        ("TOKEN_CACHE_SECONDS", "-1"),
        ("TOKEN_CACHE_SECONDS", "nan"),
        ("TOKEN_CACHE_STALE_SECONDS", "3601"),
        ("SSO_INTROSPECTION_URL", "http://sso.example.com/introspect"),
        ("SSO_JWKS_URL", "http://sso.example.com/jwks"),
        ("CORS_ORIGINS", "https://app.example.com/path"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "https://*.canary.example.com"),
        ("CORS_ORIGINS", "https://user:canary@app.example.com"),
        ("ENVIRONMENT", "canary"),
        ("DATABASE_POOL_SIZE", "0"),
        ("DATABASE_STATEMENT_TIMEOUT", "9"),
        ("DATABASE_STATEMENT_TIMEOUT", "8"),
        ("DATABASE_LOCK_TIMEOUT", "7"),
        ("MAX_BODY_SIZE", "-1"),
    ],
)
def test_a_setting_that_is_wrong_in_production_is_named(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)

    message = refusal()

    assert name in message
    assert "canary" not in message


def test_an_issuer_without_tls_is_for_development(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ENVIRONMENT", "development")
    environment.setenv("SSO_ISSUER", "http://127.0.0.1:9000")

    settings = load_settings(Settings)

    assert settings.sso_issuer == "http://127.0.0.1:9000"
    assert settings.serves_docs


def test_origins_are_separated_by_commas(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("CORS_ORIGINS", "https://a.example.com, https://b.example.com:8443,")
    origins = load_settings(Settings).cors_origins
    assert origins == ("https://a.example.com", "https://b.example.com:8443")


def test_the_docs_can_be_served_in_production(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("DOCS_ENABLED", "true")
    assert load_settings(Settings).serves_docs


class EverySetting(Settings, MigrationSettings, ServerSettings):
    """The settings of all processes."""


SECRETS = {
    "DATABASE_URL": "postgresql://app:canary-one@db.example.com/app",
    "DATABASE_REPLICA_URL": "postgresql://app:canary-two@db.example.com/app",
    "MIGRATION_DATABASE_URL": "postgresql://app:canary-three@db.example.com/app",
    "CLIENT_SECRET": "canary-four",
    "TOKEN_CACHE_URL": "valkeys://:canary-five@cache.example.com:6379/0",
    "TOKEN_CACHE_SECRET": "canary-six/pVeZ8vY2kQ0WqgkLmN",
}


def test_no_way_of_showing_the_settings_shows_a_secret(environment: pytest.MonkeyPatch) -> None:
    can_hold_one = {
        name.upper()
        for name, field in EverySetting.model_fields.items()
        if "SecretStr" in str(field.annotation) or "DatabaseUrl" in str(field.annotation)
    }
    assert can_hold_one == SECRETS.keys()
    for name, value in SECRETS.items():
        environment.setenv(name, value)
    settings = load_settings(EverySetting)
    dumped = settings.model_dump()

    shown = [
        *(repr(settings), str(settings), f"{vars(settings)}", f"{dict(settings)}"),
        *(repr(dumped), json.dumps(dumped, default=str), settings.model_dump_json()),
        *(json.dumps(settings.model_dump(mode="json")), pformat(settings), pformat(dumped)),
        *(f"{getattr(settings, name)}" for name in EverySetting.model_fields),
    ]

    for text in shown:
        assert "canary" not in text
    assert settings.database_url.password == "canary-one"


@pytest.mark.parametrize("name", [field.upper() for field in EverySetting.model_fields])
@pytest.mark.parametrize(
    "value",
    [
        "canary",
        "postgresql://u:canary@secret-canary@h/d",
        "postgresql://u:p@canary/word@h/d",
        "postgresql://u:p@canary?word=canary@h/d",
        "postgresql://u:p@h?canary=canary@h",
        "postgresql://u:p@h:canary/d",
        "valkey://u:canary@h:canary/0",
        "https://u:canary@h",
        "{canary",
        "canary\ncanary",
        "-1",
    ],
)
def test_no_refusal_of_any_setting_repeats_it(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)
    try:
        load_settings(EverySetting)
    except SystemExit as error:
        refused = error
    else:
        return
    assert name in str(refused)
    assert "canary" not in "".join(traceback.format_exception(refused))


PLAIN = [
    *(
        (name, f"postgresql://u:p@{host}/d?sslmode={mode}")
        for name in ("DATABASE_URL", "DATABASE_REPLICA_URL", "MIGRATION_DATABASE_URL")
        for host in ("db.example.com", "10.0.0.1", "[2001:db8::1]")
        for mode in ("disable", "allow", "prefer")
    ),
    ("DATABASE_URL", "postgresql://u:p@/d?host=localhost,db.example.com:5433&ssl=disable"),
    ("TOKEN_CACHE_URL", "valkey://:p@cache.example.com:6379/0"),
    ("TOKEN_CACHE_URL", "redis://cache.example.com"),
    ("TOKEN_CACHE_URL", "VALKEY://10.0.0.1"),
    ("CORS_ORIGINS", "https://a.example.com,http://b.example.com"),
    ("CORS_ORIGINS", "http://10.0.0.1:3000"),
    ("PUBLIC_URL", "http://api.example.com"),
]


@pytest.mark.parametrize(("name", "value"), PLAIN)
def test_production_sends_nothing_in_plain_text(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)
    message = refusal(EverySetting)
    assert f"  {name} must " in message
    assert "TRUSTED_NETWORK=true" in message

    environment.setenv("TRUSTED_NETWORK", "true")
    load_settings(EverySetting)
    environment.delenv("TRUSTED_NETWORK")
    environment.setenv("ENVIRONMENT", "development")
    load_settings(EverySetting)


@pytest.mark.parametrize(
    "name",
    sorted(
        name.upper()
        for name, field in EverySetting.model_fields.items()
        if re.search("url|origin|issuer", name) and "DatabaseUrl" not in str(field.annotation)
    ),
)
def test_no_url_is_without_tls_in_production(environment: pytest.MonkeyPatch, name: str) -> None:
    """The sweep: a setting that is added later must be looked at, too."""
    environment.setenv(name, "valkey://h" if name == "TOKEN_CACHE_URL" else "http://h")
    assert name in refusal(EverySetting)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgresql://u:p@localhost/d?sslmode=disable"),
        ("DATABASE_URL", "postgresql://u:p@127.0.0.1:6432/d?sslmode=disable"),
        ("DATABASE_URL", "postgresql://u:p@[::1]/d?sslmode=disable"),
        ("DATABASE_URL", "postgresql://u:p@%2Fvar%2Frun/d?sslmode=disable"),
        ("DATABASE_URL", "postgresql://u:p@/d?host=/var/run&sslmode=disable"),
        ("DATABASE_URL", "postgresql://u:p@db.example.com/d"),
        ("DATABASE_URL", "postgresql://u:p@db.example.com/d?sslmode=require"),
        ("TOKEN_CACHE_URL", "valkey://localhost:6379/0"),
        ("TOKEN_CACHE_URL", "valkeys://cache.example.com"),
        ("TOKEN_CACHE_URL", "unix:///var/run/valkey.sock"),
        ("CORS_ORIGINS", "http://localhost:3000"),
        ("CORS_ORIGINS", "capacitor://localhost"),
        ("PUBLIC_URL", "http://127.0.0.1:8000"),
    ],
)
def test_what_stays_on_the_machine_or_has_tls_is_accepted(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)
    load_settings(EverySetting)


def test_the_folder_of_a_socket_is_decoded(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("DATABASE_URL", "postgresql://u@%2Fvar%2Frun%2Fpostgresql:5433/d")
    url = load_settings(Settings).database_url
    assert (url.host, url.port, url.database) == ("/var/run/postgresql", 5433, "d")


@pytest.mark.parametrize("value", ["", "short", "change-me-in-production", "a" * 60])
def test_the_secret_of_the_token_cache_is_a_random_one(
    environment: pytest.MonkeyPatch, value: str
) -> None:
    environment.setenv("TOKEN_CACHE_SECRET", value)
    if value:
        assert "TOKEN_CACHE_SECRET must be a random one" in refusal()
    else:
        load_settings(Settings)
    environment.setenv("TOKEN_CACHE_SECRET", b64encode(os.urandom(32)).decode())
    load_settings(Settings)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("https://App.Example.com", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("https://app.example.com:8443", "https://app.example.com:8443"),
        ("capacitor://localhost", "capacitor://localhost"),
    ],
)
def test_an_origin_is_compared_as_browsers_write_it(
    environment: pytest.MonkeyPatch, value: str, expected: str
) -> None:
    environment.setenv("CORS_ORIGINS", value)
    assert load_settings(Settings).cors_origins == (expected,)


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("debug", 10),
        ("INFO", 20),
        ("Warning", 30),
        ("warn", 30),
        ("error", 40),
        ("critical", 50),
        ("20", 20),
    ],
)
def test_a_log_level_is_written_as_other_programs_have_it(
    environment: pytest.MonkeyPatch, text: str, level: int
) -> None:
    environment.setenv("LOG_LEVEL", text)
    assert load_settings(ServerSettings).log_level == level


@pytest.mark.parametrize("text", ["verbose", "-1", "1000", "info,debug"])
def test_a_log_level_that_is_none_is_refused(environment: pytest.MonkeyPatch, text: str) -> None:
    environment.setenv("LOG_LEVEL", text)
    assert "LOG_LEVEL write debug, info, warning or error" in refusal(ServerSettings)


def test_every_setting_stands_in_the_example() -> None:
    example = (PROJECT_ROOT / ".env.example").read_text("utf-8")
    for field in EverySetting.model_fields.keys() - {"provision_users"}:
        assert f"{field.upper()}=" in example


@pytest.mark.parametrize("quote", ["'", '"'])
@pytest.mark.parametrize("name", [field.upper() for field in Settings.model_fields])
def test_a_setting_in_quotes_is_refused_by_its_name(
    environment: pytest.MonkeyPatch, name: str, quote: str
) -> None:
    """As `docker run --env-file` passes on what .env has in quotes."""
    environment.setenv(name, f"{quote}canary{quote}")
    message = refusal()
    assert f"write {name} without quotes" in message
    assert "canary" not in message


def test_a_list_that_cannot_be_read_is_refused_by_its_name(
    environment: pytest.MonkeyPatch,
) -> None:
    class WithList(Settings):
        tags: list[str] = Field(default_factory=list)

    environment.setenv("TAGS", "one,two")
    assert '"tags"' in refusal(WithList)


def test_the_deadline_of_a_request_is_longer_than_the_database_may_take(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("REQUEST_TIMEOUT", "8")
    assert "DATABASE_COMMAND_TIMEOUT < REQUEST_TIMEOUT must hold" in refusal()


def test_where_the_database_may_take_longer_the_deadline_is_later_by_itself(
    environment: pytest.MonkeyPatch,
) -> None:
    assert load_settings(Settings).request_timeout == 10
    environment.setenv("DATABASE_COMMAND_TIMEOUT", "30")
    assert load_settings(Settings).request_timeout == 32
