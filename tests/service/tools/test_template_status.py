"""What `poe template-status` says about a project, with real repositories."""

import os
import subprocess
from pathlib import Path

import pytest

from template_tools.template_status import main


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
    for tag in ("0.1.0", "0.9.0", "0.10.0", "not-a-release"):
        git(folder, "commit", "--quiet", "--allow-empty", "--message", tag)
        git(folder, "tag", tag)
    return folder


@pytest.fixture
def project(tmp_path: Path, template: Path) -> Path:
    """A project that is based on the first release."""
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "--quiet")
    stand_on(folder, "0.1.0", str(template))
    return folder


def stand_on(project: Path, commit: str, address: str) -> None:
    """Write what Copier writes."""
    text = f"# Written by Copier.\n_commit: {commit}\n_src_path: {address}\nci: github\n"
    (project / ".copier-answers.yml").write_text(text, "utf-8")


def test_a_project_learns_that_there_is_a_newer_release(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([], project) == 0
    said = capsys.readouterr().out
    assert "based on 0.1.0 of the template; the newest release is 0.10.0." in said
    assert "CHANGELOG.md" in said
    assert said.strip().endswith("uvx copier update --context-lines 1000")


def test_the_check_fails_while_there_is_a_newer_release(
    project: Path, template: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--check"], project) == 1
    stand_on(project, "0.10.0", str(template))
    capsys.readouterr()
    assert main(["--check"], project) == 0
    assert "0.10.0 of the template, which is the newest release" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (None, ".copier-answers.yml"),
        ("_commit: 0.1.0\n_src_path: /nowhere/at/all\n", "git"),
        ("_commit: 0.1.0\n_src_path: git+file:///nowhere/at/all.git\n", "/nowhere/at/all"),
    ],
)
def test_what_cannot_be_found_out_is_said_in_a_sentence(
    project: Path, capsys: pytest.CaptureFixture[str], answers: str | None, reason: str
) -> None:
    path = project / ".copier-answers.yml"
    path.unlink() if answers is None else path.write_text(answers, "utf-8")

    assert main(["--check"], project) == 2

    said = capsys.readouterr()
    assert said.out == ""
    first, second = said.err.strip().splitlines()
    assert first.startswith("The template's releases cannot be read: ")
    assert reason in first
    assert second.startswith("The repository is the _src_path in .copier-answers.yml")


def test_without_uv_it_says_so(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UV", "/nowhere/uv")
    assert main([], project) == 2
    assert "/nowhere/uv" in capsys.readouterr().err
