"""What `alembic revision --autogenerate` writes for a model's enumeration."""

import asyncio
import os
import subprocess
import sys

from devtools.configuration import PROJECT_ROOT
from tests.database.history import History

MODEL = """
import enum
import sqlalchemy as sa
from sqlmodel import Field
from app.database.base import TableBase

State = enum.Enum("State", {labels!r})

class Parcel(TableBase, table=True):
    state: State
    {column}: State | None = None
    remark: str = Field(sa_column=sa.Column(sa.String(40), comment={comment!r}))
"""
# The post-write hooks come from alembic.ini, as they do on the command line.
RUN = """
import sys
from alembic import command
from alembic.config import Config

config, message = Config(sys.argv[1]), sys.argv[2]
command.upgrade(config, "head")
try:
    command.check(config)
except Exception as error:
    print(error)
command.revision(config, message, autogenerate=True)
for step in (command.upgrade, "head"), (command.downgrade, "base"), (command.upgrade, "head"):
    step[0](config, step[1])
command.check(config)
"""


def autogenerate(history: History, message: str) -> str:
    """Write a revision, try it in both directions, and return what was said."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(history.ini()), message],
        cwd=PROJECT_ROOT,
        env=os.environ | {"PYTHONPATH": str(history.folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


async def test_a_type_is_made_once_extended_and_dropped(history: History) -> None:
    """Up, down and up again, for a new table, a new column and a new label."""
    history.write()
    environment = history.folder / "env.py"
    code = environment.read_text("utf-8")
    environment.write_text(f"import app.database.model\nimport parcel\n{code}", "utf-8")
    root = history.folder.parent
    (root / "ruff.toml").write_text((PROJECT_ROOT / "ruff.toml").read_text("utf-8"), "utf-8")

    def model(*labels: str, column: str) -> None:
        text = MODEL.format(labels=labels, column=column, comment="words " * 30)
        (history.folder / "parcel.py").write_text(text, "utf-8")

    model("OPEN", "SHUT", column="before")
    await asyncio.to_thread(autogenerate, history, "1 parcels")
    model("OPEN", "SHUT", "it's: lost", column="later")
    said = await asyncio.to_thread(autogenerate, history, "2 states")

    assert "ADD VALUE IF NOT EXISTS 'it''s" in said, "a label that is missing fails the check"
    first, second = sorted((history.folder / "versions").glob("*.py"))
    assert "CREATE TYPE state AS ENUM ('OPEN', 'SHUT')" in first.read_text("utf-8")
    assert first.read_text("utf-8").count("DROP TYPE state") == 1
    assert "DROP TYPE" not in second.read_text("utf-8")
    for command in (["format", "--check"], ["check"]):
        ruff = [sys.executable, "-m", "ruff", *command, str(first), str(second)]
        done = await asyncio.to_thread(
            subprocess.run, ruff, cwd=root, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout
