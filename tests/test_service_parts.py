"""The template's own parts, tested in rendered projects over which tests/service is laid.

The classes share the work: pytest-xdist gives each to a worker.
"""

from collections.abc import Callable

import pytest

from scripts.service_tests import ANSWERS, TYPES, lay_over
from tests.answers import Answers
from tests.projects import Project, output

type MakeProject = Callable[[Answers], Project]

pytestmark = pytest.mark.takes_minutes


def laid_over(make_project: MakeProject, answers: Answers) -> Project:
    """Make a project with the tests in it."""
    project = make_project(answers)
    lay_over(project.folder)
    return project


def assert_tests_pass(project: Project, *words: str) -> None:
    """Run some of the tests in a project."""
    done = project.tool("python", "-m", "pytest", "--quiet", *words)
    assert done.returncode == 0, output(done)


class TestTokens:
    def test_where_the_provider_is_asked(self, make_project: MakeProject) -> None:
        project = laid_over(make_project, ANSWERS)
        covered = ("--cov=app/utils/sso", "--cov-fail-under=95")
        assert_tests_pass(project, "tests/service/sso", *covered)


class TestTokensOtherwise:
    @pytest.mark.parametrize("mode", ["jwt", "both"])
    def test_where_the_signature_is_checked(self, make_project: MakeProject, mode: str) -> None:
        project = laid_over(make_project, ANSWERS | {"sso_mode": mode})
        everywhere = ("test_main.py", "core/test_settings.py", "sso/test_cases.py")
        assert_tests_pass(project, *(f"tests/service/{path}" for path in everywhere))


class TestTheRest:
    def test_everything_but_tokens(self, make_project: MakeProject) -> None:
        project = laid_over(make_project, ANSWERS)
        # A server of its own runs them, as a process that is not measured.
        core = ("http_protocol", "draining", "telemetry_export")
        omitted = [*(f"app/core/{name}.py" for name in core), "app/database/metrics.py"]
        configuration = project.folder / "coverage.ini"
        configuration.write_text(f"[run]\nbranch = true\nomit = {', '.join(omitted)}\n")
        measured = ("--cov=app/core", "--cov=app/database", f"--cov-config={configuration}")
        covered = (*measured, "--cov-fail-under=95")
        assert_tests_pass(project, "tests/service", "--ignore=tests/service/sso", *covered)

    def test_their_types_are_right(self, make_project: MakeProject) -> None:
        done = laid_over(make_project, ANSWERS).tool(*TYPES)
        assert done.returncode == 0, output(done)
