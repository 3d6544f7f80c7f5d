"""Whatever is answered, the project is whole, and passes its own checks and tests.

Every two answers meet in one of the projects here: each choice, and for each text its default and
one awkward value. A new question joins by itself.
"""

from collections.abc import Callable
from itertools import product

import pytest
from jinja2 import Environment

from tests.answers import EVERYTHING, Answers
from tests.hostile import choices
from tests.pairwise import Value, all_pairs, pairs_in, pairwise
from tests.projects import TEMPLATE, Project, Projects, output, run, tracked_files, uv
from tests.test_copier_yml import DOCUMENT, QUESTIONS

# The one that the tests themselves, and the environment that the projects share, run on.
SHARED_PYTHON = "3.13"


def worth_trying(question: str) -> list[Value]:
    """Return each choice; or, for a text, None for its default, and an awkward value."""
    return [*choices(question)] or [None, EVERYTHING.get(question)]


VALUES = {question: worth_trying(question) for question in QUESTIONS}
COMBINATIONS: list[Answers] = [
    {question: value for question, value in combination.items() if value is not None}
    for combination in pairwise(VALUES)
]


def describe(answers: Answers) -> str:
    """Return a short name for a test's report, such as 3.14-gitlab-4."""
    chosen = [answers[question] for question in QUESTIONS if choices(question)]
    return "-".join([*chosen, str(COMBINATIONS.index(answers) + 1)])


ON_SHARED_PYTHON = [it for it in COMBINATIONS if it["python_version"] == SHARED_PYTHON]
ON_OTHER_PYTHONS = [it for it in COMBINATIONS if it["python_version"] != SHARED_PYTHON]


class TestTheCombinations:
    @pytest.mark.parametrize(
        "values",
        [
            VALUES,
            VALUES | {"another_choice": ["a", "b", "c", "d"]},
            {f"text_{number}": [None, "x"] for number in range(20)},
            {"one": ["a", "b", "c"], "other": ["d", "e"]},
            {"one": ["only"], "other": ["d", "e"]},
        ],
    )
    def test_every_two_values_meet(self, values: dict[str, list[Value]]) -> None:
        found = pairwise(values)
        assert {pair for it in found for pair in pairs_in(it)} == set(all_pairs(values))

    def test_they_are_far_fewer_than_all(self) -> None:
        largest, second = sorted((len(values) for values in VALUES.values()), reverse=True)[:2]
        assert len(COMBINATIONS) <= 2 * largest * second
        assert len(COMBINATIONS) < len(list(product(*VALUES.values()))) / 50

    def test_each_text_has_an_awkward_value(self) -> None:
        missing = [question for question in QUESTIONS if None in VALUES[question][1:]]
        assert missing == [], "add an awkward value to EVERYTHING in tests/answers.py"

    def test_each_choice_is_among_them(self) -> None:
        for question in QUESTIONS:
            for choice in choices(question):
                assert [it for it in COMBINATIONS if it[question] == choice]


def left_out(answers: Answers) -> tuple[str, ...]:
    """Return the paths that some answers leave out, as _exclude in copier.yml says."""
    known = {"_copier_operation": "copy"} | answers
    conditions = [line for line in DOCUMENT["_exclude"] if "{%" in line]
    rendered = [Environment(autoescape=True).from_string(it).render(known) for it in conditions]
    return tuple(path.removeprefix("/") for path in rendered if path)


@pytest.mark.parametrize("answers", COMBINATIONS, ids=describe)
def test_it_consists_of_the_files_of_the_template_but_for_what_the_answers_leave_out(
    projects: Projects, answers: Answers
) -> None:
    names = {path.as_posix().removesuffix(".jinja") for path in tracked_files(TEMPLATE)}
    # The name that stands for the modules that have moved, of which a new project gets none.
    names = {name for name in names if "{" not in name}
    expected = {name for name in names if not name.startswith(left_out(answers))}
    folder = projects.rendered(answers)
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    assert {path.relative_to(folder).as_posix() for path in files} == expected
    assert [path for path in files if path.is_symlink() or path.stat().st_mode & 0o111] == []


def test_what_some_answers_leave_out_stands_in_another_project() -> None:
    for path in {path for answers in COMBINATIONS for path in left_out(answers)}:
        assert [answers for answers in COMBINATIONS if path not in left_out(answers)], path


@pytest.fixture(scope="session")
def each_project(make_project: Callable[[Answers], Project]) -> Callable[[Answers], Project]:
    """Make one project for each combination."""
    made: dict[str, Project] = {}

    def get(answers: Answers) -> Project:
        name = describe(answers)
        if name not in made:
            made[name] = make_project(answers)
        return made[name]

    return get


@pytest.mark.takes_minutes
@pytest.mark.parametrize("answers", ON_SHARED_PYTHON, ids=describe)
class TestOnTheSharedPython:
    def test_it_passes_its_own_checks(
        self, each_project: Callable[[Answers], Project], answers: Answers
    ) -> None:
        done = each_project(answers).poe("check")
        assert done.returncode == 0, output(done)

    def test_it_passes_its_own_tests_on_postgresql(
        self, each_project: Callable[[Answers], Project], answers: Answers
    ) -> None:
        done = each_project(answers).poe("test", "--quiet")
        assert done.returncode == 0, output(done)


@pytest.mark.takes_minutes
@pytest.mark.parametrize("answers", ON_OTHER_PYTHONS, ids=describe)
class TestOnAnotherPython:
    def test_it_is_formatted_linted_and_typed(
        self, each_project: Callable[[Answers], Project], answers: Answers
    ) -> None:
        project = each_project(answers)
        for command in (
            ["ruff", "format", "--check", "."],
            ["ruff", "check", "."],
            ["mypy", "--python-version", answers["python_version"]],
            ["lint-imports", "--no-logo"],
        ):
            done = project.tool(*command)
            assert done.returncode == 0, output(done)

    def test_it_passes_its_own_tests_on_postgresql(
        self,
        each_project: Callable[[Answers], Project],
        answers: Answers,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> None:
        version = answers["python_version"]
        environment = tmp_path_factory.getbasetemp() / f"venv-{version}"
        project = each_project(answers).with_own_environment(environment)
        found = run(*uv(), "python", "find", version, cwd=project.folder, env=project.env)
        if found.returncode != 0:
            pytest.skip(f"this machine has no Python {version}")
        done = project.poe("test", "--quiet")
        assert done.returncode == 0, output(done)
