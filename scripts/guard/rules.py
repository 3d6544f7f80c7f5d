"""What a rule is: a function that finds places, and a sentence that says what to do there."""

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from scripts.guard.template import Template

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class Kind(StrEnum):
    """What a change means to the projects that exist."""

    SAFE = "safe"
    LOOK = "look"
    CHANGELOG = "changelog"
    FORBIDDEN = "forbidden"


@dataclass(frozen=True)
class Change:
    """What would be released: the last release, the next one, and every one before.

    Projects update from any release directly to the newest; ``past`` holds all of them, ``old``
    included. Without a release, ``old`` is ``new``, and only what is wrong in itself is found.
    """

    old: Template
    new: Template
    past: tuple[Template, ...]

    @property
    def added(self) -> list[str]:
        """The paths that the next release has and the last one had not."""
        return sorted(self.new.files.keys() - self.old.files.keys())

    @property
    def edited(self) -> list[str]:
        """The paths of the files whose content differs."""
        both = self.new.files.keys() & self.old.files.keys()
        return sorted(path for path in both if self.old.files[path] != self.new.files[path])

    @property
    def gone(self) -> list[str]:
        """The paths that some release had and the next one has not."""
        ever = {path for template in self.past for path in template.files}
        return sorted(ever - self.new.files.keys())

    def says_the_same(self, path: str) -> bool:
        """Tell whether an edit of a Python file touched only comments, docstrings and layout."""
        trees = self.old.module(path), self.new.module(path)
        return all(trees) and _code(trees[0]) == _code(trees[1])


@dataclass(frozen=True)
class Place:
    """Where a rule applies: a path or a question, and the detail that its sentence names."""

    where: str
    what: str = ""


@dataclass(frozen=True)
class Finding:
    """A rule at a place. The changelog must say ``must_say``, if anything."""

    where: str
    kind: Kind
    why: str
    must_say: str = ""


type Find = Callable[[Change], Iterator[Place]]


@dataclass(frozen=True)
class Rule:
    """A function that finds places; ``{what}`` in the sentence is the place's detail."""

    kind: Kind
    sentence: str
    must_say: str
    find: Find

    def apply(self, change: Change) -> list[Finding]:
        """Return the rule's findings in a change."""
        return [
            Finding(
                place.where,
                self.kind,
                self.sentence.replace("{what}", place.what),
                self.must_say.replace("{what}", place.what),
            )
            for place in self.find(change)
        ]


def rule(kind: Kind, sentence: str, *, must_say: str = "") -> Callable[[Find], Rule]:
    """Make a rule of a function that finds places.

    Args:
        kind: What the change means.
        sentence: Why, and for a forbidden change how to do it right.
        must_say: What the changelog must contain, in any case of letters; for
            ``Kind.CHANGELOG`` it needs an entry in any case.
    """
    return lambda find: Rule(kind, sentence, must_say, find)


def _code(tree: ast.Module | None) -> str:
    assert tree is not None  # noqa: S101 - the caller has looked
    tree = copy.deepcopy(tree)
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body[:1] = []
    return ast.dump(tree)
