"""What editors, hooks and agents read of a project is valid, and true of it."""

import json
import os
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.answers import ANSWER_SETS, DEFAULTS, EVERYTHING
from tests.projects import Projects, commit, output, run, succeed

# The properties of a dev container that is built from a Dockerfile, from its schema.
DEV_CONTAINER = {
    *("build", "remoteUser", "containerEnv", "postCreateCommand"),
    *("forwardPorts", "portsAttributes", "customizations"),
}


def tasks(folder: Path) -> set[str]:
    """Return the commands of ``uv run poe``."""
    text = (folder / "template_tools" / "tasks.toml").read_text("utf-8")
    groups = tomllib.loads(text)["groups"].values()
    return {name for group in groups for name in group["tasks"]}


@pytest.mark.parametrize("answers", ANSWER_SETS)
def test_every_json_file_is_json(projects: Projects, answers: str) -> None:
    folder = projects.rendered(ANSWER_SETS[answers])
    found = [path for path in folder.rglob("*.json") if path.is_file()]
    assert {path.name for path in found} >= {"settings.json", "launch.json", "devcontainer.json"}
    for path in found:
        assert json.loads(path.read_text("utf-8")), path


class TestAgents:
    @pytest.mark.parametrize("answers", ANSWER_SETS)
    def test_every_file_and_command_that_is_named_is_there(
        self, projects: Projects, answers: str
    ) -> None:
        folder = projects.rendered(ANSWER_SETS[answers])
        text = (folder / "AGENTS.md").read_text("utf-8")
        named = set(re.findall(r"`([^`\n]+)`", text))
        paths = {it for it in named if re.fullmatch(r"[\w./-]+", it) and re.search(r"[/.]", it)}
        # They are in the folder of each resource, or made by uv.
        within = {"router.py", "service.py", "schema.py"}
        assert {it for it in paths - within - {"uv.lock"} if not (folder / it).exists()} == set()
        assert {it for it in within if not (folder / "app/api/v1/user" / it).exists()} == set()
        commands = set(re.findall(r"uv run poe ([\w-]+)", text))
        assert commands >= {"check", "test", "format", "resource", "revision"}
        assert commands <= tasks(folder)
        code = "\n".join(path.read_text("utf-8") for path in (folder / "app").rglob("*.py"))
        for word in ("CurrentToken", "CurrentUser", "require_roles", "PUBLIC"):
            assert f"`{word}`" in text
            assert re.search(rf"\b{word}\b", code), word

    def test_it_is_a_page_and_says_whose_every_folder_of_the_application_is(
        self, projects: Projects
    ) -> None:
        folder = projects.rendered(DEFAULTS)
        text = (folder / "AGENTS.md").read_text("utf-8")
        assert len(text.splitlines()) <= 60
        for path in (folder / "app").iterdir():
            if path.is_dir():
                assert f"`app/{path.name}/" in text, path.name


class TestVisualStudioCode:
    def test_the_debugger_starts_what_poe_dev_starts(self, projects: Projects) -> None:
        folder = projects.rendered(DEFAULTS)
        launch = json.loads((folder / ".vscode/launch.json").read_text("utf-8"))
        service, test = launch["configurations"]
        tools = tomllib.loads((folder / "template_tools/tasks.toml").read_text("utf-8"))
        dev = tools["groups"]["1-run"]["tasks"]["dev"]
        assert dev["cmd"] == f"python -m {service['module']}"
        assert service["subProcess"]
        assert test["purpose"] == ["debug-test"]

    def test_the_line_length_is_that_of_ruff(self, projects: Projects) -> None:
        folder = projects.rendered(DEFAULTS)
        ruff = tomllib.loads((folder / "ruff.toml").read_text("utf-8"))
        settings = json.loads((folder / ".vscode/settings.json").read_text("utf-8"))
        assert settings["[python]"]["editor.rulers"] == [ruff["line-length"]]
        editorconfig = (folder / ".editorconfig").read_text("utf-8")
        assert f"max_line_length = {ruff['line-length']}" in editorconfig


class TestDevContainer:
    def test_it_is_one_of_a_dockerfile_with_the_python_of_the_project(
        self, projects: Projects
    ) -> None:
        for answers in (DEFAULTS, {"python_version": "3.15"}):
            folder = projects.rendered(answers)
            container = json.loads((folder / ".devcontainer/devcontainer.json").read_text("utf-8"))
            assert container.keys() <= DEV_CONTAINER
            dockerfile = folder / ".devcontainer" / container["build"]["dockerfile"]
            version = (folder / ".python-version").read_text("utf-8").strip()
            assert f"\nFROM python:{version}\n" in dockerfile.read_text("utf-8")
            assert f" {container['remoteUser']}\n" in dockerfile.read_text("utf-8")


class TestHooks:
    def test_each_is_a_command_of_the_project_and_nothing_is_fetched(
        self, projects: Projects
    ) -> None:
        folder = projects.rendered(DEFAULTS)
        config = yaml.safe_load((folder / ".pre-commit-config.yaml").read_text("utf-8"))
        assert [it["repo"] for it in config["repos"]] == ["local"]
        for hook in config["repos"][0]["hooks"]:
            task = hook["entry"].removeprefix("uv run poe ")
            assert task in tasks(folder), hook
            assert hook["stages"][0] in config["default_install_hook_types"]

    def test_a_commit_is_formatted_first(self, projects: Projects, tmp_path: Path) -> None:
        project = projects.copy(EVERYTHING, tmp_path / "service")
        folder = project.folder
        succeed("git", "init", "--quiet", "--initial-branch=main", cwd=folder)
        commit(folder, "Start from the template")
        env = {**os.environ, **project.env, "UV_OFFLINE": "1", "PREK_HOME": str(tmp_path / "prek")}
        succeed(Path(sys.executable).with_name("prek"), "install", cwd=folder, env=env)
        with (folder / "app" / "hooks.py").open("a", encoding="utf-8") as file:
            file.write("x  =  1\n")

        refused = run("git", "commit", "--all", "--message", "An edit", cwd=folder, env=env)

        assert refused.returncode == 1
        assert "files were modified by this hook" in output(refused)
        assert (folder / "app" / "hooks.py").read_text("utf-8").endswith("\nx = 1\n")
        succeed("git", "commit", "--all", "--message", "An edit", cwd=folder, env=env)
