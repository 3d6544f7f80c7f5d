"""From the texts of ``slice/`` to the files of a resource."""

import ast
import subprocess
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

from mako.lookup import TemplateLookup  # type: ignore[import-untyped]

from template_tools.generator import ResourceError
from template_tools.generator.fields import TYPES, Field
from template_tools.generator.models import Model, Models, imports, row_maker
from template_tools.generator.names import Names

_TEXTS = TemplateLookup([Path(__file__).parent / "slice"], strict_undefined=True)
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
    parents: dict[Model, None] = {}
    for field in fields:
        if field.refers_to and not field.refers_to_own_kind:
            parent = models.of_table(field.refers_to)
            assert parent is not None  # noqa: S101 - the field was made from it
            parents |= dict.fromkeys(models.with_ancestors(parent))
    return {
        path: _render(source, names, fields, [*parents]) if source else ""
        for path, source in paths(names).items()
    }


def identifiers(source: str) -> set[str]:
    """Return the names that the code of a text uses, whatever the resource is called."""
    fields = [Field(f"_{name}", kind, is_indexed=True) for name, kind in TYPES.items()]
    found: set[str] = set()
    for node in ast.walk(ast.parse(_render(source, Names("_x", "_xs", "_x"), fields, []))):
        match node:
            case ast.Name(id=name) | ast.arg(arg=name) | ast.alias(asname=str(name)):
                found.add(name)
            case ast.alias(name=name) | ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                found.add(name)
            case ast.AsyncFunctionDef(name=name):
                found.add(name)
    return found


def _render(source: str, names: Names, fields: Sequence[Field], parents: Sequence[Model]) -> str:
    """Fill in a text of ``slice/``; its tests make rows of ``parents``, in this order."""
    given = [field for field in fields if not field.refers_to_own_kind]
    indexes = [f'Index(None, "{it.name}", "id")' for it in fields if it.is_indexed]
    text: str = _TEXTS.get_template(f"{source}.txt").render(
        **names.placeholders(),
        fields=fields,
        filterable=[field for field in fields if field.is_filterable],
        given=given,
        indexes=indexes,
        arguments=[*indexes, *(it.check() for it in fields if it.choices)],
        conflicts=[*_conflicts(fields)],
        queries=[f'{{"{it.name}": rows[1]["{it.name}"]}}' for it in given if it.is_filterable],
        own_kind=[f'"{field.name}"' for field in fields if field.refers_to_own_kind],
        parents=parents,
        imports=imports,
        row_maker=row_maker,
    )
    return text


def _conflicts(fields: Sequence[Field]) -> Iterator[str]:
    """Yield changes of the example that other rows forbid: what is taken, and what is not there."""
    for field in fields:
        if field.is_unique and not field.refers_to_own_kind:
            yield f'{{"{field.name}": example(1)["{field.name}"]}}'
        if field.refers_to:
            yield f'{{"{field.name}": str(uuid4())}}'


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
    # In bytes, because a file of Windows keeps the ends of its lines.
    done = subprocess.run(
        [_RUFF, *arguments], cwd=root, input=text.encode(), capture_output=True, check=False
    )
    if done.returncode != 0:
        said = done.stderr.decode().strip()
        raise ResourceError("Ruff cannot format the code: {error}", error=said)
    return done.stdout.decode()
