"""The lint of migrations: what is dangerous has a finding, what is safe has none."""

from pathlib import Path

import pytest

from template_tools.configuration import PROJECT_ROOT
from template_tools.lint_migrations import find_squawk, main

HEAD = """
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = {before!r}

{comment}
def upgrade() -> None:
    {code}
"""
TABLE = """op.create_table(
        "note", sa.Column("id", sa.Integer, nullable=False), sa.Column("no", sa.Integer)
    )"""

pytestmark = pytest.mark.skipif(
    find_squawk() is None, reason="squawk does not run on this platform"
)


def project(folder: Path, *revisions: str, comment: str = "") -> Path:
    """Make a project whose last revision has the comment."""
    versions = folder / "migrations" / "versions"
    versions.mkdir(parents=True)
    (folder / "pyproject.toml").write_text("[tool]\n", "utf-8")
    for number, code in enumerate(revisions, start=1):
        text = HEAD.format(
            revision=number,
            before=str(number - 1) if number > 1 else None,
            comment=comment if number == len(revisions) else "",
            code=code,
        )
        (versions / f"{number}.py").write_text(text, "utf-8")
    return folder


def test_the_project_s_own_migrations_are_safe_or_accepted() -> None:
    assert main(PROJECT_ROOT) == 0


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        ('op.add_column("note", sa.Column("a", sa.Text, nullable=False))', "adding-required-field"),
        ('op.create_index("ix_no", "note", ["no"])', "require-concurrent-index-creation"),
        ('op.alter_column("note", "no", type_=sa.Text())', "changing-column-type"),
        ('op.alter_column("note", "no", nullable=False)', "adding-not-nullable-field"),
        ('op.alter_column("note", "no", new_column_name="number")', "renaming-column"),
        ('op.drop_column("note", "no")', "ban-drop-column"),
        ('op.drop_table("note")', "ban-drop-table"),
        ('op.create_foreign_key("fk", "note", "note", ["no"], ["id"])', "adding-foreign-key"),
        ('op.create_unique_constraint("uq", "note", ["no"])', "disallowed-unique-constraint"),
        (
            'op.create_index("ix_no", "note", ["no"], postgresql_concurrently=True)',
            "ban-concurrent-index-creation-in-transaction",
        ),
    ],
    ids=lambda value: value if " " not in value else "",
)
def test_what_is_dangerous_is_found(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], code: str, rule: str
) -> None:
    assert main(project(tmp_path, TABLE, code)) == 1
    found = capfd.readouterr()
    assert rule in found.out
    assert "2.sql" in found.out
    assert "squawk-ignore-file" in found.err


@pytest.mark.parametrize(
    "code",
    [
        'op.add_column("note", sa.Column("a", sa.Integer))',
        'op.add_column("note", sa.Column("a", sa.Integer, nullable=False, server_default="0"))',
        'op.create_table("b", sa.Column("id", sa.Integer)), op.create_index("ix", "b", ["id"])',
        'op.create_check_constraint("ck", "note", "no > 0", postgresql_not_valid=True)',
        'op.execute("ALTER TABLE note VALIDATE CONSTRAINT ck")',
        "with op.get_context().autocommit_block():\n"
        '        op.create_index("ix_no", "note", ["no"], postgresql_concurrently=True)',
    ],
)
def test_what_is_safe_is_not(tmp_path: Path, code: str) -> None:
    assert main(project(tmp_path, TABLE, code)) == 0


def test_a_finding_may_be_accepted(tmp_path: Path) -> None:
    comment = "# squawk-ignore-file ban-drop-column"
    assert main(project(tmp_path, TABLE, 'op.drop_column("note", "no")', comment=comment)) == 0


def test_what_was_applied_long_ago_may_be_left_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    drop = 'op.drop_column("note", "no")'
    folder = project(tmp_path, TABLE, drop, 'op.add_column("note", sa.Column("a", sa.Integer))')
    (folder / "pyproject.toml").write_text('[tool.lint-migrations]\nafter = "2"\n', "utf-8")
    assert main(folder) == 0
    (folder / "pyproject.toml").write_text('[tool.lint-migrations]\nafter = "absent"\n', "utf-8")
    assert main(folder) == 2
    assert "error: Can't locate revision identified by 'absent'" in capfd.readouterr().err


def test_what_cannot_be_written_as_sql_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    count = 'op.get_bind().execute(sa.text("SELECT count(*) FROM note")).scalar_one()'
    assert main(project(tmp_path, TABLE, count)) == 0
    assert "2.py is not linted" in capfd.readouterr().out
