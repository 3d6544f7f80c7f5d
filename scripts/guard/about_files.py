"""The rules about files: who owns them, and what becomes of a team's copy."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

import jinja2

from scripts.guard.rules import Change, Place, forbidden
from scripts.guard.template import Template

# Where a file of ours may be moved or deleted, if teams are told. What is shared with them stays.
OUR_FOLDERS = ("app/", "devtools/", "migrations/", "template_tools/", "tests/")
# The command of a release note that shows a team its own edits.
_COMMAND = re.compile(r"^\s*git log [^\n]*? -- (.+)$", re.MULTILINE)


@forbidden(
    "The update would delete the copy of every team, edits included: put it back, or release it by "
    "adding \"{% if _copier_operation == 'update' %}{what}{% endif %}\" to _exclude.",
)
def deleted(change: Change) -> Iterator[Place]:
    """A file that is gone, that teams write into, and that no line of _exclude protects."""
    for path in change.gone:
        # Copier deletes what only _skip_if_exists names; measured on 9.19.
        if not change.new.released(path) and not _is_ours(change, path):
            yield Place(path, path)


@forbidden(
    "The update deletes it, and a team's edits of it: name it or its folder in CHANGELOG.md, and "
    "in the `git log -- FOLDERS` there, which shows a team its own edits before it updates.",
)
def deleted_in_silence(change: Change) -> Iterator[Place]:
    """A file of ours that is gone or has moved, of which teams are not told."""
    for path in change.gone:
        if _is_ours(change, path) and not change.new.released(path):
            said = change.changelog_since(change.last_with(path))
            shown = {word for found in _COMMAND.findall(said) for word in found.split()}
            if not (_names(path, set(re.findall(r"`([^`\n]+)`", said))) and _names(path, shown)):
                yield Place(path)


def _is_ours(change: Change, path: str) -> bool:
    return path.startswith(OUR_FOLDERS) and not change.last_with(path).is_seed(path)


def _names(path: str, words: set[str]) -> bool:
    """Tell whether the file, or a folder above it, is among the words."""
    names = {path, *(folder.as_posix() for folder in PurePosixPath(path).parents)}
    return bool(names & {word.rstrip("/") for word in words})


@forbidden(
    "It becomes the team's, but `copier recopy` would overwrite it: name it in _skip_if_exists "
    "too.",
)
def handed_over_unprotected(change: Change) -> Iterator[Place]:
    """A file of ours that becomes a seed, by _exclude alone."""
    for path in change.old.ours:
        if path in change.new.files and change.new.held(path) and not change.new.skipped(path):
            yield Place(path)


@forbidden(
    "It is the team's in every project, and the update would write into it: put its line back "
    "into {what}, or ship another file.",
)
def taken_back(change: Change) -> Iterator[Place]:
    """A seed of any release that has lost a protection."""
    for path in sorted(change.new.files):
        owners: list[Template] = [it for it in change.past if path in it.files]
        if any(it.skipped(path) for it in owners) and not change.new.skipped(path):
            yield Place(path, "_skip_if_exists")
        elif any(it.held(path) for it in owners) and not change.new.released(path):
            yield Place(path, "_exclude")


@forbidden(
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
