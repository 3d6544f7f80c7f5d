"""What a rendered project consists of, and that nothing in it shows that it was rendered."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pathspec
import pytest
import yaml
from dotenv import dotenv_values

from scripts.guard.template import ENVIRONMENT
from tests.answers import ANSWER_SETS, DEFAULTS, EVERYTHING
from tests.projects import REPOSITORY, TEMPLATE, Projects, render, run, succeed, tracked_files, tree
from tests.test_copier_yml import DOCUMENT

MOVED: list[dict[str, str]] = yaml.safe_load(
    ENVIRONMENT.from_string(DOCUMENT["moved_modules"]["default"]).render(token_cache="valkey")
)
REGISTRIES = re.compile(
    rb"pypi\.org|pythonhosted\.org|docker\.io|ghcr\.io|quay\.io|npmjs|artifactory"
)


@pytest.mark.parametrize("answers", ANSWER_SETS)
class TestEachAnswerSet:
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
    # So have the texts of alerts, and the legends of a dashboard.
    theirs = re.compile(r"\{\{( \$.*? |[a-z_]+)\}\}")
    for name, content in tree(projects.rendered(DEFAULTS)).items():
        if not name.endswith(".py"):
            text = content.decode()
            if name.startswith("deploy/monitoring/"):
                text = theirs.sub("", text)
            assert not left.search(text), name


def test_python_files_hold_no_jinja_but_conditions_that_are_comments() -> None:
    for path in tracked_files(TEMPLATE):
        if path.suffix == ".py" or path.name.endswith(".py.jinja"):
            text = (TEMPLATE / path).read_text("utf-8")
            assert not re.search(r"\{%|\{#|\{\{ ", text), path
            assert ("#: if" in text) == path.name.endswith(".py.jinja"), path
            ast.parse(text)


def test_no_file_of_the_template_has_a_conditional_name() -> None:
    # The one that has a name for each module that has moved is excluded where one begins anew.
    named = [str(path) for path in tracked_files(TEMPLATE) if "{" in str(path)]
    assert [name for name in named if "moved_modules" not in name] == []


def test_a_new_project_has_nothing_at_an_old_place(projects: Projects) -> None:
    old = [moved["old"] for moved in MOVED]
    assert old
    for answers in ANSWER_SETS.values():
        folder = projects.rendered(answers)
        assert [path for path in old if (folder / path).exists()] == []
        for moved in MOVED:
            if "valkey" not in moved["new"] or answers.get("token_cache") == "valkey":
                place = folder.joinpath(*moved["new"].split("."))
                assert place.is_dir() or place.with_suffix(".py").is_file(), moved


@pytest.mark.parametrize("answers", ANSWER_SETS)
def test_the_template_s_documentation_is_named_by_an_address(
    projects: Projects, template: Path, answers: str
) -> None:
    files = tree(projects.rendered(ANSWER_SETS[answers]))
    vague = re.compile(rb"docs/[\w./-]*\s+#?\s*of\s+#?\s*the\s+#?\s*template|the template's docs")
    assert [name for name, text in files.items() if vague.search(text)] == []
    for name in (".env.example", "README.md", "pyproject.toml"):
        assert f"{template}/docs" in files[name].decode(), name
    for page in re.findall(rf"{template}/(docs/[\w.-]+)", files["README.md"].decode()):
        assert (REPOSITORY / page).is_file(), page


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("gh:org/repo", "https://github.com/org/repo/blob/HEAD/docs"),
        ("gl:group/sub/repo.git", "https://gitlab.com/group/sub/repo/blob/HEAD/docs"),
        ("https://git.example.com/org/repo.git", "https://git.example.com/org/repo/blob/HEAD/docs"),
        ("https://me:secret@example.com/a/b", "https://example.com/a/b/blob/HEAD/docs"),
        ("git@example.com:org/repo.git", "https://example.com/org/repo/blob/HEAD/docs"),
        ("ssh://git@example.com:2222/a/b.git", "https://example.com/a/b/blob/HEAD/docs"),
        ("git+https://example.com/a/b", "https://example.com/a/b/blob/HEAD/docs"),
        ("/home/you/template/", "/home/you/template/docs"),
    ],
)
def test_the_address_of_the_documentation_follows_from_that_of_the_template(
    address: str, expected: str
) -> None:
    template = ENVIRONMENT.from_string(DOCUMENT["template_docs"]["default"])
    assert template.render(_copier_answers={"_src_path": address}) == expected


def test_the_template_can_be_formatted_and_linted_as_it_stands() -> None:
    for command in (("format", "--check"), ("check",)):
        ruff = (sys.executable, "-m", "ruff")
        done = run(*ruff, *command, "--no-cache", TEMPLATE, cwd=REPOSITORY)
        assert done.returncode == 0, done.stdout


def test_the_values_of_env_are_the_same_to_docker_and_to_a_shell(projects: Projects) -> None:
    """`docker run --env-file` takes everything after the equals sign."""
    usual = {
        "sso_issuer": "https://sso.example.com/realms/main",
        "sso_client_secret": "Zm9v+YmFy/==%41,?x",
        "database_url": "postgresql://app@db.example.com:5432/app?sslmode=require",
    }
    env = projects.rendered(usual) / ".env"
    lines = [line for line in env.read_text("utf-8").splitlines() if line and line[0] != "#"]
    raw = dict(line.split("=", 1) for line in lines)
    sourced = succeed("env", "-i", "sh", "-c", f"set -a; . {env}; env", cwd=env.parent)
    assert len(raw) == 6
    assert raw == dotenv_values(env)
    assert raw.items() <= dict(line.split("=", 1) for line in sourced.splitlines()).items()


def test_git_ignores_the_rendered_env(projects: Projects, tmp_path: Path) -> None:
    project = projects.copy(EVERYTHING, tmp_path / "project").folder
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
    assert Path(".env") not in tracked_files(project)
    assert Path(".env.example") in tracked_files(project)


def test_no_file_that_holds_a_secret_is_committed_or_reaches_the_image(
    projects: Projects, tmp_path: Path
) -> None:
    folder = projects.copy(DEFAULTS, tmp_path / "service").folder
    succeed("git", "init", "--quiet", cwd=folder)
    # Such a line means the same to Docker and to git.
    lines = (folder / ".dockerignore").read_text("utf-8").splitlines()
    left_out = pathspec.GitIgnoreSpec.from_lines(it for it in lines if it.startswith("**/"))
    for name in (
        *(".env", ".env.local", ".env.production", ".env.bak", ".env.example.local"),
        "production.env",
        *("client-key.pem", "key.pem", "server.key", "client.p12", "client.pfx", "store.jks"),
    ):
        for place in ("", "app/", "app/core/", "migrations/"):
            ignored = run("git", "check-ignore", "--quiet", f"{place}{name}", cwd=folder)
            assert ignored.returncode == 0, f"git would take {place}{name}"
            assert left_out.match_file(f"{place}{name}"), f"the image would take {place}{name}"
    assert not any(left_out.match_file(name) for name in ("app/main.py", "app/core/ca.pem"))
    for name in (".env.example", "app/main.py", "tests/conftest.py"):
        assert run("git", "check-ignore", "--quiet", name, cwd=folder).returncode == 1


def test_the_plugin_that_template_authors_use_renders_it_too(
    copie: "object", template: Path
) -> None:
    result = copie.copy(  # type: ignore[attr-defined]
        extra_answers={"project_name": "Smoke Test"}, template_dir=template
    )
    assert result.exit_code == 0, result.exception
    assert result.answers["project_slug"] == "smoke-test"
    assert (result.project_dir / "app" / "main.py").is_file()
