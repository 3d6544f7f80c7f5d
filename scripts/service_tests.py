"""Lay tests/service over a project that is rendered from the work tree, and run them there.

The project stands in .dev/service and is rendered anew each time; its environment stays.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from copier import run_copy

TEMPLATE = Path(__file__).resolve().parents[1]
TESTS = Path("tests", "service")
# With these answers a project has every file that is tested.
ANSWERS = {"token_cache": "valkey", "local_passwords": "yes"}
PACKAGES = ("app", "template_tools", "migrations", "tests")
TYPES = ["mypy", "--strict", *(word for package in PACKAGES for word in ("-p", package))]
_KEPT = {".venv", ".dev", "uv.lock", ".mypy_cache", ".ruff_cache"}


def main() -> int:
    """Return the exit code of pytest, or of mypy."""
    parser = argparse.ArgumentParser(
        prog="uv run poe service-tests", description=__doc__, epilog="The rest goes to pytest."
    )
    parser.add_argument(
        "--data", action="append", default=[], metavar="QUESTION=ANSWER", help="an answer"
    )
    parser.add_argument("--types", action="store_true", help="check their types instead")
    options, words = parser.parse_known_args()
    folder = TEMPLATE / ".dev" / "service"
    render_into(folder, ANSWERS | dict(pair.split("=", 1) for pair in options.data))
    lay_over(folder)
    if options.types:
        command = TYPES
    elif any(Path(folder, word.partition("::")[0]).exists() for word in words):
        command = ["pytest", *words]
    else:
        command = ["pytest", *words, str(TESTS)]
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    uv = os.environ.get("UV", "uv")
    return subprocess.call([uv, "run", *command], cwd=folder, env=environment)


def lay_over(project: Path) -> None:
    """Put the tests of the template's parts into a rendered project."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(TEMPLATE / TESTS, project / TESTS, ignore=ignored)


def render_into(folder: Path, answers: dict[str, str]) -> None:
    """Render the work tree anew into a folder, whose environment stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name not in _KEPT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    # Copier commits the work tree's changes in a clone of its own.
    run_copy(str(TEMPLATE), folder, data=answers, vcs_ref="HEAD", defaults=True, quiet=True)


if __name__ == "__main__":
    sys.exit(main())
