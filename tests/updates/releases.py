"""The releases of the template, found in its history, and a clone that holds them as tags.

A release is the commit that set ``version`` in ``pyproject.toml``. Tags are not looked at: the
clone that tests run in may have none, or no history at all.
"""

import shutil
from pathlib import Path

from packaging.version import Version

from scripts.releases import NoHistoryError, Release, releases, version_of
from tests.projects import RELEASE, REPOSITORY, clone_work_tree, commit, copy_template, succeed
from tests.updates.evolution import STEPS


def current_version(repository: Path = REPOSITORY) -> str:
    """Return the version that the work tree states."""
    version = version_of((repository / "pyproject.toml").read_text("utf-8"))
    assert version is not None
    return version


def find_releases(repository: Path = REPOSITORY) -> list[Release]:
    """Return the releases, the oldest first; none where the history does not tell."""
    try:
        found = releases(repository)
    except NoHistoryError:
        return []
    return sorted(found, key=lambda release: Version(release.version))


def before_this_commit(found: list[Release], repository: Path = REPOSITORY) -> list[Release]:
    """Return the releases but the commit that is checked out, if it is one."""
    if not found:
        return []
    head = succeed("git", "rev-parse", "HEAD", cwd=repository).strip()
    return [release for release in found if release.commit != head]


def build_history(target: Path, tagged: list[Release], repository: Path = REPOSITORY) -> None:
    """Make a clone with every release as a tag, then the work tree, then what could come next."""
    if tagged:
        succeed("git", "clone", "--quiet", "--no-tags", repository, target, cwd=repository)
        for release in tagged:
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
