"""What a rendered project consists of, and that nothing in it shows that it was rendered."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.answers import ANSWER_SETS, DEFAULTS, EVERYTHING
from tests.projects import REPOSITORY, TEMPLATE, Projects, render, run, tracked_files, tree

MANIFESTS = Path(__file__).parent / "manifests"
REGISTRIES = re.compile(
    rb"pypi\.org|pythonhosted\.org|docker\.io|ghcr\.io|quay\.io|npmjs|artifactory"
)


def manifest(folder: Path) -> str:
    """List the paths below a folder, each with its mode as git sees it."""
    lines = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            lines.append(f"120000 {name} -> {path.readlink()}")
        elif path.is_file():
            lines.append(f"{'100755' if path.stat().st_mode & 0o100 else '100644'} {name}")
    return "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize("answers", ANSWER_SETS)
class TestEachAnswerSet:
    def test_it_consists_of_the_files_of_its_manifest(
        self, projects: Projects, answers: str, request: pytest.FixtureRequest
    ) -> None:
        found = manifest(projects.rendered(ANSWER_SETS[answers]))
        expected = MANIFESTS / f"{answers}.txt"
        if request.config.getoption("--update-manifests"):
            expected.write_text(found)
        assert found.splitlines() == expected.read_text().splitlines(), (
            "if this is meant, run: uv run poe test --update-manifests"
        )

    def test_it_is_rendered_to_the_same_bytes_again(
        self, projects: Projects, template: Path, tmp_path: Path, answers: str
    ) -> None:
        render(template, tmp_path / "again", ANSWER_SETS[answers])
        assert tree(tmp_path / "again") == tree(projects.rendered(ANSWER_SETS[answers]))

    def test_its_text_is_tidy(self, projects: Projects, answers: str) -> None:
        for name, text in tree(projects.rendered(ANSWER_SETS[answers])).items():
            assert not text or text.endswith(b"\n"), f"{name} ends without a line break"
            assert not text.endswith(b"\n\n"), f"{name} ends with an empty line"
            assert b"\r" not in text, f"{name} has a carriage return"
            assert not re.search(rb"[ \t]\n", text), f"{name} has a space at the end of a line"
            text.decode("utf-8")

    def test_it_names_no_registry_of_packages_or_images(
        self, projects: Projects, answers: str
    ) -> None:
        files = tree(projects.rendered(ANSWER_SETS[answers]))
        assert not [name for name, text in files.items() if REGISTRIES.search(text)]

    def test_its_yaml_can_be_read(self, projects: Projects, answers: str) -> None:
        for name, text in tree(projects.rendered(ANSWER_SETS[answers])).items():
            if name.endswith((".yml", ".yaml")):
                assert yaml.safe_load(text), name


def test_nothing_is_left_that_looks_like_jinja(projects: Projects) -> None:
    # A workflow has ${{ }}, and a Python f-string writes a brace as two.
    left = re.compile(r"(?<!\$)\{\{|\{%|\{#")
    for name, text in tree(projects.rendered(DEFAULTS)).items():
        if not name.endswith(".py"):
            assert not left.search(text.decode()), name


def test_python_files_hold_no_jinja_but_conditions_that_are_comments() -> None:
    for path in tracked_files(TEMPLATE):
        if path.suffix == ".py" or path.name.endswith(".py.jinja"):
            text = (TEMPLATE / path).read_text("utf-8")
            assert not re.search(r"\{%|\{#|\{\{ ", text), path
            assert ("#: if" in text) == path.name.endswith(".py.jinja"), path
            ast.parse(text)


def test_no_file_of_the_template_has_a_conditional_name() -> None:
    assert not [path for path in tracked_files(TEMPLATE) if "{" in str(path)]


def test_the_template_can_be_formatted_and_linted_as_it_stands() -> None:
    for command in (("format", "--check"), ("check",)):
        ruff = (sys.executable, "-m", "ruff")
        done = run(*ruff, *command, "--no-cache", TEMPLATE, cwd=REPOSITORY)
        assert done.returncode == 0, done.stdout


def test_git_ignores_the_rendered_env(projects: Projects, tmp_path: Path) -> None:
    project = projects.copy(EVERYTHING, tmp_path / "project").folder
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
    assert Path(".env") not in tracked_files(project)
    assert Path(".env.example") in tracked_files(project)


def test_the_plugin_that_template_authors_use_renders_it_too(
    copie: "object", template: Path
) -> None:
    result = copie.copy(  # type: ignore[attr-defined]
        extra_answers={"project_name": "Smoke Test"}, template_dir=template
    )
    assert result.exit_code == 0, result.exception
    assert result.answers["project_slug"] == "smoke-test"
    assert (result.project_dir / "app" / "main.py").is_file()
