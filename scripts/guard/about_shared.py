"""The rules about shared files: where the lines of teams stand, and what ours depend on."""

import re
import tomllib
from collections.abc import Iterator

import jinja2
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.guard.rules import Change, Place, forbidden, told
from scripts.guard.template import Template

_MARK = re.compile(r"\s*#.*\byours\b", re.IGNORECASE)
_PYPROJECT = "pyproject.toml"


@forbidden(
    'Teams write below the line "{what}": put it back where it was, with the same line after '
    "it, or their lines conflict with ours.",
)
def mark_moved(change: Change) -> Iterator[Place]:
    """A line that says where a team's lines go, and that is gone or stands elsewhere."""
    for path in change.edited:
        if not path.endswith(".py") and not change.new.is_seed(path):
            now = iter(_marks(change.new.text(path)))
            for mark in _marks(change.old.text(path)):
                if mark not in now:
                    yield Place(path, mark[0])
                    break


def _marks(text: str) -> list[tuple[str, str]]:
    """Return each mark, with the next line that is not empty."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return [
        (line.strip(), following)
        for line, following in zip(lines, [*lines[1:], ""], strict=True)
        if _MARK.match(line)
    ]


@forbidden(
    "Teams write below its last line, and their lines would conflict with another one: leave it, "
    "and add above it.",
)
def last_line_changed(change: Change) -> Iterator[Place]:
    """The end of pyproject.toml, which has no mark of its own."""
    ends = {it.text(_PYPROJECT).rstrip().rpartition("\n")[2] for it in (change.old, change.new)}
    if len(ends) > 1:
        yield Place(_PYPROJECT)


@forbidden(
    "`uv add` keeps a sorted list sorted, and so would write among our lines: put one of them "
    "out of order.",
)
def sorted_dependencies(change: Change) -> Iterator[Place]:
    """A list of dependencies in the order of the alphabet."""
    names = _listed(change.new)
    if len(names) > 1 and names == sorted(names):
        yield Place(_PYPROJECT)


@forbidden(
    "End the list of dependencies with a comment: `uv add` writes below it, and without it beside "
    "our last line, where an update conflicts.",
)
def dependencies_without_end(change: Change) -> Iterator[Place]:
    """A list of dependencies whose last line is no comment."""
    text = change.new.text(_PYPROJECT)
    found = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    if found and not found[1].splitlines()[-1].strip().startswith("#"):
        yield Place(_PYPROJECT)


@forbidden(
    "A later {what} has not been tested with the template, and the next one may break every "
    "project on the day it appears: write an upper bound, such as <2.",
)
def unbounded(change: Change) -> Iterator[Place]:
    """A dependency without an upper bound."""
    for name, requirement in _dependencies(change.new).items():
        if not any(s.operator in {"<", "<=", "==", "~="} for s in requirement.specifier):
            yield Place(_PYPROJECT, name)


@told("Code of teams may import {what}, which they have to `uv add` now.", must_say="{what}")
def dependency_dropped(change: Change) -> Iterator[Place]:
    """A dependency that the service or its tools no longer have."""
    for name in sorted(_dependencies(change.old).keys() - _dependencies(change.new).keys()):
        yield Place(_PYPROJECT, name)


def _listed(template: Template) -> list[str]:
    table = _pyproject(template).get("project")
    listed = table.get("dependencies", []) if isinstance(table, dict) else []
    return [str(canonicalize_name(Requirement(line).name)) for line in listed]


def _dependencies(template: Template) -> dict[str, Requirement]:
    """Return what the service and each of its groups depend on, by name."""
    document = _pyproject(template)
    project, groups = document.get("project"), document.get("dependency-groups")
    lines = project.get("dependencies", []) if isinstance(project, dict) else []
    if isinstance(groups, dict):
        lines = [*lines, *(line for group in groups.values() for line in group)]
    requirements = [Requirement(line) for line in lines if isinstance(line, str)]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def _pyproject(template: Template) -> dict[str, object]:
    """Return pyproject.toml as the default answers render it; empty if it cannot be read."""
    try:
        text = template.render(template.text(_PYPROJECT), template.default_answers)
        return tomllib.loads(text)
    except (jinja2.TemplateError, tomllib.TOMLDecodeError, TypeError):
        # The tests that render it say what is wrong with it.
        return {}
