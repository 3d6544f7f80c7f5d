"""What `poe template-status` says about a project, with real repositories."""

import os
import subprocess
from pathlib import Path

import pytest

from template_tools import template_status
from template_tools.template_status import StatusError, describe, read_status

CHANGELOG = """# Changelog

## [Unreleased]

- Not yet.

## [0.10.0] - 2026-12-01

### Security

- A tightened check. Run `uv sync`.

## [0.9.0] - 2026-11-30

- Something small.

## [0.1.0] - 2026-11-22

- The first.
"""


def git(folder: Path, *arguments: str) -> None:
    """Run git without the settings of this machine."""
    identity = {
        f"GIT_{role}_{part}": "tests@example.com"
        for role in ("AUTHOR", "COMMITTER")
        for part in ("NAME", "EMAIL")
    }
    isolated = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(
        ["git", *arguments], cwd=folder, check=True, env=os.environ | identity | isolated
    )


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A template with three releases; sorted as text, the newest would be the second."""
    folder = tmp_path / "the template"
    folder.mkdir()
    git(folder, "init", "--quiet")
    for tag in ("0.1.0", "v0.9.0", "0.10.0", "not-a-release"):
        (folder / "CHANGELOG.md").write_text(CHANGELOG, "utf-8")
        (folder / "release").write_text(tag)
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "--message", tag)
        git(folder, "tag", tag)
    return folder


@pytest.fixture
def project(tmp_path: Path, template: Path) -> Path:
    """A project that stands on the first release."""
    folder = tmp_path / "project"
    folder.mkdir()
    stand_on(folder, "0.1.0", str(template))
    return folder


def stand_on(project: Path, commit: str, address: str) -> None:
    """Write what Copier writes."""
    text = f"# Written by Copier.\n_commit: {commit}\n_src_path: {address}\nci: github\n"
    (project / ".copier-answers.yml").write_text(text, "utf-8")


def test_a_project_learns_what_every_newer_release_brings(project: Path) -> None:
    text = describe(read_status(project))

    assert text.startswith("The project stands on 0.1.0 of the template; the newest is 0.10.0.")
    assert text.index("A tightened check.") < text.index("Something small.")
    assert "The first." not in text
    assert "Not yet." not in text
    assert text.endswith("uvx copier update --context-lines 1000")


@pytest.mark.parametrize("commit", ["0.10.0", "v0.10.0", "0.10"])
def test_a_project_on_the_newest_release_has_nothing_to_do(
    project: Path, template: Path, commit: str
) -> None:
    stand_on(project, commit, str(template))
    status = read_status(project)
    assert not status.is_behind
    assert "which is the newest" in describe(status)


def test_a_project_between_two_releases_sees_the_whole_changelog(
    project: Path, template: Path
) -> None:
    stand_on(project, "0.9.0.post3.dev0+1a2b3c4", str(template))
    text = describe(read_status(project))
    assert "between two releases" in text
    assert "The first." in text


def test_the_check_fails_while_there_is_a_newer_release(
    project: Path, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_status, "PROJECT_ROOT", project)
    assert template_status.main([]) == 0
    assert template_status.main(["--check"]) == 1
    stand_on(project, "0.10.0", str(template))
    assert template_status.main(["--check"]) == 0


def test_an_abbreviated_address_is_the_one_that_copier_means(project: Path) -> None:
    stand_on(project, "0.1.0", "gh:org/template")
    assert template_status._answers(project) == ("0.1.0", "https://github.com/org/template.git")


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        (None, "cannot be read"),
        ("ci: github\n", "names no template"),
        ("_commit: 0.1.0\n_src_path: /nowhere/at/all\n", "says where it is, in _src_path"),
    ],
)
def test_what_cannot_be_found_out_is_said_in_a_sentence(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answers: str | None,
    sentence: str,
) -> None:
    path = project / ".copier-answers.yml"
    path.unlink() if answers is None else path.write_text(answers, "utf-8")
    monkeypatch.setattr(template_status, "PROJECT_ROOT", project)

    assert template_status.main([]) == 2

    assert sentence in capsys.readouterr().err


def test_a_template_without_a_release_is_named(project: Path, template: Path) -> None:
    for tag in ("0.1.0", "v0.9.0", "0.10.0"):
        git(template, "tag", "--delete", tag)
    with pytest.raises(StatusError, match="no release yet"):
        read_status(project)
