"""The releases of this template, as its history tells them.

A release is the commit that sets ``version`` in ``pyproject.toml``. Tags are not read: the clone
that CI works in need not have any.
"""

import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

NOT_RELEASED = "0.0.0"


@dataclass(frozen=True)
class Release:
    """A version, and the commit that set it."""

    version: str
    commit: str


class NoHistoryError(Exception):
    """The folder's history cannot be read; the message says why."""


def releases(root: Path) -> list[Release]:
    """Return the releases of a repository, oldest first.

    Raises:
        NoHistoryError: The folder is not the root of a repository, or has no commit yet.
    """
    top = Path(git(root, "rev-parse", "--show-toplevel").decode().strip())
    if top.resolve() != root.resolve():
        raise NoHistoryError(f"{root} is not the root of a git repository")
    # The oldest commits of a shallow clone look like roots, as if they had set the version.
    shallow = Path(root, git(root, "rev-parse", "--git-path", "shallow").decode().strip())
    cut = set(shallow.read_text("utf-8").split()) if shallow.exists() else set()

    log = git(root, "log", "--first-parent", "--reverse", "--format=%H %P", "--", "pyproject.toml")
    found: dict[str, Release] = {}
    for line in log.decode().splitlines():
        commit, *parents = line.split()
        version = version_at(root, commit)
        before = version_at(root, parents[0]) if parents else None
        if commit not in cut and version not in {before, NOT_RELEASED, None}:
            found.setdefault(str(version), Release(str(version), commit))
    return list(found.values())


def is_shallow(root: Path) -> bool:
    """Tell whether the history is cut off, so that a release may be missing."""
    return git(root, "rev-parse", "--is-shallow-repository").strip() == b"true"


def version_at(root: Path, commit: str) -> str | None:
    """Return the version that a commit's pyproject.toml states, if it states one."""
    try:
        return version_of(git(root, "show", f"{commit}:pyproject.toml").decode())
    except NoHistoryError:
        return None


def version_of(pyproject: str) -> str | None:
    """Return the version that the text of a pyproject.toml states, if it states one."""
    version = tomllib.loads(pyproject).get("project", {}).get("version")
    return version if isinstance(version, str) else None


def git(root: Path, *arguments: str) -> bytes:
    """Run git, and return what it prints.

    Raises:
        NoHistoryError: git is missing, or fails; the message is its own.
    """
    program = shutil.which("git")
    if program is None:
        raise NoHistoryError("git is not installed")
    # A container may run this as another user than the one who cloned.
    command = [program, "-c", "safe.directory=*", *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, check=False)
    if done.returncode != 0:
        raise NoHistoryError(done.stderr.decode("utf-8", "replace").strip().partition("\n")[0])
    return done.stdout
