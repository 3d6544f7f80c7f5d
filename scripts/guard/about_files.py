"""The rules about files: who gets them, who owns them, and what becomes of a team's copy."""

import difflib
from collections.abc import Iterator
from pathlib import PurePosixPath

import jinja2

from scripts.guard.about_schema import is_migration
from scripts.guard.rules import Change, Kind, Place, rule
from scripts.guard.template import Template

# Folders that the template has promised to share with nobody (docs/decisions/0001).
OUR_FOLDERS = (
    "app/core",
    "app/utils/sso",
    "devtools",
    "tests/core",
    "tests/database",
    "tests/devtools",
    "tests/utils",
)
# Shorter files are alike by chance: an empty __init__.py is no moved one.
_SHORT = 200


def _moved_to(change: Change, path: str) -> str | None:
    """Return the new file that a file has become, if one is much like it."""
    content = next(t.text(path) for t in reversed(change.past) if path in t.files)
    if len(content) < _SHORT:
        return None
    for candidate in change.added:
        # autojunk would ignore the frequent lines, which are what code is made of.
        matcher = difflib.SequenceMatcher(
            None, content.splitlines(), change.new.text(candidate).splitlines(), autojunk=False
        )
        if matcher.quick_ratio() > 0.6 and matcher.ratio() > 0.6:
            return candidate
    return None


def _in_folder_of_ours(path: str) -> bool:
    return path.startswith(tuple(f"{folder}/" for folder in OUR_FOLDERS))


@rule(
    Kind.FORBIDDEN,
    "It became {what}, and the move would drop what teams wrote into it: keep a shim at the old "
    "path that imports the new one.",
)
def moved(change: Change) -> Iterator[Place]:
    """A file that is gone, and much like one that is new."""
    for path in change.gone:
        if not change.new.released(path) and (target := _moved_to(change, path)):
            yield Place(path, target)


@rule(
    Kind.FORBIDDEN,
    "The update would delete the copy of every team: put it back, or release it by adding "
    "\"{% if _copier_operation == 'update' %}{what}{% endif %}\" to _exclude.",
)
def deleted(change: Change) -> Iterator[Place]:
    """A file that is gone, and that no line of _exclude protects."""
    for path in change.gone:
        # Copier deletes what only _skip_if_exists names; measured on 9.19.
        if not change.new.released(path) and not _moved_to(change, path):
            yield Place(path, path)


@rule(
    Kind.CHANGELOG,
    "Projects keep it as their own and get no more fixes for it; the changelog must name it.",
    must_say="{what}",
)
def let_go(change: Change) -> Iterator[Place]:
    """A file of ours that is gone, and properly released to the teams."""
    for path in change.gone:
        if path in change.old.files and not change.old.held(path) and change.new.released(path):
            yield Place(path, PurePosixPath(path).name)


@rule(
    Kind.CHANGELOG,
    'Only new projects are without it, and the changelog must say so ("new projects").',
    must_say="new project",
)
def seed_dropped(change: Change) -> Iterator[Place]:
    """A seed that is gone; it stays where it is."""
    for path in change.gone:
        if path in change.old.files and change.old.held(path) and change.new.released(path):
            yield Place(path)


@rule(
    Kind.FORBIDDEN,
    "It becomes the team's, but `copier recopy` would overwrite it: name it in _skip_if_exists "
    "too.",
)
def handed_over_unprotected(change: Change) -> Iterator[Place]:
    """A file of ours that becomes a seed, by _exclude alone."""
    for path in change.old.ours:
        if path in change.new.files and change.new.held(path) and not change.new.skipped(path):
            yield Place(path)


@rule(
    Kind.CHANGELOG,
    "It becomes the team's, and projects get no more fixes for it; the changelog must name it.",
    must_say="{what}",
)
def handed_over(change: Change) -> Iterator[Place]:
    """A file of ours that becomes a seed, the right way."""
    for path in change.old.ours:
        if path in change.new.files and change.new.skipped(path):
            yield Place(path, PurePosixPath(path).name)


@rule(
    Kind.FORBIDDEN,
    "It is the team's in every project, and the update would write into it: put its line back "
    "into {what}, or ship another file.",
)
def taken_back(change: Change) -> Iterator[Place]:
    """A seed of any release that has lost a protection."""
    for path in sorted(change.new.files):
        if any(t.skipped(path) for t in _owners(change, path)) and not change.new.skipped(path):
            yield Place(path, "_skip_if_exists")
        elif any(t.held(path) for t in _owners(change, path)) and not change.new.released(path):
            yield Place(path, "_exclude")


def _owners(change: Change, path: str) -> list[Template]:
    return [template for template in change.past if path in template.files]


@rule(
    Kind.FORBIDDEN,
    "Copier renders it with the answers of older releases too, and {what}, so that every update "
    "from there would crash: write (name | default(...)) for a question that is younger or gone.",
)
def exclude_unknown_to_a_release(change: Change) -> Iterator[Place]:
    """A line of _exclude that fails with the answers of a project that is to be updated."""
    for template in change.past:
        for line in change.new.patterns("_exclude"):
            context = {**template.default_answers, "_copier_operation": "update"}
            try:
                change.new.render(line, context)
            except jinja2.UndefinedError as error:
                yield Place("_exclude", f"in those of {template.version} {error.message}")


@rule(
    Kind.CHANGELOG,
    "Other answers than before decide who gets it; who loses it keeps a copy without further "
    "fixes, and the changelog must name it.",
    must_say="{what}",
)
def other_answers_ship_it(change: Change) -> Iterator[Place]:
    """A file of ours that the answers leave out in other cases than before."""
    for path in sorted(change.old.files.keys() & change.new.files.keys()):
        for answers in change.old.answer_sets:
            now = change.new.copied(path, change.new.answered(answers))
            if change.old.copied(path, answers) != now:
                yield Place(path, PurePosixPath(path).name)
                break


@rule(
    Kind.CHANGELOG,
    "It is the team's in every project, so that the change reaches new projects only, and the "
    'changelog must say so ("new projects").',
    must_say="new project",
)
def seed_edited(change: Change) -> Iterator[Place]:
    """A seed with another content."""
    for path in change.edited:
        if change.new.is_seed(path) and not is_migration(path) and not change.says_the_same(path):
            yield Place(path)


@rule(
    Kind.CHANGELOG,
    "A new seed, which updates leave out; the changelog must say that new projects get it "
    '("new projects").',
    must_say="new project",
)
def seed_added(change: Change) -> Iterator[Place]:
    """A new seed that only new projects get."""
    for path in change.added:
        if change.new.held(path) and not is_migration(path):
            yield Place(path)


@rule(Kind.CHANGELOG, "A new seed, which an update brings where there is none.")
def seed_added_everywhere(change: Change) -> Iterator[Place]:
    """A new seed that existing projects get too."""
    for path in change.added:
        if change.new.skipped(path) and not change.new.held(path):
            yield Place(path)


@rule(
    Kind.LOOK,
    "A team may have a file of this name already, and would get a conflict: a folder that is ours "
    "alone is the better place.",
)
def added_among_theirs(change: Change) -> Iterator[Place]:
    """A new file of ours outside the folders that are ours alone."""
    for path in change.added:
        if not change.new.is_seed(path) and not _in_folder_of_ours(path):
            yield Place(path)


@rule(Kind.CHANGELOG, "A new file arrives with the update.")
def added(change: Change) -> Iterator[Place]:
    """A new file of ours that is no test."""
    for path in change.added:
        if not change.new.is_seed(path) and not path.startswith("tests/"):
            yield Place(path)


@rule(Kind.SAFE, "A test of ours, which arrives with the update and asks nothing of anybody.")
def test_changed(change: Change) -> Iterator[Place]:
    """A test of ours that is new or edited."""
    for path in sorted([*change.added, *change.edited]):
        if not change.new.is_seed(path) and path.startswith("tests/"):
            yield Place(path)


@rule(Kind.SAFE, "Only comments, docstrings or layout differ.")
def reworded(change: Change) -> Iterator[Place]:
    """A Python file that does what it did."""
    for path in change.edited:
        if not path.startswith("tests/") and change.says_the_same(path):
            yield Place(path)


@rule(Kind.CHANGELOG, "The change arrives with the update.")
def edited(change: Change) -> Iterator[Place]:
    """A file of ours, or a shared one, with another content."""
    for path in change.edited:
        seed = change.new.is_seed(path) or path.startswith("tests/")
        if not seed and not change.says_the_same(path):
            yield Place(path)


RULES = (
    moved,
    deleted,
    let_go,
    seed_dropped,
    handed_over_unprotected,
    handed_over,
    taken_back,
    exclude_unknown_to_a_release,
    other_answers_ship_it,
    seed_edited,
    seed_added,
    seed_added_everywhere,
    added_among_theirs,
    added,
    test_changed,
    reworded,
    edited,
)
