"""Say whether the template has a newer release than the one that this project is based on."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from app.core.project import DOCUMENTATION
from template_tools.arguments import ArgumentParser
from template_tools.configuration import PROJECT_ROOT
from template_tools.messages import _

_COPIER = "copier>=9.19,<10"
_FORMATTERS = ("autopep8", "black", "yapf")
_RUFF = {"line-length": 100, "indent-width": 4}


def main(arguments: list[str] | None = None, root: Path = PROJECT_ROOT) -> int:
    """Print the status; with ``--check``, return 1 where there is a newer release."""
    parser = ArgumentParser(prog="uv run poe template-status", description=_(__doc__))
    check = _("exit with 1 if there is a newer one")
    parser.add_argument("--check", action="store_true", help=check)
    options = parser.parse_args(arguments)
    try:
        status = _check_update(root)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        print(
            _(
                "The template's releases cannot be read: {reason}\n"
                "The repository is the _src_path in .copier-answers.yml; git must be able to read "
                "it from here.",
                reason=_reason(error),
            ),
            file=sys.stderr,
        )
        return 2
    current, latest = status["current_version"], status["latest_version"]
    for advice in _advice(root):
        print(f"{advice}\n")
    if not status["update_available"]:
        print(
            _(
                "The project is based on {current} of the template, which is the newest release.",
                current=current,
            )
        )
        return 0
    print(
        _(
            "The project is based on {current} of the template; the newest release is {latest}.\n"
            "What each release brings and asks: {changelog}\n"
            "To update, on a clean work tree: {command}",
            current=current,
            latest=latest,
            changelog=f"{DOCUMENTATION.removesuffix('docs')}CHANGELOG.md",
            command=_command(root),
        )
    )
    return 1 if options.check else 0


def _advice(root: Path) -> Iterator[str]:
    """Say what would make an update harder, or what one has left to the team."""
    if found := [*_formatters(root)]:
        yield _(
            "{found}: an update conflicts wherever your formatter has changed the template's "
            "files. Let it leave\nthem out; {docs}/update.md#what-is-whose lists them.",
            found=", ".join(found),
            docs=DOCUMENTATION,
        )
    answers = (root / ".copier-answers.yml").read_text("utf-8")
    models = (path.read_text("utf-8") for path in (root / "app" / "database").rglob("*.py"))
    if re.search(r"(?m)^local_passwords: '?yes", answers) and "password_hash" not in "".join(
        models
    ):
        yield _(
            "local_passwords is answered with yes, and no table has a password_hash: an update "
            "does not touch\nyour resources. What is left to you: "
            "{docs}/questions.md#answered-anew",
            docs=DOCUMENTATION,
        )


def _formatters(root: Path) -> Iterator[str]:
    tools = _toml(root / "pyproject.toml").get("tool", {})
    yield from (_("pyproject.toml has [tool.{name}]", name=it) for it in _FORMATTERS if it in tools)
    hooks = root / ".pre-commit-config.yaml"
    if hooks.exists() and re.search(r"id: (black|yapf|autopep8)", hooks.read_text("utf-8")):
        yield _("{file} runs another formatter than ruff", file=hooks.name)
    for name in (".ruff.toml", "ruff.toml"):
        ruff = _toml(root / name)
        changed = {it for it, value in _RUFF.items() if ruff.get(it, value) != value}
        for it in sorted(changed | ruff.keys() & {"format"}):
            yield _("{file} has another {setting}", file=name, setting=it)


def _toml(file: Path) -> dict[str, dict[str, object]]:
    return tomllib.loads(file.read_text("utf-8")) if file.exists() else {}


def _command(root: Path) -> str:
    """Return the command that updates; what the team has deleted as a whole does not come back."""
    gone = [it for it in ("tests/contract", "template_tools") if not (root / it).exists()]
    return " ".join(["uvx copier update --context-lines 1000", *(f"--exclude {it}" for it in gone)])


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
        lines: list[str] = error.stderr.strip().splitlines() or [_("Copier failed.")]
        # Copier quotes git's message, between advice and a margin.
        return next((line for line in lines if "fatal: " in line), lines[-1]).split("| ")[-1]
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
