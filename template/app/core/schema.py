"""The bases of request and response bodies, and the bounded types that they are made of."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints
from pydantic_core import PydanticCustomError

# PostgreSQL stores no NUL and UTF-8 has no lone surrogates. The others are invisible, break a line,
# or turn the text around, and nobody means to type them.
_UNPRINTABLE = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
_NOT_IN_A_TEXT = re.compile(f"[{_UNPRINTABLE}]")
_NOT_IN_A_LINE = re.compile(f"[{_UNPRINTABLE}\t\n\u2028\u2029]")


def _text(value: str) -> str:
    if _NOT_IN_A_TEXT.search(value):
        raise PydanticCustomError("string_unprintable", "Control characters are not accepted")
    return value


def _line(value: str) -> str:
    if _NOT_IN_A_LINE.search(value):
        raise PydanticCustomError("string_not_a_line", "One line without control characters")
    return value


type ShortText = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255, strip_whitespace=True),
    AfterValidator(_line),
]
"""A line of text that fits a column of 255 characters: a name, a title, a number on paper."""

type LongText = Annotated[
    str,
    StringConstraints(min_length=1, max_length=10_000, strip_whitespace=True),
    AfterValidator(_text),
]
"""Text of several lines, 10,000 characters at most: a description, a comment."""


class RequestSchema(BaseModel):
    """What a caller may send: no unknown members, no infinity or NaN."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )


class ResponseSchema(BaseModel):
    """What the service answers; made from a row of the database or from plain values."""

    model_config = ConfigDict(frozen=True, from_attributes=True)
