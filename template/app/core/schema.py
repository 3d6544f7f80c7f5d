"""The bases of request and response bodies, and the bounded types that they are made of."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints
from pydantic_core import PydanticCustomError

# PostgreSQL stores no NUL, UTF-8 has no lone surrogates, and nobody means to type the others.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def _printable(value: str) -> str:
    if _UNPRINTABLE.search(value):
        raise PydanticCustomError("string_unprintable", "Control characters are not accepted")
    return value


type ShortText = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255, strip_whitespace=True),
    AfterValidator(_printable),
]
"""A line of text that fits a column of 255 characters: a name, a title, a number on paper."""


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
