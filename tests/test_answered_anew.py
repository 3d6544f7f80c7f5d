"""What an answer that is given later changes in a project, and what it leaves to the team."""

import re
import shutil
from collections.abc import Callable

import copier
import pytest

from scripts.guard.template import template_in
from tests.answers import Answers
from tests.projects import RELEASE, REPOSITORY, Project, Projects, commit, succeed, tree
from tests.test_copier_yml import QUESTIONS
from tests.updates.flips import FLIPS, Flip
from tests.updates.updating import conflicts, update

PAGE = (REPOSITORY / "docs" / "questions.md").read_text("utf-8")
SECTION = PAGE.partition("\n## Answered anew\n")[2].partition("\n## ")[0]
# What the page says of each question.
LEFT = {
    question: row[1]
    for row in re.findall(r"(?m)^\| (`\w+`(?:, `\w+`)*) \| (.+) \|$", SECTION)
    for question in re.findall(r"\w+", row[0])
}


@pytest.mark.parametrize("flip", FLIPS, ids=str)
def test_the_page_names_what_another_answer_leaves_to_the_team(
    projects: Projects, flip: Flip
) -> None:
    before, after = tree(projects.rendered({})), tree(projects.rendered(flip.answers))
    changed = {path for path in before.keys() | after if before.get(path) != after.get(path)}
    template = template_in(REPOSITORY)
    left = {path for path in changed if template.is_seed(path)}
    told = re.findall(r"`([\w./-]+)`", LEFT.get(flip.question, ""))
    missing = {path for path in left if not any(path.startswith(it) for it in told)}
    assert not missing, f"docs/questions.md, Answered anew: {flip.question} leaves {missing}"


def test_the_page_names_only_questions() -> None:
    assert LEFT.keys() <= QUESTIONS.keys()


def committed(project: Project) -> Project:
    """Commit a project as a team does."""
    succeed("git", "init", "--quiet", "--initial-branch=main", cwd=project.folder)
    commit(project.folder, "Start from the template")
    return project


def test_an_update_says_where_to_read_what_it_leaves(
    make_project: Callable[[Answers], Project],
    capfd: pytest.CaptureFixture[str],
) -> None:
    project = committed(make_project({}))
    copier.run_update(
        project.folder,
        data={"local_passwords": "yes"},
        vcs_ref=RELEASE,
        defaults=True,
        overwrite=True,
        unsafe=False,
    )
    assert "docs/questions.md#answered-anew" in capfd.readouterr().err


def test_local_passwords_that_are_answered_later_work_after_the_steps_of_the_page(
    projects: Projects,
    make_project: Callable[[Answers], Project],
) -> None:
    project = committed(make_project({}))
    folder = project.folder
    update(folder, RELEASE, {"local_passwords": "yes"})
    assert conflicts(folder) == []

    told = re.findall(r"^[1-4]\. `([\w./]+)`", SECTION, re.MULTILINE)
    assert len(told) == 4
    for path in told:
        shutil.copy(projects.rendered({"local_passwords": "yes"}) / path, folder / path)
    said = project.poe("revision", "-m", "passwords")
    assert said.returncode == 0, said.stdout + said.stderr

    tested = project.poe("test", "-q")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "test_password.py" in succeed("git", "status", "--short", "-uall", cwd=folder)


def test_an_update_that_asks_what_is_new_does_not_ask_for_the_secret(
    make_project: Callable[[Answers], Project],
) -> None:
    """Nobody could answer here: a question would be an error."""
    project = committed(make_project({"sso_client_secret": "hunter2-hunter2"}))
    before = (project.folder / ".env").read_bytes()
    copier.run_update(
        project.folder,
        vcs_ref=RELEASE,
        skip_answered=True,
        overwrite=True,
        quiet=True,
        unsafe=False,
    )
    assert (project.folder / ".env").read_bytes() == before
    assert b"hunter2" in before
