"""Reading JSON that others send, in the one way in which every parser would read it."""

import json
import math

_MAX_NESTING = 100


def parse_object(body: bytes) -> dict[str, object]:
    """Return the JSON object in ``body``.

    Raises:
        ValueError: It is not an object, or one that parsers disagree about: with a duplicate
            member (which ``active`` counts?), an infinity or a NaN, or nested too deeply; or it
            holds text that neither UTF-8 nor the database can carry.
    """
    try:
        # Bytes might be taken for UTF-16, which RFC 8259 §8.1 rules out; a byte order mark is
        # harmless.
        document = _DECODER.decode(body.decode("utf-8-sig"))
        # How deep the parser itself can follow depends on the version of Python.
        if body.count(b"[") + body.count(b"{") > _MAX_NESTING:
            _refuse_deep_nesting(document)
        # A lone surrogate makes encode() raise, and a NUL is written as its escape. Neither can be
        # there without one.
        encoded = json.dumps(document, ensure_ascii=False).encode() if b"\\u" in body else b""
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("not an object")
    if b"\\u0000" in encoded:
        raise ValueError("a NUL")
    return document


def _unique_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member occurs twice")
    return members


def _refuse_deep_nesting(document: object) -> None:
    level = [document]
    for _ in range(_MAX_NESTING):
        level = [
            child
            for value in level
            if isinstance(value, dict | list)
            for child in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise ValueError("nested too deeply")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number that JSON has not, or that no float can hold")
    return number


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_members, parse_constant=_finite, parse_float=_finite
)
