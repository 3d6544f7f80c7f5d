"""A service that is older than the template adopts it, takes updates, and can leave it again.

The commands are those of docs/adopt.md.
"""

import re
import subprocess
from pathlib import Path

import pytest

from tests.projects import (
    RELEASE,
    REPOSITORY,
    Project,
    Projects,
    commit,
    output,
    render,
    succeed,
    tree,
)
from tests.updates.evolution import LAST
from tests.updates.updating import (
    Lives,
    Server,
    assert_passes,
    assert_tests_pass,
    conflicts,
    update,
)

PAGE = (REPOSITORY / "docs" / "adopt.md").read_text("utf-8")

MODELS = '''\
"""Books and loans."""

from datetime import date

from sqlmodel import Field, SQLModel


class Book(SQLModel, table=True):
    """A book of the library."""

    id: int | None = Field(default=None, primary_key=True)
    isbn: str
    title: str = Field(index=True)


class Loan(SQLModel, table=True):
    """A book that somebody has borrowed."""

    id: int | None = Field(default=None, primary_key=True)
    book_id: int = Field(foreign_key="book.id")
    borrower: str
    due: date
'''
MIGRATION = """\
'''books'''
from alembic import op
import sqlalchemy as sa
import sqlmodel

revision = '1a2b3c4d5e6f'
down_revision = None

def upgrade():
    op.create_table('book',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('isbn', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('title', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_index(op.f('ix_book_title'), 'book', ['title'], unique=False)
    op.create_table('loan',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('book_id', sa.Integer(), nullable=False),
    sa.Column('borrower', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('due', sa.Date(), nullable=False),
    sa.ForeignKeyConstraint(['book_id'], ['book.id'], ),
    sa.PrimaryKeyConstraint('id')
    )

def downgrade():
    op.drop_table('loan')
    op.drop_table('book')
"""
HAND_MADE = {
    "README.md": "# Library\n",
    ".gitignore": "__pycache__/\n.env\nexports/\n",
    "Dockerfile": "FROM python:3.12-slim\nCOPY . .\n",
    "requirements.txt": "fastapi\nsqlmodel\n",
    "alembic.ini": "[alembic]\nscript_location = alembic\n",
    "alembic/env.py": "from app import models\n",
    "alembic/versions/1a2b3c4d5e6f_books.py": MIGRATION,
    "app/__init__.py": "",
    "app/main.py": "from fastapi import FastAPI\n\napp = FastAPI()\n",
    "app/models.py": MODELS,
    "app/core/config.py": "LOAN_DAYS = 28\n",
    "tests/conftest.py": "import pytest\n",
}
# What an older database looks like, whose names PostgreSQL has given.
_OLD_DATABASE = """
import asyncio, os, sys
import asyncpg
import template_tools.pytest_plugin  # Sets what the application needs, and imports it.
from alembic import command
from alembic.config import Config

async def run(url, *statements):
    connection = await asyncpg.connect(url)
    for statement in statements:
        await connection.execute(statement)
    rows = await connection.fetch(
        "SELECT conname FROM pg_constraint WHERE conrelid::regclass::text IN ('book', 'loan')"
        " AND contype IN ('p', 'f')"
    )
    await connection.close()
    return {row["conname"] for row in rows}

server = sys.argv[1].replace("+asyncpg", "")
asyncio.run(run(server, "CREATE DATABASE app_test_library"))
library = server.rpartition("/")[0] + "/app_test_library"
asyncio.run(run(library, '''
    CREATE TABLE book (id serial PRIMARY KEY, isbn varchar NOT NULL, title varchar NOT NULL);
    CREATE INDEX ix_book_title ON book (title);
    CREATE TABLE loan (id serial PRIMARY KEY, book_id integer NOT NULL REFERENCES book (id),
        borrower varchar NOT NULL, due date NOT NULL);
    CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
    INSERT INTO alembic_version VALUES ('1a2b3c4d5e6f');
'''))
os.environ["DATABASE_URL"] = library.replace("postgresql://", "postgresql+asyncpg://")
command.upgrade(Config("alembic.ini"), "head")
command.check(Config("alembic.ini"))
print("names:", *sorted(asyncio.run(run(library))))
"""


def commands(heading: str) -> str:
    """Return the first block of commands in a section of the page."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section is not None
    block = re.search(r"^```console\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)
    assert block is not None
    return block[1]


def sh(script: str, folder: Path) -> None:
    """Run commands in a shell that stops at the first that fails."""
    succeed("sh", "-ec", script, cwd=folder)


def hand_made(folder: Path) -> Path:
    """Make the service, in a repository."""
    for path, text in HAND_MADE.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, "utf-8")
    succeed("git", "init", "--quiet", "--initial-branch=main", cwd=folder)
    commit(folder, "Library")
    return folder


def rename_constraints(revision: Path) -> None:
    """Write the lines of the page into a revision."""
    block = re.search(r"^  ```python\n(.*?)^  ```", PAGE, re.MULTILINE | re.DOTALL)
    assert block is not None
    lines = re.sub(r"^  ", "", block[1], flags=re.MULTILINE)
    names, loop = lines.split("\n\n", 1)
    names = names.replace(")]", '), ("loan", "loan_pkey", "pk_loan")]')
    text = revision.read_text("utf-8")
    begin = "def upgrade() -> None:\n"
    assert text.count(begin) == 1
    revision.write_text(text.replace(begin, f"{names}\n\n\n{begin}{loop}"), "utf-8")


def test_a_hand_made_service_adopts_the_template_and_its_first_update_has_no_conflict(
    lives: Lives, projects: Projects, server: Server, tmp_path: Path
) -> None:
    folder = hand_made(tmp_path / "library")
    project = Project(folder, projects.environment())

    sh(commands("Move the service aside"), folder)
    assert sorted(it.name for it in folder.iterdir()) == [".git", "README.md", "old"]
    render(lives.history, folder, {"project_name": "Library", "ci": "none"}, RELEASE)
    commit(folder, "Start from the template")

    *lines, last = commands("Keep the migrations").splitlines()
    assert last == 'uv run poe revision -m "Adopt the template"'
    sh("\n".join(lines), folder)
    (folder / "old/app/models.py").rename(folder / "app/database/model/library.py")
    server.migrate(project, "Adopt the template")
    (revision,) = (folder / "migrations/versions").glob("*_adopt_the_template.py")
    assert "user_account" in revision.read_text("utf-8")
    assert "book" not in revision.read_text("utf-8")
    rename_constraints(revision)
    with (folder / ".gitignore").open("a", encoding="utf-8") as file:
        file.write("exports/\n")
    succeed("git", "rm", "-rq", "old", cwd=folder)
    commit(folder, "Move the service in")

    said = project.tool("python", "-c", _OLD_DATABASE, server.url)
    assert said.returncode == 0, output(said)
    assert "names: fk_loan_book_id_book pk_book pk_loan\n" in said.stdout
    assert_tests_pass(project, "tests/contract/test_migrations.py")
    commit(folder, "Lock what was tested")

    update(folder, LAST)

    assert conflicts(folder) == []
    assert (folder / "README.md").read_text("utf-8") == "# Library\n"
    assert (folder / ".gitignore").read_text("utf-8").endswith("exports/\n")
    assert (folder / "app/database/model/library.py").read_text("utf-8") == MODELS
    assert not (folder / "migrations/versions/0001_initial.py").exists()


@pytest.mark.long
def test_two_projects_of_a_monorepo_take_updates_one_after_the_other(
    lives: Lives, tmp_path: Path
) -> None:
    mono = tmp_path / "mono"
    mono.mkdir()
    succeed("git", "init", "--quiet", "--initial-branch=main", cwd=mono)
    (mono / "README.md").write_text("Two services.\n")
    folders = [mono / "services" / name for name in ("billing", "shop")]
    for folder in folders:
        render(lives.history, folder, {"project_name": folder.name, "ci": "none"}, RELEASE)
    commit(mono, "Two services")
    with (folders[0] / "app/health.py").open("a", encoding="utf-8") as file:
        file.write("# Ours.\n")
    commit(mono, "An edit")
    before = tree(folders[1])

    update(folders[0], LAST)

    assert conflicts(folders[0]) == []
    changed = succeed("git", "status", "--porcelain", cwd=mono).splitlines()
    assert changed
    assert all(line[3:].startswith("services/billing/") for line in changed)
    assert (folders[0] / "app/health.py").read_text("utf-8").endswith("# Ours.\n")
    assert tree(folders[1]) == before
    commit(mono, "Update billing")
    update(folders[1], LAST)
    assert conflicts(folders[1]) == []


def test_a_service_that_has_left_passes_its_own_checks_and_tests(
    lives: Lives, projects: Projects, tmp_path: Path
) -> None:
    answers = {"template_updates": "workflow"}
    folder = lives.start(RELEASE, "untouched", answers, tmp_path / "service")
    project = Project(folder, projects.environment())

    sh(commands("Leave again"), project.folder)
    tasks = project.folder / "template_tools" / "tasks.toml"
    text, group, _ = tasks.read_text("utf-8").partition("[groups.5-template]\n")
    assert group
    tasks.write_text(f"{text.rstrip()}\n", "utf-8")
    commit(project.folder, "Leave the template")

    gone_files = succeed(
        "git", "diff", "--name-only", "--diff-filter=D", "HEAD^", cwd=project.folder
    )
    assert ".copier-answers.yml" in gone_files
    assert ".github/workflows/template-update.yml" in gone_files
    listing = subprocess.run(
        ["git", "grep", "-lE", r"template_status|template_tests|copier-answers"],
        cwd=project.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    # The page says what is to be written anew there.
    assert set(listing.stdout.split()) <= {"AGENTS.md", "README.md"}
    assert_passes(project, "check")
    assert_tests_pass(project)
