"""A reader follows docs/add-a-field.md to the letter, in a project whose table has rows."""

import re
import shlex
import socket
from collections.abc import Callable

import pytest

from tests.answers import DEFAULTS, Answers
from tests.projects import REPOSITORY, Project, apply, output

PAGE = REPOSITORY / "docs/add-a-field.md"
# A file's name before a block, if it has one; the block's language; and the block.
BLOCK = re.compile(r"^(?:`([\w/.]+)`:\n\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ON_DATABASE = ("python", "-m", "template_tools.postgres", "run", "--")
EXECUTE = """
import asyncio, os, sys, asyncpg
async def main():
    url = os.environ["DATABASE_URL"].replace("+asyncpg", "")
    connection = await asyncpg.connect(url)
    for statement in sys.argv[1:]:
        print([tuple(row) for row in await connection.fetch(statement)])
asyncio.run(main())
"""


def on_database(project: Project, *command: str) -> str:
    done = project.tool(*ON_DATABASE, str(project.program(command[0])), *command[1:])
    assert done.returncode == 0, output(done)
    return output(done)


@pytest.mark.takes_minutes
def test_the_page_can_be_followed(make_project: Callable[[Answers], Project]) -> None:
    project = make_project(DEFAULTS)
    versions = project.folder / "migrations/versions"
    before = {*versions.glob("*.py")}
    assert project.poe("migrate").returncode == 0
    row = (
        "INSERT INTO user_account (id, username, email) SELECT gen_random_uuid(), n::text, n::text"
        " FROM generate_series(1, 1000) AS n"
    )
    on_database(project, "python", "-c", EXECUTE, row)

    for name, language, block in BLOCK.findall(PAGE.read_text("utf-8")):
        if language == "console":
            for line in block.splitlines():
                words = shlex.split(line)
                assert words[:3] == ["uv", "run", "poe"]
                done = project.poe(*words[3:])
                assert done.returncode == 0, output(done)
        elif language == "diff":
            apply(block, project.folder / name)
        elif name:
            (project.folder / name).write_text(block, "utf-8")
        else:
            (written,) = {*versions.glob("*.py")} - before
            assert block in written.read_text("utf-8"), "the page shows what is written"

    values = "SELECT language, count(*) FROM user_account GROUP BY 1"
    assert "[('en', 1000)]" in on_database(project, "python", "-c", EXECUTE, values)
    on_database(project, "alembic", "check")
    assert project.poe("revision", "-m", "Nothing").returncode == 0
    assert len({*versions.glob("*.py")} - before) == 1, "the default is not dropped again"


def test_a_team_begins_anew_with_the_embedded_database_alone(project: Project) -> None:
    """After another branch has migrated the database further than the files of this one go."""
    assert project.poe("migrate").returncode == 0
    ahead = "UPDATE alembic_version SET version_num = 'elsewhere'"
    on_database(project, "python", "-c", EXECUTE, ahead, "CREATE TABLE left_behind ()")
    refused = project.poe("migrate")
    assert refused.returncode == 1
    assert "uv run poe db --fresh" in output(refused)

    foreign = {**project.env, "DATABASE_URL": "postgresql://app@127.0.0.1:9/precious"}
    elsewhere = Project(project.folder, foreign).poe("db", "--fresh")
    assert elsewhere.returncode == 1
    assert "only the embedded development database is ever dropped" in output(elsewhere)
    (project.folder / ".env").write_text("DATABASE_URL=postgresql://app@127.0.0.1:9/precious\n")
    assert project.poe("db", "--fresh").returncode == 1
    (project.folder / ".env").unlink()

    fresh = project.poe("db", "--fresh")
    assert fresh.returncode == 0, output(fresh)
    tables = "SELECT relname FROM pg_class WHERE relname IN ('left_behind', 'user_account')"
    assert "[('user_account',)]" in on_database(project, "python", "-c", EXECUTE, tables)


def test_two_branches_are_joined_with_one_command(
    make_project: Callable[[Answers], Project],
) -> None:
    project = make_project(DEFAULTS)
    for name in ("left", "right"):
        (project.folder / f"migrations/versions/{name}.py").write_text(
            f'"""{name}."""\n\nfrom alembic import op\n\n'
            f'revision = "{name}"\ndown_revision = "0001"\n\n\n'
            f'def upgrade() -> None:\n    op.execute("CREATE SEQUENCE made_{name}")\n\n\n'
            f'def downgrade() -> None:\n    op.execute("DROP SEQUENCE made_{name}")\n',
            "utf-8",
        )
    sentence = "uv run poe merge"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    for task in (
        ["migrate"],
        ["revision", "-m", "more"],
        ["resource", "invoice", "number:str"],
        ["dev", "--port", port],
    ):
        done = project.poe(*task)
        assert done.returncode == 1
        assert sentence in output(done)
        assert "Traceback" not in output(done)
    tests = project.poe("test", "-q", "tests/contract/test_migrations.py")
    assert tests.returncode == 1
    assert "Traceback" not in output(tests)
    assert sentence in output(tests)

    for task in (["merge"], ["migrate"], ["check"], ["test", "-q", "tests/contract"]):
        done = project.poe(*task)
        assert done.returncode == 0, output(done)
