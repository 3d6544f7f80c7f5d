# /// script
# requires-python = ">=3.13"
# dependencies = ["copier>=9.19,<9.20"]
#
# [tool.uv]
# exclude-newer = "2026-11-22T00:00:00Z"
# ///
"""Scaffold a service beside this clone, with the default answers, and serve it.

This is what ``copier copy`` and ``uv run poe dev`` do, one after the other. Run as a script it
needs Copier alone, and none of the packages that the template's own checks need.
"""

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

from copier import run_copy

TEMPLATE = Path(__file__).resolve().parents[1]


def main() -> int:
    """Return the exit code of the service, which runs until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="uv run scripts/try_it.py", description=__doc__)
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=TEMPLATE.parent / "my-service",
        help="where the service is put (default: my-service beside this clone)",
    )
    parser.add_argument("--port", default="8000", help="of the service (default: 8000)")
    parser.add_argument(
        "--data", action="append", default=[], metavar="QUESTION=ANSWER", help="an answer"
    )
    options = parser.parse_args()
    if not all("=" in pair for pair in options.data):
        parser.error("--data takes QUESTION=ANSWER, such as language=es")
    folder = options.folder.resolve()

    if (folder / ".copier-answers.yml").is_file():
        _say(f"{folder} is there already; serving it as it is")
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        print(
            f"{folder} exists and was not made by this template. Move it away, "
            "or name another folder: uv run scripts/try_it.py ../another-service",
            file=sys.stderr,
        )
        return 1
    else:
        given = "".join(f" --data {shlex.quote(pair)}" for pair in options.data)
        _say(f"copier copy --defaults{given} {TEMPLATE} {folder}")
        # The working tree, not the last release: this is how a change of the template is tried.
        data = dict(pair.split("=", 1) for pair in options.data)
        run_copy(str(TEMPLATE), folder, data=data, vcs_ref="HEAD", defaults=True, quiet=True)

    _say(f"cd {folder} && uv run poe dev")
    return _run([_uv(), "run", "poe", "dev", "--port", options.port], folder)


def _say(what: str) -> None:
    print(f"try: {what}", flush=True)


def _uv() -> str:
    # `uv run` tells its children where it is; it need not be on the PATH.
    return os.environ.get("UV", "uv")


def _run(command: list[str], folder: Path) -> int:
    """Become the command, so that signals and the exit code are its own."""
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    if sys.platform != "win32":
        os.chdir(folder)
        os.execvpe(command[0], command, environment)
    return subprocess.call(command, cwd=folder, env=environment)


if __name__ == "__main__":
    sys.exit(main())
