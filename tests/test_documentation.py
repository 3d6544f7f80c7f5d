"""The documentation names every question, and what it says can be done is done."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.projects import REPOSITORY, tracked_files
from tests.test_copier_yml import QUESTIONS

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))


def text(name: str) -> str:
    """Return a document, or skip the test while nobody has written it."""
    path = REPOSITORY / name
    if not path.exists():
        pytest.skip(f"{name} is not written yet")
    return path.read_text("utf-8")


def test_each_question_has_a_row_and_each_row_a_question() -> None:
    rows = re.findall(r"^\| *`(\w+)`", text("docs/questions.md"), re.MULTILINE)
    assert sorted(rows) == sorted(QUESTIONS)


def test_the_row_of_a_secret_says_that_it_reaches_env_alone() -> None:
    for line in text("docs/questions.md").splitlines():
        if re.match(r"\| *`sso_client_secret`", line):
            assert "`.env`" in line


def test_ci_runs_the_command_that_the_readme_names() -> None:
    readme, ci = text("README.md"), text(".ci/run")
    for command in ("uv run poe check", "uv run poe test"):
        assert command in readme
        assert command in ci


def test_the_changelog_has_a_section_for_this_version() -> None:
    version = re.escape(PROJECT["project"]["version"])
    assert re.search(rf"^## \[?v?{version}\b", text("CHANGELOG.md"), re.MULTILINE)


def test_every_link_to_a_file_leads_somewhere() -> None:
    for path in tracked_files(REPOSITORY):
        if path.suffix == ".md" and path.parts[0] != "template":
            content = (REPOSITORY / path).read_text("utf-8")
            for target in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", content):
                assert (REPOSITORY / path.parent / target).exists(), f"{path}: {target}"


def test_the_readme_says_how_to_copy_and_how_to_update() -> None:
    readme = text("README.md")
    assert "copier copy" in readme
    assert "copier update" in "".join(
        Path(REPOSITORY / path).read_text("utf-8")
        for path in tracked_files(REPOSITORY)
        if path.suffix == ".md"
    )
