"""Run the template's own tests against this project as it is, in a copy of it.

Projects do not contain these tests: they are in the template's repository, in ``tests/service``.
Those of the release that the project is based on are fetched from the address that Copier has
recorded. They show what an edit of the template's files, or another version of a dependency,
breaks.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from template_tools.configuration import PROJECT_ROOT
from template_tools.messages import _

_TESTS = Path("tests", "service")
_NOT_COPIED = (".*_cache", ".dev", ".env", ".git", ".venv", "__pycache__")
_SECONDS = 120
# Where a hook of git's runs this command, they lead to the project's own repository.
_OF_A_HOOK = {"GIT_COMMON_DIR", "GIT_DIR", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_WORK_TREE"}


def main(root: Path = PROJECT_ROOT) -> int:
    """Say in one line what failed; return 1 if anything did, 2 if the tests cannot be fetched."""
    # The same folder each time, so that its test database is created once.
    copy, log = root / ".dev" / "test-template", root / ".dev" / "test-template.log"
    try:
        with tempfile.TemporaryDirectory() as folder:
            release = fetch_tests(root, Path(folder))
            lay_over(root, copy, Path(folder) / _TESTS)
    except (OSError, KeyError, subprocess.SubprocessError) as error:
        print(
            _(
                "test-template: the tests cannot be fetched ({reason}); .copier-answers.yml names "
                "their repository and the release, as _src_path and _commit.",
                reason=_reason(error),
            ),
            file=sys.stderr,
        )
        return 2
    print(_("test-template: running the tests of {release}", release=release), flush=True)
    command = [sys.executable, "-m", "pytest", str(_TESTS), "--tb=short", "-rfE"]
    # The summary is read from what pytest prints.
    environment = os.environ | {"PYTEST_ADDOPTS": "--color=no"}
    with log.open("w", encoding="utf-8") as stream:
        done = subprocess.run(
            command,
            cwd=copy,
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
            check=False,
        )
    said = summary(log.read_text("utf-8"))
    print(f"test-template: {said}; log: {log.relative_to(root)}")
    return 1 if done.returncode else 0


def fetch_tests(root: Path, target: Path) -> str:
    """Clone the template's repository, check out its tests, and return the project's release."""
    answers = (root / ".copier-answers.yml").read_text("utf-8")
    recorded: dict[str, str] = dict(
        re.findall(r"^(_commit|_src_path): (.+)$", answers, re.MULTILINE)
    )
    release, address = (recorded[name].strip("'\"") for name in ("_commit", "_src_path"))
    address = re.sub(r"^gh:/?", "https://github.com/", address)
    address = re.sub(r"^gl:/?", "https://gitlab.com/", address).removeprefix("git+")
    # Between two releases, Copier records the last one, the distance from it, and the commit.
    commit = re.sub(r"^.+-\d+-g([0-9a-f]{4,})$", r"\1", release)
    _git("clone", "--quiet", "--no-checkout", "--filter=blob:none", "--", address, str(target))
    _git("-C", str(target), "checkout", "--quiet", commit, "--", _TESTS.as_posix())
    return release


def _git(*arguments: str) -> None:
    command = ["git", *arguments]
    own = {name: it for name, it in os.environ.items() if name not in _OF_A_HOOK}
    # A password prompt would wait for an answer that a workflow cannot give.
    environment = own | {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true"}
    subprocess.run(
        command, env=environment, capture_output=True, check=True, text=True, timeout=_SECONDS
    )


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines: list[str] = error.stderr.strip().splitlines() or [_("git failed")]
        return lines[-1]
    return _("there is no {name}", name=error) if isinstance(error, KeyError) else str(error)


def lay_over(root: Path, copy: Path, tests: Path) -> None:
    """Copy the project as it is, uncommitted changes included, and add the tests to the copy."""
    for path in copy.iterdir() if copy.exists() else ():
        if path.name != ".dev":
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    ignored = shutil.ignore_patterns(*_NOT_COPIED)
    shutil.copytree(root, copy, symlinks=True, ignore=ignored, dirs_exist_ok=True)
    shutil.copytree(tests, copy / _TESTS, dirs_exist_ok=True)


def summary(log: str) -> str:
    """Return in one line what pytest has printed: how many tests passed, and which failed."""
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", log, re.MULTILINE)
    last = (log.strip().splitlines() or [_("pytest printed nothing")])[-1].strip("= ")
    listed = ", ".join(failed[:3])
    if len(failed) > 3:
        listed = _("{tests} and {number} more", tests=listed, number=len(failed) - 3)
    return f"{last}: {listed}" if failed else last


if __name__ == "__main__":
    sys.exit(main())
