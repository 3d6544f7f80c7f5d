"""What `poe template-status` says about a project, with real repositories."""

import os
import subprocess
from pathlib import Path

import pytest

from template_tools import template_status
from template_tools.configuration import PROJECT_ROOT
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
    assert "uvx copier update --context-lines 1000" in said


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


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("pyproject.toml", "[tool.black]\nline-length = 88\n", "pyproject.toml has [tool.black]"),
        ("ruff.toml", "line-length = 120\n", "ruff.toml has another line-length"),
        (".ruff.toml", "line-length = 88\n", ".ruff.toml has another line-length"),
        ("ruff.toml", '[format]\nquote-style = "single"\n', "ruff.toml has another format"),
        (
            ".pre-commit-config.yaml",
            "repos:\n  - repo: https://github.com/psf/black\n    hooks: [{id: black}]\n",
            ".pre-commit-config.yaml runs another formatter",
        ),
        ("ruff.toml", "line-length = 100\n[lint]\nselect = []\n", None),
        ("pyproject.toml", "[tool.poe]\n", None),
    ],
)
def test_another_formatter_is_named_before_it_costs_conflicts(
    project: Path, name: str, text: str, found: str | None
) -> None:
    (project / name).write_text(text)
    advice = next(template_status._advice(project), None)
    if found is None:
        assert advice is None
    else:
        assert advice is not None
        assert found in advice
        assert "an update conflicts wherever your formatter" in advice


def test_the_project_as_it_is_rendered_gets_no_advice(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("pyproject.toml", "ruff.toml", "app", "tests", "template_tools"):
        (project / name).symlink_to(PROJECT_ROOT / name)
    with (project / ".copier-answers.yml").open("a") as answers:
        answers.write("local_passwords: 'yes'\n")
    main([], project)
    said = capsys.readouterr().out
    assert said.startswith("The project is based on")
    assert "--exclude" not in said


def test_local_passwords_that_nothing_keeps_are_named(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (project / ".copier-answers.yml").open("a") as answers:
        answers.write("local_passwords: 'yes'\n")
    main([], project)
    assert "questions.md#answered-anew" in capsys.readouterr().out


def test_the_command_leaves_out_a_folder_that_the_team_has_deleted(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "template_tools").mkdir()
    main([], project)
    said = capsys.readouterr().out.strip()
    assert said.endswith("uvx copier update --context-lines 1000 --exclude tests/contract")
