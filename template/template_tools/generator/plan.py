"""What the command is about to write: all of it is known before the first file is written."""

import difflib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.core.pagination import PageQuery
from app.core.schema import ResponseSchema
from app.database.base import TableBase
from template_tools.generator import ResourceError, router_file
from template_tools.generator.fields import read_fields
from template_tools.generator.models import Models, read_models
from template_tools.generator.names import Names, read_names
from template_tools.generator.rendering import formatted, identifiers, paths, render_files

# The columns that every table of PostgreSQL has, and names that SQLAlchemy and SQLModel reserve.
_RESERVED_FIELDS = {"ctid", "cmax", "cmin", "tableoid", "xmax", "xmin", "registry", "cls"}


@dataclass(frozen=True, slots=True)
class Plan:
    """The new files by their paths, and the file that includes the routes, before and after."""

    root: Path
    names: Names
    files: dict[str, str]
    router_before: str
    router_after: str

    @property
    def message(self) -> str:
        """What the migration is called."""
        return f"Add {self.names.plural.replace('_', ' ')}"

    def paths(self) -> list[str]:
        """Return the files that are created or changed."""
        return [*self.files, *[router_file.PATH] * (self.router_after != self.router_before)]

    def differences(self) -> str:
        """Return the plan as a unified diff for ``git apply``."""
        before = dict.fromkeys(self.files, "") | {router_file.PATH: self.router_before}
        after = self.files | {router_file.PATH: self.router_after}
        return "".join(_difference(path, before[path], after[path]) for path in after)

    @contextmanager
    def written(self) -> Iterator[None]:
        """Write the files; if one cannot be written, or the code within fails, undo everything.

        Raises:
            ResourceError: A file cannot be written.
        """
        made: list[Path] = []
        try:
            for path, text in self.files.items():
                _write(self.root / path, text, made)
            if self.router_after != self.router_before:
                router_file.replace(self.root, self.router_after)
            yield
        except BaseException as error:
            self._undo(made)
            if not isinstance(error, OSError):
                raise
            raise ResourceError(
                "{file} cannot be written ({reason}); nothing was.",
                file=error.filename,
                reason=error.strerror,
            ) from error

    def _undo(self, made: Sequence[Path]) -> None:
        for path in reversed(made):
            if path.is_dir():
                shutil.rmtree(path / "__pycache__", ignore_errors=True)
                path.rmdir()
            else:
                path.unlink()
        if (self.root / router_file.PATH).read_bytes() != self.router_before.encode():
            router_file.replace(self.root, self.router_before)


def make_plan(
    name: str,
    texts: Sequence[str],
    *,
    root: Path,
    plural: str | None = None,
    table: str | None = None,
) -> Plan:
    """Return what a resource of these fields consists of.

    Raises:
        ResourceError: It cannot be written.
    """
    names = read_names(name, plural, table)
    models = read_models()
    fields = read_fields(texts, names, models, _taken_names())
    _check_files(names, root)
    _check_models(names, models)
    _check_code(names)
    before, after = router_file.with_resource(names, root)
    files = {
        path: formatted(path, text, root) if text else ""
        for path, text in render_files(names, fields, models).items()
    }
    return Plan(root, names, files, before, after)


def _taken_names() -> set[str]:
    """Return the names that a class of the resource has or uses already."""
    inherited = {name for base in (TableBase, PageQuery, ResponseSchema) for name in dir(base)}
    own = {*TableBase.model_fields, *PageQuery.model_fields}
    return inherited | own | identifiers("model") | identifiers("schema") | _RESERVED_FIELDS


def _check_files(names: Names, root: Path) -> None:
    for path in paths(names):
        # Folders of Python's cache may have remained of a resource that was removed.
        folder = (root / path).parent
        if path.endswith("__init__.py") and any(
            it.name != "__pycache__" for it in (folder.iterdir() if folder.is_dir() else ())
        ):
            raise ResourceError(
                "{path} exists already; nothing was written.", path=folder.relative_to(root)
            )
        if (root / path).exists() or folder.is_file():
            raise ResourceError("{path} exists already; nothing was written.", path=path)


def _check_models(names: Names, models: Models) -> None:
    for model in models.models:
        where = model.cls.__module__.replace(".", "/")
        if model.name == names.class_name:
            raise ResourceError(
                "{file} has a class {name} already.", file=f"{where}.py", name=model.name
            )
        if model.table == names.table:
            raise ResourceError(
                "{file} has a table {table} already: choose another with --table.",
                file=f"{where}.py",
                table=model.table,
            )
    if names.table in models.tables:
        raise ResourceError(
            "There is a table {table} already: choose another with --table.", table=names.table
        )


def _check_code(names: Names) -> None:
    """Refuse a name that would hide one that the code uses: an update_row that calls update_row."""
    in_code = {path: identifiers(source) for path, source in paths(names).items() if source}
    used = set().union(*in_code.values())
    # The tests have no variable that is called as the resource.
    variables = set().union(*(in_code[path] for path in in_code if path.startswith("app/")))
    own = {f"{verb}_{names.singular}" for verb in ("create", "read", "update", "delete")}
    own |= {names.class_name, f"{names.class_name}Read"}
    if own & used or names.singular in variables:
        raise ResourceError(
            '"{name}" has a meaning of its own in the code: choose another name, such '
            "as {path}-record.",
            name=names.singular,
            path=names.path,
        )
    if f"list_{names.plural}" in used:
        raise ResourceError(
            'The plural "{plural}" has a meaning of its own in the code: choose another '
            "with --plural.",
            plural=names.plural,
        )


def _write(path: Path, text: str, made: list[Path]) -> None:
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
