"""Every file has one owner, and the page that says so agrees with copier.yml."""

import re
from pathlib import Path

import pytest
import yaml
from pathspec import PathSpec

from tests.answers import ANSWER_SETS
from tests.projects import REPOSITORY, Projects

PAGE = (REPOSITORY / "docs" / "update.md").read_text("utf-8")
CONFIG = yaml.safe_load((REPOSITORY / "copier.yml").read_text("utf-8"))


def owners() -> dict[str, str]:
    """Return the owner of each file or folder of the page's table."""
    rows = re.findall(r"^\| (`.+?) \| ([\w ]+) \| .+ \|$", PAGE, re.MULTILINE)
    return {path: owner for paths, owner in rows for path in re.findall(r"`([^`]+)`", paths)}


def owners_of(path: str) -> list[str]:
    """Return the owner of every entry that covers a file; there should be one."""
    return [
        owner
        for entry, owner in owners().items()
        if path == entry or (entry.endswith("/") and path.startswith(entry))
    ]


@pytest.fixture(scope="module")
def files(projects: Projects) -> set[str]:
    """Every file of every answer set."""
    found: set[str] = set()
    for answers in [*ANSWER_SETS.values(), {"template_updates": "workflow"}]:
        folder = projects.rendered(answers)
        found |= {
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        }
    return found


def test_every_file_has_exactly_one_owner(files: set[str]) -> None:
    assert {path: owners_of(path) for path in files if len(owners_of(path)) != 1} == {}


def test_every_entry_of_the_page_stands_for_a_file(files: set[str]) -> None:
    unused = {
        entry
        for entry in owners()
        if not any(path == entry or path.startswith(entry) for path in files)
    }
    assert unused == set()


def test_the_team_s_files_are_those_that_copier_leaves_alone(files: set[str]) -> None:
    left_alone = PathSpec.from_lines("gitignore", CONFIG["_skip_if_exists"])
    assert {path for path in files if owners_of(path) == ["you"]} == {
        path for path in files if left_alone.match_file(path)
    }


def test_what_never_comes_back_is_what_the_page_says() -> None:
    pattern = re.compile(r"\{% if _copier_operation == 'update' %\}(.+)\{% endif %\}")
    excluded = [match[1] for line in CONFIG["_exclude"] if (match := pattern.fullmatch(line))]
    (paths,) = re.findall(r"^\| (`.+?) \| you \| nothing, whatever .+ \|$", PAGE, re.MULTILINE)
    assert sorted(excluded) == sorted(path.rstrip("/") for path in re.findall(r"`([^`]+)`", paths))
    assert set(excluded) <= set(CONFIG["_skip_if_exists"]), "or `copier recopy` overwrites them"


def test_every_shared_file_says_where_the_team_s_lines_go(projects: Projects) -> None:
    for path in [path for path, owner in owners().items() if owner == "shared"]:
        answers = {"ci": "gitlab"} if path == ".gitlab-ci.yml" else {}
        text = (projects.rendered(answers) / path).read_text("utf-8")
        assert re.search(r"# (--- yours ---|Yours\b)", text), path


def test_the_packages_say_whose_they_are(projects: Projects) -> None:
    folder = projects.rendered({})
    for package, owner in {
        "app/api": "Yours",
        "app/core": "The template's",
        "app/utils/sso": "The template's",
        "template_tools": "The template's",
    }.items():
        text = Path(folder / package / "__init__.py").read_text("utf-8")
        assert text.startswith(f'"""{owner}'), package
