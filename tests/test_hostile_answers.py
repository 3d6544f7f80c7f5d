"""Whatever is answered is refused with a sentence, or arrives exactly and harms nothing.

Hypothesis makes 100 sets of answers in each run, and other ones in the next; what fails is printed
with the line that repeats it. ``pytest --hypothesis-profile thorough`` makes 5,000,
and looks for the smallest set that fails.

Most tests here render the files that hold answers, whose names end with .jinja. That no other
file depends on an answer is a test of its own.
"""

import ast
import configparser
import io
import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from dotenv import dotenv_values
from hypothesis import Phase, given, settings, target

from tests.answers import ANSWER_SETS, DEFAULTS, NOTHING, Answers
from tests.hostile import CANARY, acceptable_sets, answer_sets, choices
from tests.projects import TEMPLATE, Project, Projects, output, render, tracked_files, tree
from tests.test_copier_yml import IMPERATIVES, QUESTIONS

# The settings that answers become.
VARIABLES = {
    "database_url": "DATABASE_URL",
    "sso_issuer": "SSO_ISSUER",
    "sso_audience": "SSO_AUDIENCE",
    "sso_client_id": "CLIENT_ID",
    "sso_client_secret": "CLIENT_SECRET",
}
SECRETS = {name for name in QUESTIONS if QUESTIONS[name].get("secret")}
# But a line feed.
CONTROL_CHARACTER = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")
INSTRUCTION = re.compile(r"(FROM|ARG|RUN|WORKDIR|ENV|COPY|USER|EXPOSE|ENTRYPOINT|CMD) \S.*")

# Reads names of folders, and answers each with what the service makes of the .env there. What is
# not in that file is set, as a deployment would.
READ_SETTINGS = """
import json, os, sys
import httpx2
from dotenv import dotenv_values
from app.core.settings import CoreSettings, load_settings
from app.utils.sso.resource_server.discovery import metadata_urls

elsewhere = {
    "DATABASE_URL": "postgresql://localhost/app",
    "SSO_ISSUER": "https://sso.example.com",
    "CLIENT_SECRET": "unset",
}
for line in sys.stdin:
    os.chdir(line.rstrip())
    for name in elsewhere:
        os.environ.pop(name, None)
    os.environ |= {k: v for k, v in elsewhere.items() if k not in dotenv_values(".env")}
    try:
        settings = load_settings(CoreSettings)
        for url in metadata_urls(settings.sso_issuer):
            httpx2.Request("GET", url)
        reply = {name: getattr(settings, name) for name in ("sso_issuer", "sso_audience")}
        reply |= {"sso_client_id": settings.client_id}
        reply |= {"sso_client_secret": settings.client_secret.get_secret_value()}
    except SystemExit as refusal:
        reply = {"refusal": str(refusal)}
    except Exception as error:
        reply = {"error": repr(error)}
    print(json.dumps(reply), flush=True)
"""


@dataclass
class Service:
    """A process that reads settings as the service does when it starts."""

    process: subprocess.Popen[str]

    def settings(self, folder: Path) -> dict[str, str]:
        """Return the settings in a folder, or a ``refusal``, or an ``error``."""
        assert self.process.stdin
        assert self.process.stdout
        print(folder, file=self.process.stdin, flush=True)
        reply: dict[str, str] = json.loads(self.process.stdout.readline())
        return reply


@pytest.fixture(scope="module")
def service(projects: Projects) -> Iterator[Service]:
    """A process that reads settings, with the environment that the projects share."""
    environment = projects.environment() | {
        "PYTHONPATH": str(projects.rendered(DEFAULTS)),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    python = Path(environment["UV_PROJECT_ENVIRONMENT"]) / "bin" / "python"
    with subprocess.Popen(
        [python, "-c", READ_SETTINGS],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        yield Service(process)
        assert process.stdin
        process.stdin.close()


@dataclass
class Form:
    """The files of the template that hold answers, to be filled in again and again."""

    template: Path
    folder: Path

    def fill(self, answers: Answers) -> str | None:
        """Render, and return what a refusal says, or None."""
        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            render(self.template, self.folder, answers, release=None)
        except ValueError as refusal:
            assert not self.folder.exists()
            return str(refusal)
        return None


@pytest.fixture(scope="module")
def form(tmp_path_factory: pytest.TempPathFactory) -> Form:
    """The files of the template that hold answers."""
    folder = tmp_path_factory.mktemp("form")
    shutil.copy(TEMPLATE.parent / "copier.yml", folder)
    for path in tracked_files(TEMPLATE):
        if path.suffix == ".jinja":
            (folder / "template" / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TEMPLATE / path, folder / "template" / path)
    return Form(folder, folder / "project")


def refused_question(refusal: str) -> str:
    """Return the question of a refusal, whose words stand on a line of a terminal."""
    assert refusal.isprintable(), ascii(refusal)
    assert CANARY not in refusal
    found = re.fullmatch(
        r"(?:Validation error|Invalid choice) for (?:question )?'(\w+)': (.*)", refusal
    )
    assert found, refusal
    question, sentence = found.groups()
    if choices(question):
        assert sentence.endswith(f" is not in {choices(question)}")
    else:
        assert any(re.match(it, sentence) for it in IMPERATIVES.values())
        assert len(sentence) <= 160
    return question


def assert_readable(folder: Path) -> None:
    """Check that every file can be read by what reads files of its kind."""
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        text = path.read_bytes().decode("utf-8")
        assert not CONTROL_CHARACTER.search(text), path
        match path.suffix or path.name:
            case ".toml":
                tomllib.loads(text)
            case ".yml" | ".yaml":
                assert isinstance(yaml.safe_load(text), dict), path
            case ".json":
                json.loads(text)
            case ".ini":
                configparser.ConfigParser({"here": "."}).read_string(text)
            case ".py":
                ast.parse(text)
            case ".env" | ".example":
                lines = [line for line in text.split("\n") if line and line[0] != "#"]
                assert len(dotenv_values(path)) == len(lines), path
            case "Dockerfile":
                lines = [line for line in text.split("\n") if line and line[0] != "#"]
                assert all(INSTRUCTION.fullmatch(line) for line in lines), path


def assert_arrived(folder: Path, given: Answers) -> Answers:
    """Check that every answer stands exactly where it belongs, and return all answers."""
    recorded = yaml.safe_load((folder / ".copier-answers.yml").read_text("utf-8"))
    assert {name for name in recorded if name[0] != "_"} == set(QUESTIONS) - SECRETS
    assert {name: recorded[name] for name in given if name not in SECRETS} == {
        name: given[name] for name in given if name not in SECRETS
    }
    answers: Answers = dict.fromkeys(SECRETS, "") | recorded | given

    pyproject = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))
    assert pyproject["tool"]["service"]["title"] == answers["project_name"]
    assert pyproject["project"]["name"] == answers["project_slug"]
    assert pyproject["project"]["description"] == answers["description"]
    assert pyproject["project"]["requires-python"] == f">={answers['python_version']}"
    readme = (folder / "README.md").read_text("utf-8").split("\n")
    assert readme[:3] == [f"# {answers['project_name']}", "", answers["description"]]
    assert (folder / ".python-version").read_text() == f"{answers['python_version']}\n"
    assert (folder / "Dockerfile").exists() == (answers["deploy"] != "none")
    if answers["deploy"] != "none":
        dockerfile = (folder / "Dockerfile").read_text()
        assert dockerfile.startswith("# syntax=docker/dockerfile:1\n")
        assert re.findall(r"^FROM python:(\S+)-slim", dockerfile, re.MULTILINE) == (
            [answers["python_version"]] * 2
        )
    assert dotenv_values(folder / ".env") == {"ENVIRONMENT": "development"} | {
        variable: answers[name] for name, variable in VARIABLES.items() if answers[name]
    }
    return answers


def assert_example_can_be_used(folder: Path, answers: Answers) -> None:
    """Check that who takes the # from a line of .env.example gets the answer exactly."""
    text = (folder / ".env.example").read_text("utf-8")
    uncommented = re.sub(r"^# (?=(SSO_AUDIENCE|CLIENT_ID)=)", "", text, flags=re.MULTILINE)
    values = dotenv_values(stream=io.StringIO(uncommented))
    assert values["SSO_AUDIENCE"] == answers["sso_audience"]
    assert values["CLIENT_ID"] == answers["sso_client_id"]


@given(answer_sets())
def test_every_answer_is_refused_with_a_sentence_or_arrives_exactly(
    form: Form, service: Service, drawn: tuple[Answers, set[str]]
) -> None:
    answers, good = drawn
    while (refusal := form.fill(answers)) is not None:
        question = refused_question(refusal)
        assert question not in good, f"{refusal}: {answers[question]!a}"
        # The others are heard too.
        del answers[question]

    assert_readable(form.folder)
    everything = assert_arrived(form.folder, answers)
    assert_example_can_be_used(form.folder, everything)
    for path, text in tree(form.folder).items():
        assert path == ".env" or CANARY.encode() not in text, path

    read = service.settings(form.folder)
    assert "error" not in read
    if "refusal" in read:
        # A number, such as a port, can be wrong in ways that only the service knows.
        assert CANARY not in read["refusal"]
        said = read["refusal"]
        named = {question for question, name in VARIABLES.items() if f"  {name} " in said}
        assert named
        assert named <= set(answers) - good, said
    else:
        assert read == {name: everything[name] or read[name] for name in read}


def test_no_file_depends_on_an_answer_but_those_that_end_with_jinja(projects: Projects) -> None:
    # So what is true of the others, which are all the Python files, is true for each answer.
    plain = [path for path in tracked_files(TEMPLATE) if path.suffix != ".jinja"]
    assert [path for path in plain if path.suffix == ".py"]
    for answers in ANSWER_SETS.values():
        for path, text in tree(projects.rendered(answers)).items():
            if Path(path) in plain:
                assert text == (TEMPLATE / path).read_bytes(), path
            else:
                assert (TEMPLATE / f"{path}.jinja").is_file(), path


@pytest.mark.parametrize("answers", ANSWER_SETS)
def test_every_file_of_a_whole_project_can_be_read(projects: Projects, answers: str) -> None:
    assert_readable(projects.rendered(ANSWER_SETS[answers]))
    assert_arrived(projects.rendered(ANSWER_SETS[answers]), ANSWER_SETS[answers])


def nastiness(answers: Answers) -> int:
    """Count what is neither a letter nor a digit, each kind once in each answer."""
    return sum(len({it for it in answer if not it.isalnum()}) for answer in answers.values())


def nastiest() -> list[Answers]:
    """Return the three worst of many sets that are accepted; Hypothesis climbs towards them."""
    found: list[Answers] = []

    @settings(max_examples=100, phases=[Phase.generate, Phase.target])
    @given(acceptable_sets())
    def climb(answers: Answers) -> None:
        target(float(nastiness(answers)))
        found.append(answers | {"python_version": "3.13"})

    climb()
    return sorted(found, key=nastiness)[-3:]


def test_the_projects_of_the_worst_answers_pass_their_own_checks(
    make_project: Callable[[Answers], Project],
) -> None:
    for answers in [*nastiest(), NOTHING]:
        project = make_project(answers)
        done = project.poe("check")
        assert done.returncode == 0, f"{answers!a}\n{output(done)}"
