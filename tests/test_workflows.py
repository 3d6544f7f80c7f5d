"""The workflows that projects get: safe by an auditor's rules, and the update really updates."""

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.answers import Answers
from tests.projects import REPOSITORY, Project, commit, output, render, run, succeed, uv

NEXT_RELEASE = "999.1.0"
# What stands in for GitHub's own command line, which only GitHub can answer.
GH = """#!/bin/sh
echo "$@" >> "$GH_LOG"
case "$*" in *"pr create"*) cat "$RUNNER_TEMP/body.md" >> "$GH_LOG" ;; esac
[ "$1 $2" != "pr view" ]
"""


def workflow(folder: Path, name: str) -> dict[str, dict[str, object]]:
    """Return the steps of a workflow's only job, by their names."""
    document = yaml.safe_load((folder / ".github" / "workflows" / name).read_text("utf-8"))
    (job,) = document["jobs"].values()
    return {step["name"]: step for step in job["steps"] if "name" in step}


@pytest.mark.parametrize("answers", [{}, {"template_updates": "workflow"}], ids=str)
def test_an_auditor_finds_nothing_in_the_workflows(
    make_project: Callable[[Answers], Project], answers: Answers
) -> None:
    for folder in (REPOSITORY, make_project(answers).folder):
        done = run(*uv(), "run", "zizmor", "--offline", folder / ".github", cwd=REPOSITORY)
        assert done.returncode == 0, output(done)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({}, {"renovate.json", ".github/workflows/ci.yml"}),
        ({"ci": "gitlab"}, {"renovate.json", ".gitlab-ci.yml"}),
        ({"ci": "none"}, set()),
        (
            {"template_updates": "workflow"},
            {".github/workflows/ci.yml", ".github/workflows/template-update.yml"},
        ),
        ({"ci": "gitlab", "template_updates": "workflow"}, {".gitlab-ci.yml"}),
        ({"template_updates": "none"}, {".github/workflows/ci.yml"}),
    ],
)
def test_a_project_gets_the_engine_that_it_asked_for(
    template: Path, tmp_path: Path, answers: Answers, expected: set[str]
) -> None:
    render(template, tmp_path / "service", answers)
    found = {
        path.relative_to(tmp_path / "service").as_posix()
        for pattern in ("renovate.json", ".gitlab-ci.yml", ".github/**/*.yml")
        for path in (tmp_path / "service").glob(pattern)
    }
    assert found == expected
    if ".gitlab-ci.yml" in expected:
        jobs = yaml.safe_load((tmp_path / "service" / ".gitlab-ci.yml").read_text("utf-8"))
        assert ("template-update" in jobs) == (answers.get("template_updates") == "workflow")


@dataclass
class Runner:
    """A project in a repository with an origin, and the variables that GitHub sets for a step."""

    project: Project
    temporary: Path

    def step(self, name: str) -> dict[str, str]:
        """Run the commands of a step as GitHub does, and return the outputs that it set."""
        steps = workflow(self.project.folder, "template-update.yml")
        outputs = self.temporary / "output"
        outputs.write_text("")
        environment = dict(self.project.env) | {
            "RUNNER_TEMP": str(self.temporary),
            "GITHUB_OUTPUT": str(outputs),
            "GH_LOG": str(self.temporary / "gh.log"),
            "BRANCH": "template-update",
            "CHECKS": "success",
            "PATH": f"{self.temporary}:{self.project.env['PATH']}",
        }
        script = str(steps[name]["run"])
        succeed("bash", "-e", "-c", script, cwd=self.project.folder, env=environment)
        return dict(line.split("=", 1) for line in outputs.read_text().splitlines())


@pytest.fixture
def runner(template: Path, tmp_path: Path, make_project: Callable[[Answers], Project]) -> Runner:
    """A project of the last release but one."""
    releases = tmp_path / "template"
    shutil.copytree(template, releases)
    errors = releases / "template" / "app" / "core" / "errors.py"
    errors.write_text(f"{errors.read_text('utf-8')}\n# The hole is closed.\n", "utf-8")
    commit(releases, "The next release")
    succeed("git", "tag", NEXT_RELEASE, cwd=releases)

    project = make_project({"template_updates": "workflow"}).with_own_environment(tmp_path / "venv")
    answers = project.folder / ".copier-answers.yml"
    text = answers.read_text("utf-8")
    answers.write_text(text.replace(str(template), str(releases)), "utf-8")
    succeed("git", "init", "--quiet", "--initial-branch=main", cwd=project.folder)
    succeed(*uv(), "lock", "--quiet", cwd=project.folder, env=project.env)
    commit(project.folder, "Start from the template")
    origin = tmp_path / "origin.git"
    succeed("git", "init", "--quiet", "--bare", str(origin), cwd=tmp_path)
    succeed("git", "remote", "add", "origin", str(origin), cwd=project.folder)
    succeed("git", "push", "--quiet", "origin", "main", cwd=project.folder)

    temporary = tmp_path / "runner"
    temporary.mkdir()
    gh = temporary / "gh"
    gh.write_text(GH)
    gh.chmod(0o755)
    return Runner(project, temporary)


def test_the_workflow_opens_a_pull_request_that_says_what_the_release_brings(
    runner: Runner,
) -> None:
    outputs = runner.step("Update, and keep what template-status says")
    assert outputs == {"changed": "yes"}

    runner.step("Open the pull request")

    calls = (runner.temporary / "gh.log").read_text("utf-8")
    assert "pr create --head template-update" in calls
    assert f"the newest release is {NEXT_RELEASE}" in calls
    assert re.search(r"What each release brings and asks: \S+/CHANGELOG\.md", calls)
    assert "Checks and tests: success" in calls
    branch = "template-update:app/core/errors.py"
    pushed = succeed("git", "-C", str(runner.project.folder), "show", branch, cwd=Path(os.sep))
    assert "# The hole is closed." in pushed
    assert succeed("git", "ls-remote", "origin", "template-update", cwd=runner.project.folder)


def test_the_workflow_does_nothing_where_there_is_no_newer_release(runner: Runner) -> None:
    runner.step("Update, and keep what template-status says")
    commit(runner.project.folder, "Update from the template")

    outputs = runner.step("Update, and keep what template-status says")

    assert outputs == {"changed": "no"}


def test_the_workflow_says_when_there_is_a_conflict(runner: Runner) -> None:
    errors = runner.project.folder / "app" / "core" / "errors.py"
    errors.write_text(f"{errors.read_text('utf-8')}\n# Our own last line.\n", "utf-8")
    commit(runner.project.folder, "An edit where the template will edit")

    outputs = runner.step("Update, and keep what template-status says")

    assert outputs == {"changed": "yes", "conflicts": "yes"}
