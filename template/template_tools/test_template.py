"""Run the template's own tests against this project as it is, in a copy of it.

A project does not hold them: they are in the template's repository, below ``tests/service``. Those
of the release that the project stands on are fetched from the address in ``.copier-answers.yml``.
Whoever has edited a file of the template's, or moved a dependency, learns here what broke.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from template_tools.configuration import PROJECT_ROOT

_ANSWERS = ".copier-answers.yml"
_TESTS = Path("tests", "service")
_NOT_COPIED = (".*_cache", ".dev", ".env", ".git", ".venv", "__pycache__")
_SECONDS = 120


class FetchError(Exception):
    """A sentence for the developer: why there are no tests to run."""


def main(root: Path = PROJECT_ROOT) -> int:
    """Say in one line what failed; return 1 if anything did, 2 if the tests cannot be fetched."""
    # The same place each time, so that its development database is made once.
    copy, log = root / ".dev" / "test-template", root / ".dev" / "test-template.log"
    try:
        with tempfile.TemporaryDirectory() as folder:
            release = fetch_template(root, Path(folder))
            _lay_over(root, copy, Path(folder) / _TESTS)
    except FetchError as error:
        print(f"test-template: {error}", file=sys.stderr)
        return 2
    left_out = dict(tests_that_cannot_run(copy))
    for path, needed in left_out.items():
        print(f"test-template: {path} is skipped, because there is no {needed} here")
    print(f"test-template: running the tests of {release}", flush=True)
    command = [sys.executable, "-m", "pytest", str(_TESTS), "--tb=short", "--quiet", "-rfE"]
    with log.open("w", encoding="utf-8") as stream:
        done = subprocess.run(
            [*command, *(f"--ignore={path}" for path in left_out)],
            cwd=copy,
            stdout=stream,
            stderr=subprocess.STDOUT,
            check=False,
        )
    print(f"test-template: {describe(log.read_text('utf-8'))}; log: {log.relative_to(root)}")
    return 1 if done.returncode else 0


def fetch_template(root: Path, target: Path) -> str:
    """Clone the template's repository, and return the release that the project stands on.

    Raises:
        FetchError: The project names no template, or it cannot be reached.
    """
    try:
        answers = (root / _ANSWERS).read_text("utf-8")
    except OSError as error:
        raise FetchError(f"{_ANSWERS} cannot be read, which names the template.") from error
    found = dict(re.findall(r"^(_commit|_src_path): (.+)$", answers, re.MULTILINE))
    if len(found) < 2:
        raise FetchError(f"{_ANSWERS} lacks _commit or _src_path, and so names no release.")
    release, address = (found[name].strip("'\"") for name in ("_commit", "_src_path"))
    address = re.sub(r"^gh:/?", "https://github.com/", address)
    address = re.sub(r"^gl:/?", "https://gitlab.com/", address).removeprefix("git+")
    # Between two releases, Copier records the last one, the distance, and the commit.
    commit = re.sub(r"^.+-\d+-g([0-9a-f]{4,})$", r"\1", release)
    _git("clone", "--quiet", "--no-checkout", "--filter=blob:none", "--", address, str(target))
    _git("-C", str(target), "checkout", "--quiet", commit, "--", _TESTS.as_posix())
    return release


def _git(*arguments: str) -> None:
    command = ["git", *arguments]
    # A question for a password would wait for an answer that a workflow cannot give.
    environment = os.environ | {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true"}
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            check=False,
            encoding="utf-8",
            timeout=_SECONDS,
        )
        reason = (done.stderr.strip().splitlines() or ["git says no more"])[-1]
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise FetchError(f"the tests cannot be fetched: {error}") from error
    if done.returncode:
        raise FetchError(
            f"the tests cannot be fetched ({reason}); "
            f"{_ANSWERS} says from where, in _src_path and _commit."
        )


def _lay_over(root: Path, copy: Path, tests: Path) -> None:
    """Copy the project as it is, uncommitted changes included, and put the tests into it."""
    kept = copy / ".dev"
    for path in copy.iterdir() if copy.exists() else ():
        if path != kept:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    ignored = shutil.ignore_patterns(*_NOT_COPIED)
    shutil.copytree(root, copy, symlinks=True, ignore=ignored, dirs_exist_ok=True)
    shutil.copytree(tests, copy / _TESTS, dirs_exist_ok=True)


def tests_that_cannot_run(copy: Path) -> Iterator[tuple[str, str]]:
    """Yield each module of tests that imports what the project's answers left out, and what."""
    for path in sorted((copy / _TESTS).rglob("test_*.py")):
        for node in ast.parse(path.read_bytes()).body:
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                if not _is_there(name, copy):
                    yield path.relative_to(copy).as_posix(), name


def _is_there(module: str, project: Path) -> bool:
    top, *rest = module.split(".")
    if not (project / top).is_dir():
        return find_spec(top) is not None
    path = project.joinpath(top, *rest)
    return path.is_dir() or path.with_suffix(".py").is_file()


def describe(log: str) -> str:
    """Return in one line what pytest's output says: how many passed, and what failed."""
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", log, re.MULTILINE)
    last = (log.strip().splitlines() or ["pytest said nothing"])[-1].strip("= ")
    named = ", ".join(failed[:3]) + (f" and {len(failed) - 3} more" if len(failed) > 3 else "")
    return f"{last}: {named}" if named else last


if __name__ == "__main__":
    sys.exit(main())
