"""Habits of teams that docs/update.md warns of, and that what it advises helps."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import copier
import pytest

from tests.answers import Answers
from tests.projects import REPOSITORY, Project, commit, succeed
from tests.updates.updating import conflicts

PAGE = (REPOSITORY / "docs" / "update.md").read_text("utf-8")
NEXT_RELEASE = "999.1.0"


@pytest.fixture
def project(template: Path, tmp_path: Path, make_project: Callable[[Answers], Project]) -> Project:
    """A project of the last release but one; the next adds a file to tests/contract."""
    releases = tmp_path / "template"
    shutil.copytree(template, releases)
    (releases / "template" / "tests" / "contract" / "test_more.py").write_text('"""More."""\n')
    commit(releases, "The next release")
    succeed("git", "tag", NEXT_RELEASE, cwd=releases)
    project = make_project({})
    recorded = project.folder / ".copier-answers.yml"
    text = recorded.read_text("utf-8")
    recorded.write_text(text.replace(str(template), str(releases)), "utf-8")
    succeed("git", "init", "--quiet", "--initial-branch=main", cwd=project.folder)
    commit(project.folder, "Start from the template")
    return project


@pytest.mark.parametrize("is_excluded", [True, False])
def test_a_deleted_folder_stays_deleted_where_it_is_excluded(
    project: Project, is_excluded: bool
) -> None:
    shutil.rmtree(project.folder / "tests" / "contract")
    commit(project.folder, "We test otherwise")
    (excluded,) = re.findall(r"`uvx copier update .*--exclude (\S+)`", PAGE)

    copier.run_update(
        project.folder,
        exclude=[excluded] if is_excluded else [],
        vcs_ref=NEXT_RELEASE,
        context_lines=1000,
        defaults=True,
        overwrite=True,
        quiet=True,
    )

    assert conflicts(project.folder) == []
    # Without it, the new file is there, and what it may import is not.
    found = [path.name for path in project.folder.glob("tests/contract/*")]
    assert found == ([] if is_excluded else ["test_more.py"])
