"""What every test stands on: a machine without settings of its own, and a tagged template."""

import os
import shutil
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.answers import DEFAULTS, Answers
from tests.processes import end_processes_of
from tests.projects import REPOSITORY, Project, Projects, clone_work_tree, locked

pytest_plugins = [
    "tests.database.report",
    "tests.identity_providers.report",
    "tests.updates.report",
]

# Each run makes other examples, and like every machine it knows no earlier ones. A failure is
# shown at once, because the search for a smaller one takes minutes.
settings.register_profile(
    "template",
    max_examples=100,
    deadline=None,
    database=None,
    derandomize=False,
    print_blob=True,
    phases=[Phase.explicit, Phase.generate, Phase.target],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile(
    "thorough", settings.get_profile("template"), max_examples=5000, phases=list(Phase)
)
settings.load_profile("template")


@pytest.fixture(scope="session", autouse=True)
def isolated_machine(shared_folder: Path) -> Iterator[None]:
    """Hide the settings of git, Copier and uv that the user of this machine has."""
    settings = shared_folder / "copier-settings.yml"
    # An empty file would be null, which Copier refuses.
    settings.write_text("{}\n")
    uv_settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["tool"]["uv"]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "COPIER_SETTINGS_PATH": str(settings),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
            # A container may run the tests as another user than the one who cloned.
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "GIT_AUTHOR_NAME": "Template Tests",
            "GIT_AUTHOR_EMAIL": "tests@example.com",
            "GIT_COMMITTER_NAME": "Template Tests",
            "GIT_COMMITTER_EMAIL": "tests@example.com",
            "UV_EXCLUDE_NEWER": uv_settings["exclude-newer"],
            "UV_PYTHON_DOWNLOADS": "never",
        }.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def template(shared_folder: Path) -> Path:
    """A git clone of the template with its uncommitted changes, tagged as a release."""
    clone = shared_folder / "template"
    with locked(shared_folder / "template.lock"):
        if not clone.exists():
            draft = clone.with_suffix(".draft")
            draft.mkdir()
            clone_work_tree(draft)
            draft.rename(clone)
    return clone


@pytest.fixture(scope="session")
def projects(template: Path, shared_folder: Path) -> Projects:
    """The rendered projects."""
    return Projects(template, shared_folder)


@pytest.fixture(scope="session")
def make_project(
    projects: Projects, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Answers], Project]]:
    """Copy rendered projects; at the end nothing that they started or stored is left."""
    made: list[Project] = []

    def make(answers: Answers) -> Project:
        target = tmp_path_factory.mktemp("project") / "service"
        made.append(projects.copy(answers, target))
        return made[-1]

    yield make
    for project in made:
        databases = project.database_folder()
        end_processes_of(project.folder, databases)
        shutil.rmtree(databases, ignore_errors=True)


@pytest.fixture(scope="module")
def project(make_project: Callable[[Answers], Project]) -> Project:
    """A project with the default answers, for the tests of one module."""
    return make_project(DEFAULTS)


def pytest_configure(config: pytest.Config) -> None:
    """Announce the markers."""
    config.addinivalue_line(
        "markers", "identity_provider: runs a real provider, which it installs from a registry"
    )
    config.addinivalue_line("markers", "takes_minutes: begins before the others")
    config.addinivalue_line("markers", "long: takes too long for every run; --long runs it")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes minutes; at the end, one worker would do it and the other nothing."""
    items.sort(key=lambda item: item.get_closest_marker("takes_minutes") is None)
    for item in items:
        if item.get_closest_marker("long") and not item.config.getoption("--long"):
            item.add_marker(pytest.mark.skip(reason="It is long: --long runs it."))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that write the tables of the documentation, and that for long tests."""
    parser.addoption("--long", action="store_true", help="run the long forms of tests too")
    parser.addoption(
        "--write-update-table",
        action="store_true",
        help="write the table of updates into docs/update.md",
    )
    parser.addoption(
        "--write-provider-table",
        action="store_true",
        help="write the table of identity providers into docs/sso.md",
    )
