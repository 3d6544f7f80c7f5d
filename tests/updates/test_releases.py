"""Releases are found in the history of any clone, whatever it has been stripped of."""

import shutil
from pathlib import Path

import pytest

from scripts.releases import Release
from tests.projects import commit, succeed
from tests.updates.evolution import STEPS
from tests.updates.flips import FLIPS
from tests.updates.releases import current_version, find_releases
from tests.updates.report import kept_rows
from tests.updates.test_chain import BEGINNINGS, EARLIER, NAMES


def set_version(folder: Path, version: str) -> None:
    """Commit a version, and a change after it."""
    (folder / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n')
    commit(folder, f"Set {version}")
    with (folder / "pyproject.toml").open("a") as file:
        file.write("# Another change.\n")
    commit(folder, "Another change")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    succeed("git", "init", "--quiet", "--initial-branch=main", cwd=folder)
    for version in ("0.0.0", "0.1.0", "0.9.0", "0.10.0"):
        set_version(folder, version)
    return folder


def test_each_commit_that_set_a_version_is_a_release(repository: Path) -> None:
    releases = find_releases(repository)

    assert [release.version for release in releases] == ["0.1.0", "0.9.0", "0.10.0"]
    for release in releases:
        shown = succeed("git", "show", "--no-patch", "--format=%s", release.commit, cwd=repository)
        assert shown.strip() == f"Set {release.version}"


def test_a_shallow_clone_has_the_releases_that_it_can_tell(
    repository: Path, tmp_path: Path
) -> None:
    clone = tmp_path / "clone"
    url = f"file://{repository}"
    succeed("git", "clone", "--quiet", "--depth", "3", url, clone, cwd=tmp_path)
    assert [release.version for release in find_releases(clone)] == ["0.10.0"]


def test_a_copy_without_a_history_has_none(repository: Path) -> None:
    shutil.rmtree(repository / ".git")
    assert find_releases(repository) == []


def test_a_copy_inside_another_repository_has_none(repository: Path) -> None:
    inner = repository / "vendored"
    inner.mkdir()
    shutil.copy(repository / "pyproject.toml", inner)
    assert find_releases(inner) == []


def test_the_kept_table_names_every_earlier_release_and_every_kind_of_project(
    releases: list[Release],
) -> None:
    """Write it anew with: uv run pytest tests/updates -n 2 --write-update-table."""
    kinds = ["untouched", "lived-in"]
    expected = {(NAMES[version], "untouched") for version in EARLIER}
    expected |= {(NAMES[version], "lived-in") for version in BEGINNINGS}
    expected |= {(NAMES[EARLIER[0]], f"{kind}other answers") for kind in ("", "lived-in, ")}
    expected.add(("each release", "lived-in"))
    for release in releases:
        if release.version != current_version():
            expected |= {(release.version, kind) for kind in [*kinds, "other answers"]}
    assert len(EARLIER) == len(STEPS)
    assert FLIPS
    # A clone without a history does not know of the releases in the table.
    kept = {row for row in kept_rows() if releases or not row[0][0].isdigit()}
    assert kept == expected
