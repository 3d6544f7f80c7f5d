"""Renew ``template/requirements.txt``: what a new project is tested with, with hashes.

The versions are the newest within the bounds of the template's pyproject.toml and before this
repository's ``exclude-newer``.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from copier import run_copy

TEMPLATE = Path(__file__).resolve().parents[1]


def main() -> int:
    """Render a project, run its own ``lock`` task, and take the result over."""
    settings = tomllib.loads((TEMPLATE / "pyproject.toml").read_text("utf-8"))["tool"]["uv"]
    environment = os.environ | {"UV_EXCLUDE_NEWER": settings["exclude-newer"]}
    environment.pop("VIRTUAL_ENV", None)
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        run_copy(str(TEMPLATE), project, vcs_ref="HEAD", defaults=True, quiet=True)
        command = [os.environ.get("UV", "uv"), "run", "poe", "upgrade"]
        subprocess.run(command, cwd=project, env=environment, check=True)
        shutil.copyfile(project / "requirements.txt", TEMPLATE / "template" / "requirements.txt")
    return 0


if __name__ == "__main__":
    sys.exit(main())
