"""The migration of a new resource."""

import subprocess
import sys
from pathlib import Path

from template_tools.resource import ResourceError

_VERSIONS = "migrations/versions"


def check_models(root: Path) -> None:
    """Return if the models agree with the database.

    Else the migration of the resource would be about something else too.

    Raises:
        ResourceError: They do not, or there is no database.
    """
    done = _run(root, "template_tools.resource.agreement")
    if done.returncode != 0:
        raise ResourceError(
            f"{_said(done)}\nNothing was written; --no-migration writes the code alone."
        )


def write_migration(message: str, root: Path) -> list[str]:
    """Write a migration for what changed in the models, and return its path.

    Raises:
        ResourceError: None was written.
    """
    before = {*(root / _VERSIONS).glob("*.py")}
    done = _run(root, "template_tools.revision", message)
    if done.returncode != 0:
        raise ResourceError(
            f"{_said(done)}\nThe files above are written, and the migration is not. When the "
            f'reason is mended, run  uv run poe revision -m "{message}"  or, to undo it all, '
            "remove the files and the two lines in app/api/v1/router.py."
        )
    return sorted(path.name for path in {*(root / _VERSIONS).glob("*.py")} - before)


def _run(root: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a module with a database, in a process of its own, which reads the models anew."""
    python = [sys.executable, "-m"]
    return subprocess.run(
        [*python, "template_tools.postgres", "run", "--", *python, module, *arguments],
        cwd=root,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def _said(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a program has printed, without Alembic's progress."""
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return "\n".join(line for line in lines if not line.startswith("alembic: "))
