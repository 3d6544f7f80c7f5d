"""Say whether the template has a newer release than the one that this project is based on."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from app.core.project import DOCUMENTATION
from template_tools.configuration import PROJECT_ROOT

_COPIER = "copier>=9.19,<10"
_NO_ANSWER = """\
The template's releases cannot be read: {reason}
The repository is the _src_path in .copier-answers.yml; git must be able to read it from here."""
_UPDATE = """\
What each release brings and asks: {changelog}
To update, on a clean work tree: uvx copier update --context-lines 1000"""


def main(arguments: list[str] | None = None, root: Path = PROJECT_ROOT) -> int:
    """Print the status; with ``--check``, return 1 where there is a newer release."""
    parser = argparse.ArgumentParser(prog="uv run poe template-status", description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit with 1 if there is a newer one")
    options = parser.parse_args(arguments)
    try:
        status = _check_update(root)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        print(_NO_ANSWER.format(reason=_reason(error)), file=sys.stderr)
        return 2
    current, latest = status["current_version"], status["latest_version"]
    if not status["update_available"]:
        print(f"The project is based on {current} of the template, which is the newest release.")
        return 0
    print(f"The project is based on {current} of the template; the newest release is {latest}.")
    print(_UPDATE.format(changelog=f"{DOCUMENTATION.removesuffix('docs')}CHANGELOG.md"))
    return 1 if options.check else 0


def _check_update(root: Path) -> dict[str, str | bool]:
    """Ask Copier, which compares the answers file with the tags of the template's repository."""
    copier = [os.environ.get("UV", "uv"), "tool", "run", "--quiet", _COPIER]
    done = subprocess.run(
        [*copier, "check-update", "--output-format", "json", str(root)],
        # A password prompt would wait for an answer that a workflow cannot give.
        env=os.environ | {"GIT_TERMINAL_PROMPT": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        encoding="utf-8",
        timeout=120,
    )
    status: dict[str, str | bool] = json.loads(done.stdout)
    return status


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines: list[str] = error.stderr.strip().splitlines() or ["Copier failed."]
        # Copier quotes git's message, between advice and a margin.
        return next((line for line in lines if "fatal: " in line), lines[-1]).split("| ")[-1]
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
