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
KEPT = {".venv", ".dev", "uv.lock", ".mypy_cache", ".ruff_cache"}


def main() -> int:
    """Return the exit code of pytest, or of mypy."""
    parser = argparse.ArgumentParser(prog="uv run poe service-tests", description=__doc__)
    parser.add_argument(
        "--data", action="append", default=[], metavar="QUESTION=ANSWER", help="an answer"
    )
    parser.add_argument("--types", action="store_true", help="check their types instead")
    options, words = parser.parse_known_args()
    folder = TEMPLATE / ".dev" / "service"
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name not in KEPT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    # Copier commits the work tree's changes in a clone of its own.
    answers = {"token_cache": "valkey", "local_passwords": "yes"} | dict(
        pair.split("=", 1) for pair in options.data
    )
    run_copy(str(TEMPLATE), folder, data=answers, vcs_ref="HEAD", defaults=True, quiet=True)
    shutil.copytree(TEMPLATE / "tests" / "service", folder / "tests" / "service")
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    uv = os.environ.get("UV", "uv")
    command = [uv, "run", "mypy"] if options.types else [uv, "run", "pytest", *words]
    if options.types:
        command += [
            "--strict",
            "-p",
            "app",
            "-p",
            "template_tools",
            "-p",
            "migrations",
            "-p",
            "tests",
        ]
    elif not any(Path(folder, word.partition("::")[0]).exists() for word in words):
        command.append("tests/service")
    return subprocess.call(command, cwd=folder, env=environment)


if __name__ == "__main__":
    sys.exit(main())
