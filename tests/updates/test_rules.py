"""What holds for an update of any project, whatever the release."""

import re
import shutil
from pathlib import Path

import pytest

from tests.answers import DEFAULTS, EVERYTHING, NOTHING, Answers
from tests.projects import RELEASE, REPOSITORY, commit, succeed, tracked_files, tree
from tests.updates.evolution import LAST
from tests.updates.updating import Lives, conflicts, is_seed, update


@pytest.mark.parametrize("answers", [DEFAULTS, EVERYTHING, NOTHING])
def test_an_update_to_the_same_release_changes_nothing(
    lives: Lives, tmp_path: Path, answers: Answers
) -> None:
    folder = lives.start(RELEASE, "untouched", answers, tmp_path / "service")
    before = tree(folder)
    update(folder, RELEASE)
    assert tree(folder) == before
    assert succeed("git", "status", "--porcelain", cwd=folder) == ""


def test_a_resource_that_a_team_deleted_stays_deleted(lives: Lives, tmp_path: Path) -> None:
    folder = lives.start(RELEASE, "untouched", DEFAULTS, tmp_path / "service")
    shutil.rmtree(folder / "app" / "api" / "v1" / "user")
    shutil.rmtree(folder / "tests" / "api")
    (folder / "app" / "database" / "model" / "user.py").unlink()
    (folder / "migrations" / "versions" / "0001_initial.py").unlink()
    commit(folder, "No users")

    update(folder, LAST)

    assert conflicts(folder) == []
    deleted = re.compile(r"app/api/v1/user/.*|tests/api/.*|.*/user\.py|migrations/versions/.*")
    assert [path for path in tree(folder) if deleted.fullmatch(path)] == []


def test_the_files_that_are_the_team_s_from_the_first_day_are_known() -> None:
    for path in ("app/settings.py", "app/api/v1/router.py", "README.md", ".env"):
        assert is_seed(path), path
    for path in ("app/main.py", "tests/contract/test_access.py", "app/database/model/__init__.py"):
        assert not is_seed(path), path


def test_nothing_asks_for_trust() -> None:
    # This folder has to name what it forbids.
    for path in tracked_files(REPOSITORY):
        if path.parts[0] in {"copier.yml", "docs", "template", "README.md", ".github", ".ci"}:
            text = (REPOSITORY / path).read_text("utf-8")
            for line in text.splitlines():
                assert not re.search(
                    r"copier (?:copy|update|recopy).*(--trust|--UNSAFE)|unsafe=True", line
                ), path
