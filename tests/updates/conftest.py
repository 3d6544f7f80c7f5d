"""The history of the template, projects that begin at any point of it, and a database server."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.releases import Release
from tests.answers import DEFAULTS, Answers
from tests.projects import Project, Projects, locked
from tests.updates.releases import build_history, find_releases
from tests.updates.updating import Lives, Server, running_server


@pytest.fixture(scope="session")
def releases() -> list[Release]:
    """The releases that the history of this clone tells of."""
    return find_releases()


@pytest.fixture(scope="session")
def history(shared_folder: Path, releases: list[Release]) -> Path:
    """A clone of the template with each release as a tag, the work tree, and what may follow."""
    clone = shared_folder / "history"
    with locked(shared_folder / "history.lock"):
        if not clone.exists():
            draft = clone.with_suffix(".draft")
            build_history(draft, releases)
            draft.rename(clone)
    return clone


@pytest.fixture(scope="session")
def lives(history: Path, shared_folder: Path, projects: Projects) -> Lives:
    """Projects of any release."""
    return Lives(history, shared_folder, projects)


@pytest.fixture(scope="session")
def server(make_project: Callable[[Answers], Project]) -> Iterator[Server]:
    """A PostgreSQL server for all projects that one worker looks at."""
    with running_server(make_project(DEFAULTS)) as server:
        yield server
