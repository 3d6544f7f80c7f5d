"""Lint the migrations for statements that lock a busy table or break the running release.

Squawk lints the SQL of each revision. To accept a finding, put a comment with squawk's name of the
rule into the revision: ``# squawk-ignore-file ban-drop-column``. Revisions that are older than the
lint are skipped by naming the last of them in pyproject.toml::

    [tool.lint-migrations]
    after = "5f0c1b2a3d4e"
"""

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError
from sqlmodel import SQLModel

import app.database.base  # noqa: F401 - the names of constraints
from app.core.project import DOCUMENTATION
from template_tools.configuration import PROJECT_ROOT
from template_tools.messages import _

_RULES = Path(__file__).with_name("squawk.toml")
_ACCEPTED = re.compile(r"^\s*# (squawk-ignore-file\b.*)$", re.MULTILINE)


def main(root: Path = PROJECT_ROOT) -> int:
    """Lint the revisions of a project; return 1 for findings, 2 for an unusable history."""
    program = find_squawk()
    if program is None:
        print(_("squawk does not run on this platform: the migrations are not linted here."))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        try:
            written = [_write_as_sql(script, Path(folder)) for script in _revisions(root)]
        except CommandError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        files = [path.name for path in written if path]
        if not files:
            return 0
        # Findings show the names as they are given, so they are relative to the folder.
        done = subprocess.run([program, f"--config={_RULES}", *files], cwd=folder, check=False)
    if done.returncode:
        advice = _(
            "{docs}/migrations.md shows the safe way. To accept a finding, write its rule into "
            'the\nrevision, and why: "# squawk-ignore-file ban-drop-column", with the reason on a '
            "line of its own.",
            docs=DOCUMENTATION,
        )
        print(f"\n{advice}", file=sys.stderr)
    return done.returncode


def find_squawk() -> str | None:
    """Return the path of squawk, which has no package for some platforms."""
    return shutil.which("squawk", path=Path(sys.executable).parent) or shutil.which("squawk")


def _revisions(root: Path) -> Iterator[Script]:
    """Yield the revisions to lint, oldest first."""
    config = Config()
    config.set_main_option("script_location", str(root / "migrations").replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    document = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    after = document["tool"].get("lint-migrations", {}).get("after", "base")
    scripts.get_revisions(after)  # A name that is wrong has a sentence here, and none below.
    before = {script.revision for script in scripts.iterate_revisions(after, "base")}
    for script in reversed(list(scripts.walk_revisions())):
        if script.revision not in before:
            yield script


def _write_as_sql(script: Script, folder: Path) -> Path | None:
    """Write what a revision does on upgrade into a file; say so where it has no SQL to show."""
    source = Path(script.path)
    buffer = StringIO()
    options = {"as_sql": True, "literal_binds": True, "output_buffer": buffer}
    context = MigrationContext.configure(
        dialect_name="postgresql", opts=options | {"target_metadata": SQLModel.metadata}
    )
    try:
        with Operations.context(context), context.begin_transaction():
            script.module.upgrade()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        print(
            _(
                "{file} is not linted: its SQL depends on a database ({reason}).",
                file=source.name,
                reason=reason,
            )
        )
        return None
    accepted = "".join(f"-- {line}\n" for line in _ACCEPTED.findall(source.read_text("utf-8")))
    path = folder / f"{source.stem}.sql"
    path.write_text(accepted + buffer.getvalue(), "utf-8")
    return path


if __name__ == "__main__":
    sys.exit(main())
