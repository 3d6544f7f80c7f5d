"""The rules about the database: tables that every team has, and migrations that are theirs."""

import ast
from collections.abc import Iterator
from pathlib import PurePosixPath

from scripts.guard.about_code import classes
from scripts.guard.rules import Change, Place, forbidden, told
from scripts.guard.template import Template

BASE = "app/database/base.py"


def is_migration(path: str) -> bool:
    """Tell whether a file is a migration."""
    return PurePosixPath(path).match("migrations/versions/*.py")


@forbidden(
    "A second head breaks every project that has migrations of its own: ship the model alone; "
    "`alembic check` names it, and the team's own revision follows.",
)
def second_migration(change: Change) -> Iterator[Place]:
    """More than one migration."""
    migrations = sorted(path for path in change.new.files if is_migration(path))
    yield from (Place(path) for path in migrations[1:])


@forbidden(
    "Databases have run it: put it back, and edit it only to go with a model that changes in the "
    "same release, under the same revision.",
)
def migration_edited(change: Change) -> Iterator[Place]:
    """The shipped migration, edited on its own or under another revision."""
    models = _models(change.old) != _models(change.new)
    for path in filter(is_migration, change.edited):
        if not models or _revision(change.old, path) != _revision(change.new, path):
            yield Place(path)


def _models(template: Template) -> dict[str, str]:
    """Return what decides about the tables of a new project, seeds included."""
    models = {f"TableBase.{name}": text for name, text in _columns(template).items()}
    for path in template.files:
        models |= {f"{path} {n}": text for n, text in _tables(template.module(path)).items()}
    return models


def _revision(template: Template, path: str) -> list[str]:
    tree = template.module(path)
    texts: list[str] = []
    for node in tree.body if tree else ():
        match node:
            # With or without an annotation, Alembic reads the same.
            case ast.Assign(targets=[target], value=ast.expr() as value):
                texts.append(f"{ast.unparse(target)} = {ast.unparse(value)}")
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                texts.append(f"{ast.unparse(target)} = {ast.unparse(value)}")
    return [text for text in texts if text.startswith(("revision", "down_revision"))]


@forbidden(
    "Every table of every team has {what} as it is: leave it, and add another column if there "
    "must be one.",
)
def column_changed(change: Change) -> Iterator[Place]:
    """A column of TableBase that is gone or defined otherwise, or the names of constraints."""
    before, now = _columns(change.old), _columns(change.new)
    if BASE in change.new.files:
        yield from (Place(BASE, name) for name in before if before[name] != now.get(name))


@told("Every team must write a migration for {what}.", must_say="poe revision")
def table_added(change: Change) -> Iterator[Place]:
    """A new column of TableBase, or a table of ours that is new or defined otherwise."""
    before, now = _columns(change.old), _columns(change.new)
    yield from (Place(BASE, f"TableBase.{name}") for name in now if name not in before)
    # A table of a test's is made by that test, and no migration knows it.
    for path in (path for path in change.new.ours if path.startswith("app/")):
        earlier = _tables(change.old.module(path))
        for name, definition in _tables(change.new.module(path)).items():
            if earlier.get(name) != definition:
                yield Place(path, name)


def _columns(template: Template) -> dict[str, str]:
    """Return what decides about the tables of all teams: the columns, the names of constraints."""
    tree = template.module(BASE)
    definitions = {
        item.target.id: ast.dump(item)
        for node in classes(tree)
        if node.name == "TableBase"
        for item in node.body
        if isinstance(item, ast.AnnAssign)
        and isinstance(item.target, ast.Name)
        and "ClassVar" not in ast.unparse(item.annotation)
    }
    for statement in tree.body if tree else []:
        if isinstance(statement, ast.Assign):
            target = ast.unparse(statement.targets[0])
            if target.endswith("naming_convention"):
                definitions["naming_convention"] = ast.dump(statement.value)
    return definitions


def _tables(tree: ast.Module | None) -> dict[str, str]:
    """Return the tables of a module by their class, as their columns are written."""
    return {
        node.name: "\n".join(ast.dump(i) for i in node.body if isinstance(i, ast.AnnAssign))
        for node in classes(tree)
        if any(k.arg == "table" and ast.unparse(k.value) == "True" for k in node.keywords)
    }
