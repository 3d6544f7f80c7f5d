"""What the template's tools say, read from their code: the messages, and other text for people."""

import argparse
import ast
import inspect
import json
import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

from tests.projects import TEMPLATE

TOOLS = TEMPLATE / "template_tools"
CATALOGUE = TOOLS / "spanish.json"
# A message in HTML.
_MARK = re.compile(r"\[\[(.+?)\]\]", re.DOTALL)
# Two words, one after the other: a sentence, or a part of one.
_WORDS = re.compile(r"[A-Za-z]{2,}[,;:]? [a-z]{2,}")
_WORD = re.compile(r"[A-Za-z]{2,}")
# A command, or SQL.
_FOR_PROGRAMS = re.compile(r"(uv run|uvx|poe|curl|SELECT|CREATE|DROP|ALTER|SET) ")
# What takes a message, and which of its arguments that is. The classes of errors join them.
_CALLS = {"_": 0, "OAuthError": 1, "refusal": 0}
# What shows its arguments to people: there a single word counts.
_SPEAKING = {
    "ArgumentTypeError",
    "SystemExit",
    "UsageError",
    "_say",
    "add_note",
    "error_page",
    "exit",
    "fail",
    "print",
    "print_error",
    "skip",
    "styled",
}
_SPOKEN = {"description", "epilog", "help", "reason"}
# Errors in the use of a function, which are for whoever changes the tools.
_FOR_PROGRAMMERS = {"RuntimeError", "ValueError"}
# What a browser shows or reads out.
_ATTRIBUTES = {"alt", "aria-label", "placeholder", "title"}


@cache
def spanish() -> dict[str, str]:
    """Return the catalogue."""
    return dict(json.loads(CATALOGUE.read_text("utf-8")))


def placeholders(message: str) -> list[str]:
    """Return what is filled in, and what no translation changes: tags, and code in backticks."""
    return sorted(re.findall(r"\{\w+\}|\$\w+|%\(\w+\)[rs]|%[rs]|</?\w+>|`[^`]+`", message))


@cache
def said() -> dict[str, str]:
    """Return the messages of the tools, each with a file that says it."""
    found: dict[str, str] = {}
    for path in files("py", "html"):
        text = path.read_text("utf-8")
        for message in _messages(_tree(path)) if path.suffix == ".py" else _MARK.findall(text):
            found.setdefault(message, path.relative_to(TOOLS).as_posix())
    return found


@cache
def said_by_argparse() -> set[str]:
    """Return what argparse looks up, as its code has it."""
    tree = ast.parse(inspect.getsource(argparse))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    texts = [it for call in calls if _name(call) in {"_", "ngettext"} for it in call.args]
    return {it.value for it in texts if isinstance(it, ast.Constant) and isinstance(it.value, str)}


def files(*kinds: str) -> list[Path]:
    """Return the files of the tools of these kinds."""
    return sorted(path for kind in kinds for path in TOOLS.rglob(f"*.{kind}"))


def unreadable(tree: ast.Module) -> Iterator[int]:
    """Yield the lines where ``_`` gets something else than a message that is written there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node) == "_":
            argument = node.args[0]
            is_text = isinstance(argument, ast.Constant)
            if not is_text and not (isinstance(argument, ast.Name) and argument.id == "__doc__"):
                yield node.lineno


def unsaid(path: Path) -> Iterator[str]:
    """Yield the text for people in a file that no catalogue can translate."""
    if path.suffix == ".html":
        yield from _text_of_html(path.read_text("utf-8"))
        return
    if path.suffix == ".js":
        shown = r"(?:textContent|innerText|title) = [\"'`](.+?)[\"'`]"
        yield from re.findall(shown, path.read_text("utf-8"))
        return
    yield from unsaid_in(_tree(path))


def unsaid_in(tree: ast.Module) -> Iterator[str]:
    """Yield the text for people in a module that no catalogue can translate."""
    passed, spoken = _passed(tree), _spoken(tree)
    for node in ast.walk(tree):
        if id(node) in passed:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = [str(it.value) if isinstance(it, ast.Constant) else "{}" for it in node.values]
            text = "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        looked_for = _WORD if id(node) in spoken else _WORDS
        if re.search(r"</\w+>", text):
            yield from _text_of_html(text)
        elif looked_for.search(_MARK.sub("", text)) and not _FOR_PROGRAMS.match(text):
            yield text


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def _errors() -> dict[str, int]:
    """Return the classes whose errors are messages."""
    nodes = [node for path in files("py") for node in ast.walk(_tree(path))]
    found = {"Problem"}
    for node in nodes:
        if isinstance(node, ast.ClassDef):
            found |= {node.name for it in node.bases if isinstance(it, ast.Name) and it.id in found}
    return dict.fromkeys(found, 0)


def _name(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _message_of(node: ast.AST) -> ast.expr | None:
    """Return the argument of a call that is a message."""
    at = (_CALLS | _errors()).get(_name(node)) if isinstance(node, ast.Call) else None
    return node.args[at] if isinstance(node, ast.Call) and at is not None and node.args else None


def _messages(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match _message_of(node):
            case ast.Constant(value=str(message)):
                yield message
            case ast.Name(id="__doc__"):
                # As it is when the module runs.
                yield ast.get_docstring(tree, clean=False) or ""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _MARK.findall(node.value)


def _passed(tree: ast.Module) -> set[int]:
    """Return the texts that are messages, documentation, or for programmers."""
    passed: set[int] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant()):
                passed.add(id(node.value))
            case ast.JoinedStr():
                passed |= {id(part) for part in node.values}
            case ast.Call() if _name(node) in _FOR_PROGRAMMERS:
                passed |= {id(argument) for argument in node.args}
        if isinstance(message := _message_of(node), ast.Constant):
            passed.add(id(message))
    return passed


def _spoken(tree: ast.Module) -> set[int]:
    """Return the texts that are shown to people as they stand."""
    arguments: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            arguments += node.args if _name(node) in _SPEAKING else []
            arguments += [it.value for it in node.keywords if it.arg in _SPOKEN]
    # Either of two texts, or both, but not what a call makes its own of.
    whole = [it for it in arguments if not isinstance(it, ast.Call)]
    return {id(part) for it in whole for part in [it, *ast.iter_child_nodes(it)]}


def _text_of_html(html: str) -> Iterator[str]:
    """Yield what a page shows, where it is no message."""
    reader = _Reader()
    reader.feed(_MARK.sub("", html))
    reader.close()
    yield from (it for it in reader.found if _WORD.search(re.sub(r"\$\w+", "", it)))


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [it for name, it in attrs if it and name in _ATTRIBUTES]

    def handle_data(self, data: str) -> None:
        self.found.append(data.strip())
