"""What the template asks and writes in Spanish says what it says in English, and all of it."""

import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import cast

import pytest

from scripts.guard.template import template_in
from tests.answers import EVERYTHING, SPANISH, Answers
from tests.debian import find_or_skip
from tests.projects import RELEASE, REPOSITORY, Project, Projects, commit, succeed, tree
from tests.test_copier_yml import DOCUMENT, QUESTIONS, refusals, shown
from tests.test_terminal import STYLE, Screen, terminal
from tests.updates.updating import assert_like_new, conflicts, recorded_answers, update

# What people read in a project. The code, the log and the API are in English in both.
TRANSLATED = {".env", ".env.example", "README.md", "template_tools/tasks.toml"}
# It is there in Spanish projects alone.
CATALOGUE = "template_tools/spanish.json"
# Names of products, and what is written the same way in both languages.
THE_SAME_IN_BOTH = {
    *("Docker", "GitHub Actions", "GitLab CI", "JWT", "Kubernetes", "Renovate", "Valkey"),
    *("3.13", "3.14", "3.15", "No"),
}
MESSAGES = ("_message_after_copy", "_message_after_update")
# The texts of a README depend on them.
DEPLOYMENTS = ["docker", "kubernetes", "none"]

# Every question asked after the language.
OTHERS = [name for name in QUESTIONS if name != "language"]


def names_of_choices(name: str) -> list[str]:
    """Return the names of what can be chosen, as they are written."""
    return [*QUESTIONS[name].get("choices", [])]


def english_and_spanish(text: str) -> tuple[str, str]:
    """Return what Copier shows of a text in both languages."""
    return shown(text, "en"), shown(text, "es")


class TestCopierYml:
    def test_the_language_is_asked_first_and_in_both_languages(self) -> None:
        assert next(iter(QUESTIONS)) == "language"
        english, spanish = QUESTIONS["language"]["help"].splitlines()
        assert english.startswith("The language of ")
        assert spanish.startswith("El idioma de ")
        assert QUESTIONS["language"]["choices"] == {"English": "en", "Español": "es"}
        assert QUESTIONS["language"]["default"] == "en"

    @pytest.mark.parametrize("name", OTHERS)
    def test_each_line_of_a_question_is_in_spanish(self, name: str) -> None:
        english, spanish = english_and_spanish(QUESTIONS[name]["help"])
        same = {*english.splitlines()} & {*spanish.splitlines()}
        assert [line for line in same if "://" not in line] == []

    @pytest.mark.parametrize("name", OTHERS)
    def test_each_choice_has_a_spanish_name_of_its_own(self, name: str) -> None:
        names = [english_and_spanish(it) for it in names_of_choices(name)]
        assert {en for en, es in names if en == es} <= THE_SAME_IN_BOTH
        assert len({es for _, es in names}) == len(names)

    @pytest.mark.parametrize("name", OTHERS)
    def test_each_reason_of_a_refusal_is_in_spanish(self, name: str) -> None:
        english, spanish = refusals(name, "en"), refusals(name, "es")
        assert not {*english} & {*spanish}
        assert len({*spanish}) == len({*english})

    def test_a_default_that_is_prose_is_in_spanish(self) -> None:
        for name in ("project_name", "description"):
            english, spanish = english_and_spanish(QUESTIONS[name]["default"])
            assert english != spanish

    @pytest.mark.parametrize("message", MESSAGES)
    @pytest.mark.parametrize("asked", ["", "x"])
    def test_what_is_said_at_the_end_has_the_same_commands_in_spanish(
        self, message: str, asked: str
    ) -> None:
        english, spanish = (
            template_in(REPOSITORY)
            .render(
                DOCUMENT[message],
                {
                    "language": language,
                    "project_name": "Shop",
                    "database_url": asked,
                    "sso_issuer": asked,
                    "sso_client_secret": "",
                    "template_docs": "https://example.com/docs",
                    "_copier_conf": {"dst_path": "/srv/shop"},
                    "_copier_answers": {"_commit": "9.9.9"},
                },
            )
            .splitlines()
            for language in ("en", "es")
        )
        assert len(english) == len(spanish) > 5
        for en, es in zip(english, spanish, strict=True):
            # A command is indented, and a comment may follow it.
            if en.startswith("  ") or "://" in en.split(" ")[0] or not en:
                assert es.partition("  # ")[0].rstrip() == en.partition("  # ")[0].rstrip()
            else:
                assert es != en
            assert len(es) <= 80


@pytest.fixture
def screen(tmp_path: Path, template: Path, shared_folder: Path) -> Iterator[Screen]:
    """Copier asks in a terminal of 80 columns for a project in the folder ``new``."""
    screen = Screen(find_or_skip("usr/bin/tmux", "tmux", shared_folder), tmp_path)
    command = (sys.executable, "-m", "copier", "copy", template, tmp_path / "new")
    shell = f"{shlex.join(map(str, command))} && sleep 600"
    screen.run("new-session", "-d", "-x", "80", "-y", "50", "-c", str(tmp_path), shell)
    yield screen
    screen.run("kill-server")


def test_copier_asks_and_answers_in_spanish(screen: Screen) -> None:
    screen.wait_for("The language of the questions, the README and the commands.")
    screen.wait_for("El idioma de las preguntas, del README y de los comandos.")
    screen.wait_for("Español")
    screen.run("send-keys", "Down", "Enter")

    asked = [name for name in OTHERS if name not in {"sso_audience", "sso_client_id"}]
    asked.remove("sso_client_secret")
    for name in asked:
        for line in shown(QUESTIONS[name]["help"], "es").splitlines():
            screen.wait_for(line)
        for choice in names_of_choices(name):
            screen.wait_for(shown(choice, "es"))
        if name == "project_name":
            screen.wait_for("Mi servicio")
            screen.type(" ")
            screen.wait_for("Validation error for question 'project_name': Quita los espacios")
            screen.type("Señales")
        elif name == "project_slug":
            screen.wait_for("senales")
            screen.run("send-keys", "Enter")
        elif name == "database_url":
            screen.type("postgresql://a@c/d")
        else:
            screen.run("send-keys", "Enter")

    screen.wait_for("Señales está listo.")
    screen.wait_for("pon la contraseña de la base de datos en DATABASE_URL, en .env.")
    readme = (screen.folder / "new" / "README.md").read_text("utf-8")
    assert readme.startswith("# Señales\n\nUn servicio interno.\n")
    assert "\n## Dónde está cada cosa\n" in readme


@pytest.mark.parametrize("answers", [{"project_name": "Shop"}, EVERYTHING], ids=["few", "all"])
def test_only_what_people_read_depends_on_the_language(
    projects: Projects, answers: Answers
) -> None:
    answers = {"description": "Sells.", "project_slug": "shop"} | answers
    english = tree(projects.rendered(answers))
    spanish = tree(projects.rendered(answers | {"language": "es"}))
    changed = {path for path in english.keys() | spanish if english.get(path) != spanish.get(path)}
    assert changed - {CATALOGUE} == TRANSLATED | {".copier-answers.yml"}
    assert CATALOGUE not in english


def test_a_spanish_project_alone_gets_the_catalogue_of_the_tools() -> None:
    template = template_in(REPOSITORY)
    answers = dict(template.default_answers)
    assert template.copied(CATALOGUE, answers | {"language": "es"})
    assert not template.copied(CATALOGUE, answers)
    # A project of an older release has no such answer.
    del answers["language"]
    assert not template.copied(CATALOGUE, answers)


def in_both(projects: Projects, path: str, answers: Answers) -> tuple[str, str]:
    """Return a file of two projects that differ in their language alone."""
    answers = {"project_name": "Shop", "description": "Sells.", "project_slug": "shop"} | answers
    english, spanish = (
        (projects.rendered(answers | {"language": it}) / path).read_text("utf-8")
        for it in ("en", "es")
    )
    return english, spanish


@pytest.mark.parametrize("deploy", DEPLOYMENTS)
class TestReadme:
    @pytest.fixture
    def readmes(self, projects: Projects, deploy: str) -> tuple[str, str]:
        """The README in English and in Spanish."""
        return in_both(projects, "README.md", {"deploy": deploy})

    @pytest.mark.parametrize(
        ("what", "pattern"),
        [
            ("the levels of the headings", r"(?m)^(#+) "),
            ("the blocks of commands", r"(?ms)^```.*?^```$"),
            ("the first columns of the tables", r"(?m)^\| (.*?) \|"),
            ("the addresses of the links", r"\]\((.*?)\)|<(http.*?)>"),
        ],
    )
    def test_it_has_the_same_structure(
        self, readmes: tuple[str, str], what: str, pattern: str
    ) -> None:
        english, spanish = (
            # The one heading of a column that is a word.
            [it for it in re.findall(pattern, text) if it not in {"Command", "Comando"}]
            for text in readmes
        )
        assert english, what
        assert spanish == english, what

    def test_it_names_the_same_files_commands_and_options(self, readmes: tuple[str, str]) -> None:
        english, spanish = (sorted(re.findall(r"`([^`\n]+)`", text)) for text in readmes)
        assert spanish == english

    def test_each_line_of_prose_is_in_spanish(self, readmes: tuple[str, str]) -> None:
        english, spanish = (re.sub(r"(?ms)^```.*?^```$", "", text) for text in readmes)
        pairs = [*zip_longest(english.splitlines(), spanish.splitlines())]
        # The name and the description are the answers.
        same = [en for en, es in pairs[3:] if en == es and re.search(r"\w", en or "")]
        assert same == []


SETTING = re.compile(r"(?:# )?[A-Z][A-Z_]+=")


@pytest.mark.parametrize("path", [".env", ".env.example"])
@pytest.mark.parametrize("answers", [{}, EVERYTHING], ids=["few", "all"])
def test_the_settings_are_the_same_and_their_comments_are_in_spanish(
    projects: Projects, path: str, answers: Answers
) -> None:
    english, spanish = (it.splitlines() for it in in_both(projects, path, answers))
    assert len(english) == len(spanish)
    for en, es in zip(english, spanish, strict=True):
        if SETTING.match(en) or not en:
            assert es == en
        elif en == es:
            # An address of the documentation, and the place below which the team writes.
            assert re.fullmatch(r"# (\S+/docs/\S+|--- yours ---)", en)
        else:
            assert en.startswith("# ")
            assert es.startswith("# ")
            assert len(es) <= 100


type Table = dict[str, object]


def prose(table: Table, at: str = "") -> Iterator[tuple[str, str]]:
    """Take the texts for people out of the tables of a file, and yield each with its place."""
    for key, value in [*table.items()]:
        place = f"{at}.{key}"
        if key in {"help", "heading"}:
            yield place, cast("str", table.pop(key))
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                yield from prose(inner, place)


class TestTheMenu:
    def test_the_tasks_are_the_same_and_each_says_in_spanish_what_it_does(
        self, projects: Projects
    ) -> None:
        english, spanish = map(
            tomllib.loads, in_both(projects, "template_tools/tasks.toml", SPANISH)
        )
        said, dicho = dict(prose(english)), dict(prose(spanish))
        assert english == spanish
        assert len(said) > 20
        assert dicho.keys() == said.keys()
        assert [place for place in said if said[place] == dicho[place]] == []

    def test_it_fits_a_terminal_of_80_columns(
        self, make_project: Callable[[Answers], Project]
    ) -> None:
        project = make_project(SPANISH)
        tasks = (project.folder / "template_tools/tasks.toml").read_text("utf-8")
        texts = dict(prose(tomllib.loads(tasks)))
        with terminal(*project.uv_run("poe"), cwd=project.folder, env=project.env) as poe:
            menu = STYLE.sub("", poe.read_to_end()).partition("Configured tasks:")[2]
        assert [line for line in menu.splitlines() if len(line) > 80] == []
        # What is too long for a line would go on on another.
        assert [text for text in texts.values() if text not in menu] == []


class TestUpdates:
    """What an update makes of projects of either language."""

    @pytest.fixture
    def committed(self, make_project: Callable[[Answers], Project]) -> Callable[[Answers], Project]:
        """Make a project, and commit it as a team does."""

        def committed(answers: Answers) -> Project:
            project = make_project(answers)
            succeed("git", "init", "--quiet", "--initial-branch=main", cwd=project.folder)
            commit(project.folder, "Start from the template")
            return project

        return committed

    def test_a_project_of_before_the_question_stays_english(
        self, committed: Callable[[Answers], Project]
    ) -> None:
        folder = committed({}).folder
        before, recorded = tree(folder), recorded_answers(folder)
        answers = folder / ".copier-answers.yml"
        answers.write_text(answers.read_text("utf-8").replace("language: en\n", ""), "utf-8")
        commit(folder, "Know nothing of a language")
        update(folder, RELEASE)
        assert conflicts(folder) == []
        assert recorded_answers(folder) == recorded
        assert tree(folder) == before

    def test_a_spanish_project_stays_as_it_is(
        self, committed: Callable[[Answers], Project]
    ) -> None:
        folder = committed(SPANISH).folder
        before = tree(folder)
        update(folder, RELEASE)
        assert conflicts(folder) == []
        assert tree(folder) == before

    @pytest.mark.parametrize(("before", "after"), [("en", "es"), ("es", "en")])
    def test_another_language_reaches_all_but_what_is_the_team_s(
        self,
        committed: Callable[[Answers], Project],
        projects: Projects,
        before: str,
        after: str,
    ) -> None:
        folder = committed({"language": before}).folder
        started, recorded = tree(folder), recorded_answers(folder)
        own = "# --- yours ---\nOUR_REGION=eu\n"
        example = folder / ".env.example"
        example.write_text(f"{example.read_text('utf-8').removesuffix(own[:16])}{own}", "utf-8")
        commit(folder, "Set the region")

        update(folder, RELEASE, {"language": after})

        assert conflicts(folder) == []
        new = tree(projects.rendered(recorded | {"language": after}))
        assert example.read_text("utf-8").endswith(own)
        example.write_text(example.read_text("utf-8").removesuffix("OUR_REGION=eu\n"), "utf-8")
        assert_like_new(folder, started, new, unanswered=frozenset({CATALOGUE}))
        for path in ("README.md", ".env"):
            assert (folder / path).read_bytes() == started[path] != new[path]
