"""What the command is about to write: all of it is known before the first file is made."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.core.pagination import PageQuery
from app.core.schema import ResponseSchema
from app.database.base import TableBase
from template_tools.resource import ResourceError, table_of_contents
from template_tools.resource.fields import (
    TYPES,
    Field,
    Word,
    check_names,
    choice_field,
    plain_field,
    read_words,
    relation_field,
    unknown_type,
)
from template_tools.resource.models import Models, read_models
from template_tools.resource.names import Names, read_names
from template_tools.resource.rendering import formatted, identifiers, paths, render_files

# Columns that every table of PostgreSQL has; words that SQLAlchemy and SQLModel keep for
# themselves; and what the tests call a field that there is not.
_RESERVED_FIELDS = {
    *("ctid", "cmax", "cmin", "tableoid", "xmax", "xmin"),
    *("registry", "cls", "unknown"),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """The new files by their paths, and the file that lists the resources, before and after."""

    root: Path
    names: Names
    files: dict[str, str]
    listing_before: str
    listing_after: str

    @property
    def message(self) -> str:
        """What the migration is called."""
        return f"Add {self.names.plural.replace('_', ' ')}"

    def paths(self) -> list[str]:
        """Return the files that are made or changed."""
        changes = self.listing_after != self.listing_before
        return [*self.files, *[table_of_contents.PATH] * changes]

    def differences(self) -> str:
        """Return the plan as a unified diff, which ``git apply`` would carry out."""
        before = dict.fromkeys(self.files, "") | {table_of_contents.PATH: self.listing_before}
        after = self.files | {table_of_contents.PATH: self.listing_after}
        return "".join(_difference(path, before[path], after[path]) for path in after)

    def write(self) -> None:
        """Make the files; if one cannot be made, none is.

        Raises:
            ResourceError: The disk is full, for example.
            KeyboardInterrupt: Somebody has changed their mind.
        """
        made: list[Path] = []
        try:
            for path, text in self.files.items():
                _make(self.root / path, text, made)
            if self.listing_after != self.listing_before:
                table_of_contents.replace(self.root, self.listing_after)
        except BaseException as error:
            for new in reversed(made):
                new.rmdir() if new.is_dir() else new.unlink()
            if not isinstance(error, OSError):
                raise
            raise ResourceError(
                f"{error.filename} cannot be written ({error.strerror}); nothing was."
            ) from error


def make_plan(
    name: str,
    texts: Sequence[str],
    *,
    root: Path,
    plural: str | None = None,
    table: str | None = None,
) -> Plan:
    """Return what a resource of these fields is made of.

    Raises:
        ResourceError: It cannot be made.
    """
    names = read_names(name, plural, table)
    words = read_words(texts)
    models = read_models()
    fields = [_field(word, names, models) for word in words]
    check_names(fields, _meanings())
    _check_is_new(names, models, root)
    before, after = table_of_contents.with_resource(names, root)
    files = {
        path: formatted(path, text, root) if text else ""
        for path, text in render_files(names, fields, models).items()
    }
    return Plan(root, names, files, before, after)


def _field(word: Word, names: Names, models: Models) -> Field:
    resource = word.type.replace("-", "_")
    if word.type in TYPES:
        return plain_field(word)
    if "," in word.type:
        return choice_field(word)
    if resource == names.singular:
        return relation_field(word, names.table, is_own_kind=True)
    model = models.named(resource)
    if model is None:
        raise unknown_type(word, {*models.resources()})
    if not model.has_uuid:
        raise ResourceError(
            f'"{word.text}": the key of the table {model.table} is no UUID called id; leave the '
            "relation out, and add it by hand."
        )
    return relation_field(word, model.table, is_own_kind=False)


def _meanings() -> set[str]:
    """Return the names that a class of the resource has or uses already."""
    inherited = {name for base in (TableBase, PageQuery, ResponseSchema) for name in dir(base)}
    own = {*TableBase.model_fields, *PageQuery.model_fields}
    return inherited | own | identifiers("model") | identifiers("schema") | _RESERVED_FIELDS


def _check_is_new(names: Names, models: Models, root: Path) -> None:
    """Return if nothing has one of the resource's names.

    Raises:
        ResourceError: Something has.
    """
    _check_files(names, root)
    _check_models(names, models)
    in_code = {path: identifiers(source) for path, source in paths(names).items() if source}
    used = set().union(*in_code.values())
    # The tests have no variable that is called as the resource.
    variables = set().union(*(in_code[path] for path in in_code if path.startswith("app/")))
    classes = {names.class_name, f"{names.class_name}Read"}
    if classes & used or names.singular in variables:
        raise ResourceError(
            f'"{names.singular}" has a meaning of its own in the code: choose another name, such '
            f"as {names.path}-record."
        )
    # A list of rows would call itself.
    if f"list_{names.plural}" in used:
        raise ResourceError(
            f'The plural "{names.plural}" has a meaning of its own in the code: choose another '
            "with --plural."
        )


def _check_files(names: Names, root: Path) -> None:
    for path in paths(names):
        folder = (root / path).parent
        if path.endswith("__init__.py") and _files(folder):
            raise ResourceError(
                f"{folder.relative_to(root)} is there already; nothing was written."
            )
        if (root / path).exists():
            raise ResourceError(f"{path} is there already; nothing was written.")


def _check_models(names: Names, models: Models) -> None:
    for model in models.models:
        where = model.cls.__module__.replace(".", "/")
        if model.name == names.class_name:
            raise ResourceError(f"{where}.py has a class {model.name} already.")
        if model.table == names.table:
            raise ResourceError(
                f"{where}.py has a table {model.table} already: choose another with --table."
            )
    if names.table in models.tables:
        raise ResourceError(f"There is a table {names.table} already: choose another with --table.")


def _files(folder: Path) -> bool:
    """Return whether there is more than what Python leaves behind."""
    if not folder.is_dir():
        return folder.exists()
    return any(path.name != "__pycache__" for path in folder.iterdir())


def _make(path: Path, text: str, made: list[Path]) -> None:
    missing = [folder for folder in path.parents if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir()
        made.append(folder)
    with path.open("x", encoding="utf-8", newline="\n") as file:
        made.append(path)
        file.write(text)


def _difference(path: str, before: str, after: str) -> str:
    is_new = not before
    lines = difflib.unified_diff(
        before.splitlines(keepends=True),
        after.splitlines(keepends=True),
        "/dev/null" if is_new else f"a/{path}",
        f"b/{path}",
    )
    head = f"diff --git a/{path} b/{path}\n" + "new file mode 100644\n" * is_new
    return "" if before == after and not is_new else head + "".join(lines)
