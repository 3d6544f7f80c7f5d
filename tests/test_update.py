"""A project takes updates without trust, without conflicts, and without losing what is its own."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import copier
import pytest

from tests.answers import DEFAULTS, EVERYTHING, NOTHING, Answers
from tests.projects import REPOSITORY, commit, render, succeed, tracked_files, tree

NEXT_RELEASE = "999.1.0"
# What an update never touches, because it belongs to the team from the first day.
SEEDS = re.compile(
    r"\.env|README\.md|requirements\.txt|app/(hooks|settings)\.py|app/api/.*|"
    r"app/database/model/user\.py|migrations/versions/.*|tests/(api/.*|conftest\.py)"
)

type StartProject = Callable[[Answers], Path]


@pytest.fixture(scope="module")
def releases(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the template with a release after the one of the work tree."""
    clone = tmp_path_factory.mktemp("releases") / "template"
    shutil.copytree(template, clone)
    content = clone / "template"
    for changed in ("app/core/errors.py", "app/settings.py", "README.md.jinja", ".env.jinja"):
        path = content / changed
        path.write_text(f"{path.read_text('utf-8')}\n# A line of the next release.\n", "utf-8")
    pyproject = content / "pyproject.toml.jinja"
    text = pyproject.read_text("utf-8")
    assert '"anyio>=' in text
    pyproject.write_text(
        text.replace('    "anyio>=', '    "another>=1,<2",\n    "anyio>='), "utf-8"
    )
    (content / "app" / "core" / "novelty.py").write_text('"""New in the next release."""\n')
    (content / "app" / "api" / "v1" / "user" / "novelty.py").write_text('"""A new seed."""\n')
    (content / "alembic.ini").rename(content / "alembic-renamed.ini")
    commit(clone, "The next release")
    succeed("git", "tag", NEXT_RELEASE, cwd=clone)
    return clone


@pytest.fixture
def start_project(releases: Path, tmp_path: Path) -> StartProject:
    """Copy the first release and commit it, as the message after a copy says."""

    def start(answers: Answers) -> Path:
        folder = tmp_path / "service"
        render(releases, folder, answers)
        succeed("git", "init", "--quiet", "--initial-branch=main", cwd=folder)
        commit(folder, "Start from the template")
        return folder

    return start


def update(folder: Path, release: str) -> None:
    """Run what the README says: ``copier update --context-lines 1000``, without trust."""
    copier.run_update(
        folder,
        vcs_ref=release,
        context_lines=1000,
        defaults=True,
        overwrite=True,
        quiet=True,
        unsafe=False,
    )


def assert_no_conflict(folder: Path) -> None:
    """Fail if an update has left a conflict, which Copier's exit code does not tell."""
    succeed("git", "diff", "--check", cwd=folder)
    assert not [*folder.rglob("*.rej"), *folder.rglob("*.orig")]
    assert not succeed("git", "ls-files", "--unmerged", cwd=folder)


@pytest.mark.parametrize("answers", [DEFAULTS, EVERYTHING, NOTHING])
def test_an_update_to_the_same_release_changes_nothing(
    start_project: StartProject, answers: Answers
) -> None:
    folder = start_project(answers)
    before = tree(folder)
    update(folder, "999.0.0")
    assert tree(folder) == before
    assert succeed("git", "status", "--porcelain", cwd=folder) == ""


@pytest.mark.parametrize("answers", [DEFAULTS, EVERYTHING, NOTHING])
def test_an_untouched_project_becomes_a_fresh_copy_of_the_next_release(
    start_project: StartProject, releases: Path, tmp_path: Path, answers: Answers
) -> None:
    folder = start_project(answers)
    seeds = {path: text for path, text in tree(folder).items() if SEEDS.fullmatch(path)}
    update(folder, NEXT_RELEASE)
    render(releases, tmp_path / "fresh", answers, NEXT_RELEASE)

    updated, fresh = tree(folder), tree(tmp_path / "fresh")
    assert {path: text for path, text in updated.items() if SEEDS.fullmatch(path)} == seeds
    assert {p: text for p, text in updated.items() if not SEEDS.fullmatch(p)} == {
        p: text for p, text in fresh.items() if not SEEDS.fullmatch(p)
    }
    assert "app/core/novelty.py" in updated
    assert "alembic.ini" not in updated
    assert_no_conflict(folder)


def test_every_edit_of_a_team_survives(start_project: StartProject) -> None:
    folder = start_project(DEFAULTS)
    appended = {
        "README.md": "## Ours\n",
        "app/settings.py": "# Our setting.\n",
        "app/hooks.py": "# Our middleware.\n",
        "app/api/v1/router.py": "# Our resource.\n",
        "app/database/model/user.py": "# Our column.\n",
        "migrations/versions/0001_initial.py": "# Our migration.\n",
        "tests/conftest.py": "# Our fixture.\n",
        "pyproject.toml": "# Our configuration.\n",
        ".gitignore": "our-folder/\n",
        ".env.example": "OUR_SETTING=1\n",
        ".github/workflows/ci.yml": "  # Our job.\n",
        "Dockerfile": "# Our instruction.\n",
    }
    for path, line in appended.items():
        with (folder / path).open("a", encoding="utf-8") as file:
            file.write(line)
    pyproject = folder / "pyproject.toml"
    text = pyproject.read_text("utf-8")
    marker = "    # Yours: uv add appends below.\n"
    assert text.count(marker) == 1
    pyproject.write_text(text.replace(marker, f'{marker}    "structlog>=26",\n'), "utf-8")
    (folder / "app" / "database" / "model" / "invoice.py").write_text('"""Ours."""\n')
    (folder / ".env").write_text("CLIENT_SECRET='ours alone'\n")
    commit(folder, "Our work")

    update(folder, NEXT_RELEASE)

    assert_no_conflict(folder)
    for path, line in appended.items():
        assert line in (folder / path).read_text("utf-8"), path
    text = pyproject.read_text("utf-8")
    assert '"structlog>=26"' in text
    assert '"another>=1,<2"' in text
    assert (folder / "app" / "database" / "model" / "invoice.py").exists()
    assert (folder / ".env").read_text() == "CLIENT_SECRET='ours alone'\n"
    assert "A line of the next release" in (folder / "app/core/errors.py").read_text("utf-8")


def test_a_resource_that_a_team_deleted_stays_deleted(start_project: StartProject) -> None:
    folder = start_project(DEFAULTS)
    shutil.rmtree(folder / "app" / "api" / "v1" / "user")
    shutil.rmtree(folder / "tests" / "api")
    (folder / "app" / "database" / "model" / "user.py").unlink()
    (folder / "migrations" / "versions" / "0001_initial.py").unlink()
    commit(folder, "No users")

    update(folder, NEXT_RELEASE)

    assert_no_conflict(folder)
    deleted = re.compile(r"app/api/v1/user/.*|tests/api/.*|.*/user\.py|migrations/versions/.*")
    assert [path for path in tree(folder) if deleted.fullmatch(path)] == []


def test_an_answer_can_be_changed_by_an_update(start_project: StartProject) -> None:
    folder = start_project(DEFAULTS)
    copier.run_update(
        folder,
        data={"ci": "gitlab"},
        vcs_ref=NEXT_RELEASE,
        defaults=True,
        overwrite=True,
        quiet=True,
    )
    assert (folder / ".gitlab-ci.yml").exists()
    assert not (folder / ".github" / "workflows" / "ci.yml").exists()
    assert_no_conflict(folder)


def test_nothing_asks_for_trust() -> None:
    # This folder has to name what it forbids.
    for path in tracked_files(REPOSITORY):
        if path.parts[0] in {"copier.yml", "docs", "template", "README.md", ".github", ".ci"}:
            text = (REPOSITORY / path).read_text("utf-8")
            for line in text.splitlines():
                assert not re.search(r"copier.*(--trust|--UNSAFE)|unsafe=True", line), path
