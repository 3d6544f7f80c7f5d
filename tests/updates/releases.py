"""The releases of the template, found in its history, and a clone that holds them as tags.

A release is the commit that set ``version`` in ``pyproject.toml``. Tags are not looked at: the
clone that tests run in may have none, or no history at all.
"""

import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from tests.projects import RELEASE, REPOSITORY, clone_work_tree, commit, copy_template, run, succeed
from tests.updates.evolution import STEPS

UNRELEASED = "0.0.0"


@dataclass(frozen=True)
class Release:
    """A released version, and the commit that set it."""

    version: str
    commit: str


def current_version(repository: Path = REPOSITORY) -> str:
    """Return the version that the work tree states."""
    return _version((repository / "pyproject.toml").read_text("utf-8"))


def find_releases(repository: Path = REPOSITORY) -> list[Release]:
    """Return the releases, the oldest first; none where the history does not tell."""
    top = run("git", "rev-parse", "--show-toplevel", cwd=repository)
    if top.returncode != 0 or Path(top.stdout.strip()) != repository.resolve():
        return []
    # In a shallow clone, the commits without a parent are just the oldest that were fetched.
    shallow = succeed("git", "rev-parse", "--is-shallow-repository", cwd=repository).strip()
    releases: list[Release] = []
    log = ("git", "log", "--first-parent", "--reverse", "--format=%H %P", "--", "pyproject.toml")
    for line in succeed(*log, cwd=repository).splitlines():
        changed, *parents = line.split()
        if not parents and shallow == "true":
            continue
        version = _version_at(repository, changed)
        before = _version_at(repository, parents[0]) if parents else None
        if version not in {None, UNRELEASED, before}:
            releases.append(Release(str(version), changed))
    return sorted(releases, key=lambda release: Version(release.version))


def _version_at(repository: Path, commit: str) -> str | None:
    shown = run("git", "show", f"{commit}:pyproject.toml", cwd=repository)
    return _version(shown.stdout) if shown.returncode == 0 else None


def _version(pyproject: str) -> str:
    return str(tomllib.loads(pyproject)["project"]["version"])


def build_history(target: Path, releases: list[Release], repository: Path = REPOSITORY) -> None:
    """Make a clone with every release as a tag, then the work tree, then what could come next."""
    if releases:
        succeed("git", "clone", "--quiet", "--no-tags", repository, target, cwd=repository)
        for release in releases:
            succeed("git", "tag", release.version, release.commit, cwd=target)
        shutil.rmtree(target / "template")
        (target / "copier.yml").unlink()
        copy_template(target)
        commit(target, "The work tree")
        succeed("git", "tag", RELEASE, cwd=target)
    else:
        target.mkdir()
        clone_work_tree(target)
    for step in STEPS:
        step.apply(target)
        commit(target, step.name)
        succeed("git", "tag", step.version, cwd=target)
