"""What a rule is: a function that finds places, and a sentence that says what to do there."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from scripts.guard.template import Template


class Kind(StrEnum):
    """What a change asks of whoever makes it."""

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
    def edited(self) -> list[str]:
        """The paths of the files whose content differs."""
        both = self.new.files.keys() & self.old.files.keys()
        return sorted(path for path in both if self.old.files[path] != self.new.files[path])

    @property
    def gone(self) -> list[str]:
        """The paths that some release had and the next one has not."""
        ever = {path for template in self.past for path in template.files}
        return sorted(ever - self.new.files.keys())

    def last_with(self, path: str) -> Template:
        """Return the newest release that had a file."""
        return next(template for template in reversed(self.past) if path in template.files)

    def changelog_since(self, release: Template) -> str:
        """Return what the changelog says of everything newer than a release."""
        return self.new.changelog.partition(f"\n## [{release.version}]")[0]


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


def forbidden(sentence: str) -> Callable[[Find], Rule]:
    """Make a rule of a function that finds what must not be; the sentence says how to do it."""
    return lambda find: Rule(Kind.FORBIDDEN, sentence, "", find)


def told(sentence: str, must_say: str) -> Callable[[Find], Rule]:
    """Make a rule of a function that finds what the changelog must name, in any case of letters."""
    return lambda find: Rule(Kind.CHANGELOG, sentence, must_say, find)
