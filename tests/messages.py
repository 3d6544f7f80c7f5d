"""What the template's tools say, read from their code: every message, and every other sentence."""

import argparse
import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.projects import TEMPLATE

TOOLS = TEMPLATE / "template_tools"
CATALOGUE = TOOLS / "spanish.json"
# A message in HTML.
_MARK = re.compile(r"\[\[(.+?)\]\]", re.DOTALL)
# Two words one after the other: a sentence, or a part of one.
_WORDS = re.compile(r"[A-Za-z]{2,}[,;:]? [a-z]{2,}")
# What takes a message, and which argument that is. The classes of errors join them.
_CALLS = {"_": 0, "OAuthError": 1, "refusal": 0}
# What is for programs, or for whoever changes the tools: their texts are not for people who use
# them.
_NOT_FOR_PEOPLE = {
    "RuntimeError": "an error in the use of a function",
    "ValueError": "an error in the use of a function",
    "execute": "SQL",
    "fetchval": "SQL",
    "text": "SQL",
}


def placeholders(message: str) -> list[str]:
    """Return what is filled in, and what has another meaning in a message: its tags."""
    return sorted(re.findall(r"\{\w+\}|\$\w+|%\(\w+\)s|%s|</?\w+>|`[^`]+`", message))


@cache
def said() -> dict[str, str]:
    """Return the messages of the tools, each with a file that says it."""
    found: dict[str, str] = {}
    for path in sorted(TOOLS.rglob("*")):
        if path.suffix == ".py":
            messages = _messages(_tree(path))
        elif path.suffix == ".html":
            messages = iter(_MARK.findall(path.read_text("utf-8")))
        else:
            continue
        for message in messages:
            found.setdefault(message, path.relative_to(TOOLS).as_posix())
    return found


def said_by_argparse() -> set[str]:
    """Return what argparse looks up, as its code has it."""
    tree = ast.parse(inspect.getsource(argparse))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    texts = [it for call in calls if _name(call) in {"_", "ngettext"} for it in call.args]
    return {it.value for it in texts if isinstance(it, ast.Constant) and isinstance(it.value, str)}


def unspoken(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the sentences in a file that no catalogue can translate, with their lines."""
    tree = _tree(path)
    passed = _passed(tree)
    for node in ast.walk(tree):
        if id(node) in passed:
            continue
        if isinstance(node, ast.JoinedStr):
            text = "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = _MARK.sub("", node.value)
        else:
            continue
        if _WORDS.search(text):
            yield node.lineno, text


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def _errors() -> dict[str, int]:
    """Return the classes whose errors are messages, by the name of their base."""
    classes = [
        node
        for path in sorted(TOOLS.rglob("*.py"))
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.ClassDef)
    ]
    found = {"Problem"}
    for _attempt in range(2):
        found |= {
            node.name
            for node in classes
            if any(isinstance(base, ast.Name) and base.id in found for base in node.bases)
        }
    return dict.fromkeys(found, 0)


def _name(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _messages(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _MARK.findall(node.value)
        at = (_CALLS | _errors()).get(_name(node)) if isinstance(node, ast.Call) else None
        if at is None or not isinstance(node, ast.Call) or len(node.args) <= at:
            continue
        match node.args[at]:
            case ast.Constant(value=str(message)):
                yield message
            case ast.Name(id="__doc__"):
                yield ast.get_docstring(tree) or ""


def _passed(tree: ast.Module) -> set[int]:
    """Return the nodes that are messages, documentation, or not for people."""
    passed: set[int] = set()
    calls = _CALLS | _errors()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            passed.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            passed |= {id(part) for part in node.values}
        elif isinstance(node, ast.Call):
            if _name(node) in _NOT_FOR_PEOPLE:
                passed |= {id(it) for argument in node.args for it in ast.walk(argument)}
            at = calls.get(_name(node))
            if at is not None and len(node.args) > at and isinstance(node.args[at], ast.Constant):
                passed.add(id(node.args[at]))
    return passed
