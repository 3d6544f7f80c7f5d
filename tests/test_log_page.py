"""The page about the log has each line that the service's own parts write, at its level."""

import ast
import re
from collections.abc import Iterator

from tests.projects import REPOSITORY, TEMPLATE

PAGE = (REPOSITORY / "docs" / "log.md").read_text("utf-8")
ROWS = {line: level for level, line in re.findall(r"^\| (\w+) \| `(.+?)` \|", PAGE, re.MULTILINE)}
# The line of a request is put together of its parts.
REQUEST = "(method) (route) (status) … ms"
# How the methods of RateLimitedLog write.
LEVELS = {"failed": "error", "recovered": "warning"}


def shown(message: ast.expr) -> str | None:
    """Return a message as the page shows it, or None if it is not written here."""
    if isinstance(message, ast.Constant):
        return re.sub(r"%(\.\d+)?[sdgf]", "…", str(message.value)).replace("`", "")
    if isinstance(message, ast.JoinedStr):
        return "".join((isinstance(it, ast.Constant) and shown(it)) or "…" for it in message.values)
    return None


def written(node: ast.AST) -> Iterator[tuple[str | None, str | None]]:
    """Yield the level, if it is always the same, and the message that the code logs."""
    match node:
        case ast.Call(ast.Attribute(logger, "log"), [_, message, *_]) if _is_log(logger):
            yield None, shown(message)
        case ast.Call(ast.Attribute(logger, level), [message, *_]) if _is_log(logger):
            yield LEVELS.get(level, level), shown(message)
        case ast.Call(ast.Name("Fault"), [_, _, level, message]):
            yield ast.unparse(level).removeprefix("logging.").lower(), shown(message)
        # What is logged by this name.
        case ast.Assign([ast.Name("line")], message):
            yield None, shown(message)


def _is_log(receiver: ast.expr) -> bool:
    return ast.unparse(receiver) in {"logger", "self._log", "self._logger"}


def test_the_page_has_each_line_at_its_level() -> None:
    lines: dict[str, str | None] = {REQUEST: "info"}
    for path in (*TEMPLATE.glob("app/**/*.py"), *TEMPLATE.glob("migrations/*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            lines |= {line: level for level, line in written(node) if line is not None}
    assert sorted(lines) == sorted(ROWS)
    levels = {line: level for line, level in lines.items() if level is not None}
    assert levels.items() <= ROWS.items()
