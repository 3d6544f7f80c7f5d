"""The workflows that projects get: safe by an auditor's rules, and the update really updates."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
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


@pytest.mark.parametrize("answers", [{}, {"template_updates": "workflow"}], ids=str)
def test_an_auditor_finds_nothing_in_the_workflows(
    make_project: Callable[[Answers], Project], answers: Answers
) -> None:
    for folder in (REPOSITORY, make_project(answers).folder):
        audit = ("zizmor", "--offline", "--persona", "auditor", folder / ".github")
        done = run(*uv(), "run", *audit, cwd=REPOSITORY)
        assert done.returncode == 0, output(done)


@pytest.mark.parametrize(("status", "fails"), [(0, False), (1, True), (2, False)])
def test_an_audit_fails_for_a_vulnerability_and_not_for_the_want_of_an_answer(
    make_project: Callable[[Answers], Project], tmp_path: Path, status: int, fails: bool
) -> None:
    (tmp_path / "uv").write_text(f"#!/bin/sh\nexit {status}\n")
    (tmp_path / "uv").chmod(0o755)
    for ci, file in (("github", ".github/workflows/ci.yml"), ("gitlab", ".gitlab-ci.yml")):
        text = (make_project({"ci": ci}).folder / file).read_text("utf-8")
        [line] = re.findall(r"^ *- (?:run: )?(uv audit .+)$", text, re.MULTILINE)
        done = run(
            "bash", "-e", "-c", line, cwd=tmp_path, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}
        )
        assert bool(done.returncode) == fails


def test_a_project_tells_what_it_consists_of(
    make_project: Callable[[Answers], Project],
) -> None:
    project = make_project({})
    done = project.poe("--quiet", "sbom")
    assert done.returncode == 0, output(done)
    bill = json.loads((project.folder / "sbom.cdx.json").read_text("utf-8"))
    names = {component["name"] for component in bill["components"]}
    assert bill["bomFormat"] == "CycloneDX"
    assert "fastapi" in names
    assert "pytest" not in names


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
class Forge:
    """A repository of a project of the last release but one, and machines that run its jobs.

    Each job gets a clone and a home of its own, as at GitHub and GitLab.
    """

    folder: Path
    project: Project
    releases: Path
    token: str = "canary-token"

    @property
    def origin(self) -> Path:
        """The repository that the jobs clone and push to."""
        return self.folder / "origin.git"

    def release(self, edit: Callable[[Path], None]) -> None:
        """Publish a release of the template."""
        edit(self.releases / "template")
        commit(self.releases, "The next release")
        succeed("git", "tag", NEXT_RELEASE, cwd=self.releases)

    def push(self) -> None:
        """Commit the project, and push it to the repository."""
        commit(self.project.folder, "Our work")
        succeed("git", "push", "--quiet", str(self.origin), "main", cwd=self.project.folder)

    def clone(self, job: str, depth: int = 1) -> Path:
        """Return the folder of a machine: the work tree is in ``work``, the home in ``home``."""
        machine = self.folder / job
        (machine / "home").mkdir(parents=True)
        depth_option = [f"--depth={depth}"] if depth else []
        where = f"file://{self.origin}"
        succeed("git", "clone", "--quiet", *depth_option, where, "work", cwd=machine)
        return machine

    def run(
        self, machine: Path, script: str, variables: Mapping[str, str], *shell: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a script in the work tree of a machine."""
        environment = dict(self.project.env) | {
            "HOME": str(machine / "home"),
            "GIT_CONFIG_GLOBAL": str(machine / "home" / ".gitconfig"),
            "UV_CACHE_DIR": succeed(*uv(), "cache", "dir", cwd=machine).strip(),
            **variables,
        }
        return run("bash", *shell, "-c", script, cwd=machine / "work", env=environment)

    def pushed(self, path: str) -> str:
        """Return a file of the branch that was pushed."""
        return succeed("git", "show", f"template-update:{path}", cwd=self.origin)


@pytest.fixture
def forge(
    template: Path,
    tmp_path: Path,
    make_project: Callable[[Answers], Project],
    request: pytest.FixtureRequest,
) -> Forge:
    """A forge whose project gets its updates by a workflow of a CI."""
    releases = tmp_path / "template"
    shutil.copytree(template, releases)
    answers = {"template_updates": "workflow", "ci": request.param}
    project = make_project(answers).with_own_environment(tmp_path / "venv")
    recorded = project.folder / ".copier-answers.yml"
    text = recorded.read_text("utf-8")
    recorded.write_text(text.replace(str(template), str(releases)), "utf-8")
    succeed("git", "init", "--quiet", "--initial-branch=main", cwd=project.folder)
    succeed(*uv(), "lock", "--quiet", cwd=project.folder, env=project.env)
    forge = Forge(tmp_path, project, releases)
    bare = ("git", "init", "--quiet", "--bare", "--initial-branch=main", str(forge.origin))
    succeed(*bare, cwd=tmp_path)
    forge.push()
    return forge


def close_the_hole(template: Path) -> None:
    """Make a release that changes a module."""
    errors = template / "app" / "core" / "errors.py"
    errors.write_text(f"{errors.read_text('utf-8')}\n\n# The hole is closed.\n", "utf-8")


def spy(loot: Path) -> Callable[[Path], None]:
    """Make a release whose tests write down what they can read, now and whenever git pushes."""
    code = f"""
import os, subprocess, pathlib
with open({str(loot)!r}, "a") as loot:
    print("release", dict(os.environ), file=loot)
hook = "#!/bin/sh\\n(echo hook; env; cat .git/config) >> {loot}\\n"
for folder in (pathlib.Path(".git/hooks"), pathlib.Path.home() / "hooks"):
    folder.mkdir(exist_ok=True)
    (folder / "pre-push").write_text(hook)
    (folder / "pre-push").chmod(0o755)
subprocess.run(["git", "config", "--global", "core.hooksPath", str(pathlib.Path.home() / "hooks")])
raise SystemExit("Not today.")
"""

    def edit(template: Path) -> None:
        (template / "template_tools" / "__init__.py").write_text(code, "utf-8")

    return edit


@dataclass
class Done:
    """What came of a run of all the jobs: the proposal's text, or None, and the state of each."""

    proposal: str | None
    jobs: dict[str, str]


def github(forge: Forge) -> Done:
    """Run the jobs of the workflow as GitHub does: each ``run`` with its own ``env``."""
    text = (forge.project.folder / ".github" / "workflows" / "template-update.yml").read_text()
    artifact, log, outputs = forge.folder / "artifact", forge.folder / "gh.log", dict[str, str]()
    done = Done(None, {})
    for name, job in yaml.safe_load(text)["jobs"].items():
        ran = outputs.get("changed") == "yes" and (
            name != "check" or outputs.get("conflicts") != "yes"
        )
        if name != "update" and not ran:
            done.jobs[name] = "skipped"
            continue
        checkout = job["steps"][0]
        assert checkout["with"]["persist-credentials"] is False
        machine = forge.clone(name, checkout["with"].get("fetch-depth", 1))
        temporary, output_file = machine / "temporary", machine / "output"
        temporary.mkdir()
        gh = machine / "gh"
        gh.write_text(GH)
        gh.chmod(0o755)
        done.jobs[name] = "success"
        for step in job["steps"]:
            if "upload-artifact" in step.get("uses", "") and outputs.get("changed") == "yes":
                shutil.copytree(temporary / "update", artifact)
            if "download-artifact" in step.get("uses", ""):
                shutil.copytree(artifact, temporary / "update")
            if "run" not in step or step["run"].startswith("pipx install"):
                continue
            variables = {
                "RUNNER_TEMP": str(temporary),
                "GITHUB_OUTPUT": str(output_file),
                "GH_LOG": str(log),
                "PATH": f"{machine}:{forge.project.env['PATH']}",
            }
            for variable, value in (job.get("env", {}) | step.get("env", {})).items():
                secret = "secrets." in value or "github.token" in value
                conflicts = outputs.get("conflicts") == "yes"
                checks = "not run, because of conflicts" if conflicts else done.jobs["check"]
                variables[variable] = forge.token if secret else checks
            ended = forge.run(machine, step["run"], variables, "-e")
            if ended.returncode:
                done.jobs[name] = "failure"
                sys.stdout.write(output(ended))
                assert name == "check"
                break
            output_file.touch()
            outputs |= dict(line.split("=", 1) for line in output_file.read_text().splitlines())
    if log.exists():
        done.proposal = log.read_text("utf-8")
    return done


def gitlab(forge: Forge) -> Done:
    """Run the jobs of the pipeline as GitLab does, and receive the push with its options."""
    succeed("git", "config", "receive.advertisePushOptions", "true", cwd=forge.origin)
    options = forge.folder / "options"
    hook = forge.origin / "hooks" / "post-receive"
    hook.write_text(f"#!/bin/sh\nenv | grep GIT_PUSH_OPTION_ > {options}\n")
    hook.chmod(0o755)
    jobs = yaml.safe_load((forge.project.folder / ".gitlab-ci.yml").read_text("utf-8"))
    host = {"CI_SERVER_HOST": "gitlab.example.com", "CI_PROJECT_PATH": "team/service"}
    url = f"https://template-update:{forge.token}@gitlab.example.com/team/service.git"
    git = {
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_1": f"url.file://{forge.origin}.insteadOf",
        "GIT_CONFIG_VALUE_1": url,
    }
    done, artifacts = Done(None, {}), dict[str, Path]()
    for name in (name for name in jobs if name.startswith("template-update")):
        job = jobs[name]
        machine = forge.clone(name, 0)
        variables = host | {it: str(value) for it, value in job["variables"].items()}
        if job.get("environment", {}).get("name") == "template-update":
            variables |= git | {"TEMPLATE_UPDATE_TOKEN": forge.token}
        for needed in job.get("needs", ()):
            for path in jobs[needed]["artifacts"]["paths"]:
                if (artifacts[needed] / path).exists():
                    shutil.copytree(artifacts[needed] / path, machine / "work" / path)
        artifacts[name] = machine / "work"
        lines = [*job.get("before_script", ()), *job["script"]]
        script = "\n".join(line for line in lines if not line.startswith("pip install"))
        ended = forge.run(machine, script, variables, "-e", "-o", "pipefail")
        sys.stdout.write(output(ended))
        assert ended.returncode == 0 or job.get("allow_failure")
        done.jobs[name] = "failed" if ended.returncode else "success"
        after = "\n".join(job.get("after_script", ()))
        forge.run(machine, after, variables | {"CI_JOB_STATUS": done.jobs[name]}, "-e")
    if options.exists():
        done.proposal = options.read_text("utf-8")
    return done


both = pytest.mark.parametrize(
    ("forge", "run_jobs"), [("github", github), ("gitlab", gitlab)], indirect=["forge"]
)
type RunJobs = Callable[[Forge], Done]


@both
def test_a_release_is_proposed_with_what_it_brings(forge: Forge, run_jobs: RunJobs) -> None:
    forge.release(close_the_hole)

    done = run_jobs(forge)

    assert done.proposal is not None
    assert f"the newest release is {NEXT_RELEASE}" in done.proposal
    assert re.search(r"What each release brings and asks: \S+/CHANGELOG\.md", done.proposal)
    assert re.search(r"Checks and tests\W+success", done.proposal)
    assert "# The hole is closed." in forge.pushed("app/core/errors.py")
    assert f"_commit: {NEXT_RELEASE}" in forge.pushed(".copier-answers.yml")
    branch = forge.pushed("uv.lock")
    assert branch
    log = succeed("git", "log", "--format=%s", "template-update", cwd=forge.origin)
    assert log.splitlines() == ["Update from the template", "Our work"]


@both
def test_the_code_of_a_release_never_meets_the_token(
    forge: Forge, run_jobs: RunJobs, tmp_path: Path
) -> None:
    loot = tmp_path / "loot"
    forge.release(spy(loot))

    done = run_jobs(forge)

    assert done.proposal is not None
    assert re.search(r"Checks and tests\W+fail", done.proposal)
    stolen = loot.read_text()
    assert "release" in stolen
    assert forge.token not in stolen
    assert "hook" not in stolen.split()


@both
def test_conflicts_are_proposed_as_conflicts(forge: Forge, run_jobs: RunJobs) -> None:
    forge.release(close_the_hole)
    errors = forge.project.folder / "app" / "core" / "errors.py"
    errors.write_text(f"{errors.read_text('utf-8')}\n# Our own last line.\n", "utf-8")
    forge.push()

    done = run_jobs(forge)

    assert done.proposal is not None
    assert re.search(r"app/core/errors\.py:\d+: leftover conflict marker", done.proposal)
    assert re.search(r"Checks and tests\W+not run, because of conflicts", done.proposal)


@both
def test_without_a_newer_release_nothing_is_proposed(forge: Forge, run_jobs: RunJobs) -> None:
    assert run_jobs(forge).proposal is None


@pytest.mark.parametrize("forge", ["gitlab"], indirect=True)
@pytest.mark.parametrize("job", ["template-update", "template-update-check"])
def test_gitlab_refuses_to_run_code_with_a_token_for_every_job(forge: Forge, job: str) -> None:
    jobs = yaml.safe_load((forge.project.folder / ".gitlab-ci.yml").read_text("utf-8"))
    script = "\n".join(jobs[job]["before_script"])
    machine = forge.clone(job)
    done = forge.run(machine, script, {"TEMPLATE_UPDATE_TOKEN": forge.token}, "-e")
    assert done.returncode == 1
    assert "the environment scope template-update" in done.stdout
    assert forge.token not in output(done)
