"""From the texts of ``slice/`` to the files of a resource."""

import ast
import re
import subprocess
import sysconfig
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from string import Template

from template_tools.resource import ResourceError
from template_tools.resource.fields import TYPES, Field
from template_tools.resource.models import Model, Models, imports, row_maker
from template_tools.resource.names import Names

_SLICE = Path(__file__).parent / "slice"
# Not `python -m ruff`, which starts ten times as slowly.
_RUFF = Path(sysconfig.get_path("scripts")) / "ruff"


def paths(names: Names) -> dict[str, str]:
    """Return which text of ``slice/`` each file is made of; an empty file of none."""
    resource = names.singular
    return {
        f"app/database/model/{resource}.py": "model",
        f"app/api/v1/{resource}/__init__.py": "",
        f"app/api/v1/{resource}/schema.py": "schema",
        f"app/api/v1/{resource}/service.py": "service",
        f"app/api/v1/{resource}/router.py": "router",
        f"tests/api/v1/{resource}/__init__.py": "",
        f"tests/api/v1/{resource}/test_router.py": "test_router",
    }


def render_files(names: Names, fields: Sequence[Field], models: Models) -> dict[str, str]:
    """Return the text of every file, by its path, not yet formatted.

    Raises:
        ResourceError: The tests cannot make what a field refers to.
    """
    values = names.placeholders() | _values(fields) | _relations(fields, models)
    return {path: render(source, values) if source else "" for path, source in paths(names).items()}


def identifiers(source: str) -> set[str]:
    """Return the names that the code of a text uses, whatever the resource is called."""
    names = Names("_x", "_xs", "_x")
    fields = [Field(f"_{name}", kind, is_indexed=True) for name, kind in TYPES.items()]
    values = names.placeholders() | _values(fields) | _relations([], Models(()))
    found: set[str] = set()
    for node in ast.walk(ast.parse(render(source, values))):
        match node:
            case ast.Name(id=name) | ast.arg(arg=name) | ast.alias(asname=str(name)):
                found.add(name)
            case ast.alias(name=name) | ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                found.add(name)
            case ast.AsyncFunctionDef(name=name):
                found.add(name)
    return found


def render(source: str, values: Mapping[str, str]) -> str:
    """Fill in a text: ``%if x`` ... ``%end`` around what depends on a value.

    A placeholder that is alone on its line may stand for several lines, or none.
    """
    shown = [True]
    lines: list[str] = []
    for line in (_SLICE / f"{source}.txt").read_text("utf-8").splitlines():
        if line.startswith("%if "):
            shown.append(bool(values[line.removeprefix("%if ")]))
        elif line == "%end":
            shown.pop()
        elif all(shown):
            lines += _filled(line, values)
    return "\n".join(lines) + "\n"


def _filled(line: str, values: Mapping[str, str]) -> list[str]:
    if match := re.fullmatch(r"( *)\$(\w+)", line):
        return textwrap.indent(values[match[2]], match[1]).splitlines()
    return [Template(line).substitute(values)]


def _values(fields: Sequence[Field]) -> dict[str, str]:
    given = [field for field in fields if not field.refers_to_own_kind]
    filterable = [field for field in fields if field.is_filterable]
    indexes = [f'Index(None, "{it.name}", "id")' for it in fields if it.is_indexed]
    return {
        "indexes": ", ".join(indexes),
        "arguments": ", ".join([*indexes, *(it.check() for it in fields if it.choices)]),
        "columns": _lines(field.column() for field in fields),
        "members_to_create": _lines(field.to_create() for field in fields),
        "members_to_update": _lines(field.to_update() for field in fields),
        "members_to_read": _lines(field.to_read() for field in fields),
        "filters": _lines(field.to_filter() for field in filterable),
        "examples": _lines(field.example() for field in given),
        "first": given[0].name,
        "conflicts": ", ".join(_conflicts(fields)),
        "queries": ", ".join(_query(field) for field in given if field.is_filterable),
        "own_kind": _quoted(field for field in fields if field.refers_to_own_kind),
    }


def _relations(fields: Sequence[Field], models: Models) -> dict[str, str]:
    """Return what the tests need to make the rows that the examples refer to."""
    needed: dict[Model, None] = {}
    for field in fields:
        if field.refers_to and not field.refers_to_own_kind:
            parent = models.of_table(field.refers_to)
            assert parent is not None  # noqa: S101 - the field was made from it
            needed |= dict.fromkeys(models.with_ancestors(parent))
    rows = (f"session.add({row_maker(model)})" for model in needed)
    return {
        # Without the flush, the rows of one table might be inserted before those they refer to.
        "referred_rows": "\nawait session.flush()\n".join(rows),
        "imports_of_relations": _lines(line for model in needed for line in imports(model)),
    }


def _conflicts(fields: Sequence[Field]) -> Iterator[str]:
    """Yield changes of the example that other rows forbid: what is taken, and what is not there."""
    for field in fields:
        if field.is_unique and not field.refers_to_own_kind:
            yield f'{{"{field.name}": example(1)["{field.name}"]}}'
        if field.refers_to:
            yield f'{{"{field.name}": str(uuid4())}}'


def _query(field: Field) -> str:
    return f'{{"{field.name}": rows[1]["{field.name}"]}}'


def _lines(texts: Iterable[str]) -> str:
    return "\n".join(texts)


def _quoted(fields: Iterable[Field]) -> str:
    return ", ".join(f'"{field.name}"' for field in fields)


def formatted(path: str, text: str, root: Path) -> str:
    """Return a file as the project's own rules want it.

    The texts import whatever some resource may need; what this one does not need is removed.

    Raises:
        ResourceError: Ruff cannot be run, or its configuration is broken.
    """
    return with_format(path, with_sorted_imports(path, text, root, "--select=F401,I"), root)


def with_format(path: str, text: str, root: Path) -> str:
    """Return a file with its lines broken where the project breaks them."""
    return _ruff(root, text, "format", "--quiet", f"--stdin-filename={path}", "-")


def with_sorted_imports(path: str, text: str, root: Path, select: str = "--select=I") -> str:
    """Return a file with its imports in order."""
    options = ["--quiet", "--fix", "--exit-zero", select, f"--stdin-filename={path}"]
    # Ruff takes a module that does not exist yet for a third party's.
    options += ["--config", 'lint.isort.known-first-party = ["app", "template_tools", "tests"]']
    return _ruff(root, text, "check", *options, "-")


def _ruff(root: Path, text: str, *arguments: str) -> str:
    done = subprocess.run(
        [_RUFF, *arguments],
        cwd=root,
        input=text,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode != 0:
        raise ResourceError(f"Ruff cannot format the code: {done.stderr.strip()}")
    return done.stdout
