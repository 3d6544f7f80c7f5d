"""Answers to try on two versions of a question, to see whether one refuses more than the other."""

import ast
import string
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[2] / "tests"
# The tests that answer questions; every string in them is an answer that somebody thought of.
_FILES = ("answers.py", "test_questions.py", "test_hostile_answers.py", "pairwise.py")
_CHARACTERS = [*string.printable, "\x7f", "\x85", "\xa0", "ß", "é", "\u0661", "\u2028", "日", "🚀"]
_LONGEST = 600
# Answers that are varied; more find nothing more, and cost time.
_VARIED = 40


@cache
def written_answers() -> list[str]:
    """Return every string in the tests of the questions, shortest first."""
    found = {"", "my-service", "My Service"}
    for path in (_TESTS / name for name in _FILES):
        if path.exists():
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(node.value)
    return sorted((text for text in found if len(text) <= _LONGEST), key=lambda t: (len(t), t))


def variations(accepted: list[str]) -> Iterator[str]:
    """Yield answers near those that a question accepts: another character, another length."""
    for length in range(_LONGEST):
        yield "a" * length
    step = max(1, len(accepted) // _VARIED)
    for text in accepted[::step]:
        middle = len(text) // 2
        for character in _CHARACTERS:
            yield character + text
            yield text + character
            yield text[:middle] + character + text[middle:]
        for length in range(0, _LONGEST - len(text), 5):
            yield text + "a" * length
