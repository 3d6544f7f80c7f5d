"""Settings, and the sentences about wrong ones."""

import re
from pathlib import Path

import pytest
from pydantic import Field

from app.core.project import SSO_MODE
from app.core.settings import CoreSettings, DatabaseSettings, MigrationSettings, load_settings
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
    "TOKEN_CACHE_URL": "valkey://:canary-password@cache.example.com:6379/0",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Set what a production service would have, and nothing else."""
    monkeypatch.chdir(tmp_path)
    for field in CoreSettings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def refusal(kind: type[DatabaseSettings] = Settings) -> str:
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


def test_what_is_not_set_is_as_it_is_documented(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("SSO_MODE")
    settings = load_settings(CoreSettings)
    assert settings.sso_mode == SSO_MODE
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


def test_secrets_do_not_appear_in_the_settings_text(environment: pytest.MonkeyPatch) -> None:
    text = repr(load_settings(Settings))
    assert "canary" not in text
    assert "p@ss" not in text
    assert "p%40ss" not in text


def test_every_setting_stands_in_the_example() -> None:
    example = (PROJECT_ROOT / ".env.example").read_text("utf-8")
    for field in CoreSettings.model_fields:
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
