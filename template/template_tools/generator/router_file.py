"""The lines of a resource in ``app/api/v1/router.py``, among those of the team."""

import ast
import re
import shutil
from io import StringIO
from pathlib import Path

from template_tools.generator import ResourceError
from template_tools.generator.names import Names
from template_tools.generator.rendering import with_format, with_sorted_imports

PATH = "app/api/v1/router.py"


def with_resource(names: Names, root: Path) -> tuple[str, str]:
    """Return the file as it is, and with the two lines, unless the team has added them already.

    Raises:
        ResourceError: There is no place for the lines, or the path is taken.
    """
    text = _read(root / PATH)
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise ResourceError(
            "{path} is not valid Python: {error}, line {line}.",
            path=PATH,
            error=error.msg,
            line=error.lineno,
        ) from error
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    if f"app.api.v1.{names.singular}.router" in modules:
        return text, text
    _check_is_free(names, tree)
    return text, _insert(names, text, tree, root)


def replace(root: Path, text: str) -> None:
    """Replace the file atomically."""
    path = (root / PATH).resolve()
    draft = path.with_name(f"{path.name}.draft")
    try:
        draft.write_bytes(text.encode())
        shutil.copymode(path, draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _insert(names: Names, text: str, tree: ast.Module, root: Path) -> str:
    resource, path = names.singular, names.path
    importing = f"from app.api.v1.{resource}.router import router as {resource}"
    including = f'router.include_router({resource}, prefix="/{path}", tags=["{path}"])'
    routers = [node for node in tree.body if _is_made(node) or _includes(node)]
    # An import below the first of them would come too late.
    first = min(map(_end, routers), default=0)
    above = [node for node in tree.body if _end(node) <= first]
    imports = [node for node in above if isinstance(node, ast.Import | ast.ImportFrom)]
    if not imports or not any(map(_is_made, routers)):
        raise ResourceError(
            '{path} has no line like "router = APIRouter()" to add to. Add these two to it by '
            "hand, and run the command again:\n\n{lines}",
            path=PATH,
            lines=f"{importing}\n{including}",
        )
    # Unlike str.splitlines(), Python does not end a line at a form feed or U+2028.
    written = StringIO(text, newline="").readlines()
    newline = "\r\n" if written[0].endswith("\r\n") else "\n"
    if not written[-1].endswith(newline):
        written[-1] += newline
    # The later line first: the other one would move its place.
    written.insert(_end(routers[-1]), including + newline)
    written.insert(_end(imports[-1]), importing + newline)
    result = "".join(written)
    # A file that is in order stays so; in another one, no line of the team's moves.
    for in_order in (with_sorted_imports, with_format):
        if in_order(PATH, text, root) == text:
            result = in_order(PATH, result, root)
    return result


def _check_is_free(names: Names, tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value == f"/{names.path}":
            raise ResourceError(
                "The path {path} is taken in {file}, line {line}.",
                path=node.value,
                file=PATH,
                line=node.lineno,
            )
        if isinstance(node, ast.Name) and node.id == names.singular:
            raise ResourceError(
                'The name "{name}" is taken in {file}, line {line}.',
                name=node.id,
                file=PATH,
                line=node.lineno,
            )


def _is_made(node: ast.stmt) -> bool:
    return re.match(r"router(?:: \S+)? = [\w.]+\(", ast.unparse(node)) is not None


def _includes(node: ast.stmt) -> bool:
    return ast.unparse(node).startswith("router.include_router(")


def _end(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno


def _read(path: Path) -> str:
    try:
        # The ends of the lines stay as they are.
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise ResourceError("There is no {path}, which lists the resources.", path=PATH) from None
    except UnicodeDecodeError:
        raise ResourceError("{path} is not UTF-8.", path=PATH) from None
