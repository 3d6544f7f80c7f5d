"""The service's role reads and writes rows; the schema belongs to the role of the migrations."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.database.servers import USER, Machine, Postgres
from tests.projects import REPOSITORY, Projects, output, run

_DOCUMENTED = re.compile(r"```sql\n(-- app_owner is the role .+?)```", re.DOTALL)


@dataclass(frozen=True)
class Roles:
    """A database, the two roles that docs/migrations.md describes, and a project before it."""

    server: Postgres
    projects: Projects

    def url(self, role: str, database: str = "roles") -> str:
        """Return the URL of the database as a role."""
        return self.server.url.replace(f"//{USER}:", f"//{role}:").replace(
            "/postgres", f"/{database}"
        )

    def sql(self, role: str, statement: str) -> str:
        """Execute a statement as a role, and return what it returns."""
        return self.server.machine.run("psql", "-qAtX", self.url(role), "-c", statement).strip()

    def migrate(self, **urls: str) -> tuple[int, str]:
        """Return the status of ``alembic upgrade head`` with some settings, and what it said."""
        environment = self.projects.environment() | {"PYTHONDONTWRITEBYTECODE": "1"} | urls
        alembic = Path(environment["UV_PROJECT_ENVIRONMENT"]) / "bin" / "alembic"
        done = run(*(alembic, "upgrade", "head"), cwd=self.projects.rendered({}), env=environment)
        return done.returncode, output(done)


@pytest.fixture
def roles(machine: Machine, primary: Postgres, projects: Projects) -> Iterator[Roles]:
    """The roles, with the rights that the page grants, and an empty database."""
    roles = Roles(primary, projects)
    [grants] = _DOCUMENTED.findall((REPOSITORY / "docs" / "migrations.md").read_text("utf-8"))
    primary.sql("CREATE DATABASE roles")
    for role in ("app_owner", "service"):
        primary.sql(f"CREATE ROLE {role} LOGIN PASSWORD '{machine.password}'")
    # The tests' superuser is called "app" already.
    roles.sql(USER, re.sub(r"\bapp\b", "service", grants))
    yield roles
    primary.sql("DROP DATABASE roles WITH (FORCE)")
    primary.sql("DROP ROLE app_owner, service")


def test_the_service_only_has_rows_and_the_migrations_have_the_schema(roles: Roles) -> None:
    status, said = roles.migrate(
        DATABASE_URL=roles.url("service"), MIGRATION_DATABASE_URL=roles.url("app_owner")
    )
    assert status == 0, said

    row = "(id, username, email) VALUES (gen_random_uuid(), 'ana', 'ana@example.com')"
    roles.sql("service", f"INSERT INTO user_account {row}")
    assert roles.sql("service", "UPDATE user_account SET email = 'a@example.com' RETURNING email")
    assert roles.sql("service", "SELECT count(*) FROM alembic_version") == "1"
    roles.sql("service", "DELETE FROM user_account")
    for forbidden in ("DROP TABLE user_account", "CREATE TABLE other ()", "TRUNCATE user_account"):
        with pytest.raises(AssertionError, match=r"must be owner|permission denied"):
            roles.sql("service", forbidden)


@pytest.mark.parametrize("is_named", [True, False])
def test_a_role_that_may_not_change_the_schema_is_told_so_in_a_sentence(
    roles: Roles, is_named: bool
) -> None:
    urls = {"DATABASE_URL": roles.url("service")}
    if is_named:
        urls["MIGRATION_DATABASE_URL"] = urls["DATABASE_URL"]
    status, said = roles.migrate(**urls)
    assert status == 1
    assert "permission denied for schema public" in said
    assert "MIGRATION_DATABASE_URL" in said
    assert "Traceback" not in said
    assert len(said.splitlines()) < 10, said


@pytest.mark.parametrize(
    ("role", "database", "why"),
    [
        ("nobody", "roles", "28P01 (the password of nobody is wrong, or there is no such user)"),
        ("app_owner", "elsewhere", "3D000 (there is no database elsewhere)"),
    ],
)
def test_a_wrong_address_is_blamed_on_the_setting_that_has_it(
    roles: Roles, role: str, database: str, why: str
) -> None:
    good, wrong = roles.url("app_owner"), roles.url(role, database)
    status, said = roles.migrate(DATABASE_URL=good, MIGRATION_DATABASE_URL=wrong)
    assert status == 1
    assert "MIGRATION_DATABASE_URL" in said
    assert why in said
    assert roles.server.machine.password not in said

    status, said = roles.migrate(DATABASE_URL=wrong)
    assert status == 1
    assert "MIGRATION_DATABASE_URL" not in said
    assert "DATABASE_URL" in said
    assert "Traceback" not in said
