"""The commands of a rendered project do what they say, and what its files tell is true."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.answers import ANSWER_SETS, DEFAULTS, Answers
from tests.projects import Project, Projects, output


def commands(project: Project) -> set[str]:
    """Return the tasks that are for people, and not parts of others."""
    text = (project.folder / "template_tools/tasks.toml").read_text("utf-8")
    groups = tomllib.loads(text)["groups"].values()
    return {name for group in groups for name in group["tasks"]}


class TestTheCommands:
    def test_poe_lists_each_with_its_help(self, project: Project) -> None:
        done = project.poe()
        listed = dict(re.findall(r"^  ([\w-]+) {2,}(\S.*)$", output(done), re.MULTILINE))
        assert commands(project) <= set(listed), output(done)

    def test_the_readme_names_exactly_these(self, project: Project) -> None:
        readme = (project.folder / "README.md").read_text("utf-8")
        assert set(re.findall(r"^\| `uv run poe ([\w-]+)", readme, re.MULTILINE)) == commands(
            project
        )

    def test_the_paths_that_the_readme_names_exist(self, project: Project) -> None:
        readme = (project.folder / "README.md").read_text("utf-8")
        table = readme.partition("## Where things are")[2].partition("\n## ")[0]
        named = re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)
        assert named
        assert [path for path in named if not (project.folder / path).exists()] == []

    def test_format_leaves_what_is_formatted(self, project: Project) -> None:
        before = {p: p.read_bytes() for p in (project.folder / "app").rglob("*.py")}
        done = project.poe("format")
        assert done.returncode == 0, output(done)
        assert {path: path.read_bytes() for path in before} == before


@pytest.fixture(scope="class")
def migrated(make_project: Callable[[Answers], Project]) -> Project:
    return make_project(DEFAULTS)


class TestMigrations:
    @staticmethod
    def versions(project: Project) -> set[Path]:
        return set((project.folder / "migrations" / "versions").glob("*.py"))

    def test_a_revision_without_a_change_writes_nothing(self, migrated: Project) -> None:
        before = self.versions(migrated)
        done = migrated.poe("revision", "-m", "nothing new")
        assert done.returncode == 0, output(done)
        assert self.versions(migrated) == before

    def test_a_changed_model_becomes_a_formatted_migration_that_applies(
        self, migrated: Project
    ) -> None:
        model = migrated.folder / "app" / "database" / "model" / "user.py"
        # Alembic puts three of these before its own remarks.
        comment = "What they are called by those who have known them ### for long. " * 3
        model.write_text(
            f"{model.read_text()}    nickname: str | None = Field(\n"
            "        default=None,\n"
            "        max_length=40,\n"
            f'        sa_column_kwargs={{"comment": "{comment}"}},  # noqa: E501\n'
            "    )\n"
        )
        before = self.versions(migrated)
        done = migrated.poe("revision", "-m", 'a "nickname" for 50% & more')
        assert done.returncode == 0, output(done)
        (written,) = self.versions(migrated) - before
        assert "sa.String(length=40)" in written.read_text()
        assert comment in written.read_text()
        for command in (
            ("ruff", "format", "--check"),
            ("ruff", "check"),
            ("mypy", "--strict", "--follow-imports=silent"),
        ):
            done = migrated.tool(*command, str(written))
            assert done.returncode == 0, output(done)

        done = migrated.poe("migrate")
        assert done.returncode == 0, output(done)
        check = [
            "-m",
            "template_tools.postgres",
            "run",
            "--",
            str(migrated.program("alembic")),
            "check",
        ]
        done = migrated.tool("python", *check)
        assert done.returncode == 0, output(done)


@pytest.mark.parametrize("answers", ANSWER_SETS)
def test_requirements_txt_pins_what_pyproject_asks_for(projects: Projects, answers: str) -> None:
    project = projects.rendered(ANSWER_SETS[answers])
    file = project / "requirements.txt"
    if not file.exists():
        pytest.skip("the template has no requirements.txt yet")
    lines = re.findall(r"^[A-Za-z0-9][^\s\\;]*", file.read_text("utf-8"), re.MULTILINE)
    pinned = dict(line.split("==") for line in lines)
    pinned = {Requirement(name).name: version for name, version in pinned.items()}
    document = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))
    wanted = document["project"]["dependencies"] + document["dependency-groups"]["cli"]
    assert ("valkey" in pinned) == (ANSWER_SETS[answers].get("token_cache") == "valkey")
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pinned[requirement.name]), requirement
