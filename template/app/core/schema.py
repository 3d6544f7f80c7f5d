"""Base classes of request and response bodies, and bounded types for their fields."""

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any

from email_validator import EmailNotValidError, validate_email
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
)
from pydantic_core import PydanticCustomError

# PostgreSQL cannot store NUL. The others are invisible, break a line or reverse the direction of
# text. The classes mean the same in every regular expression dialect, because they are part of the
# API's description: RE2, which Go has, knows \x7f and neither \u202a nor (?!).
_UNPRINTABLE = r"\x00-\x08\x0b-\x1f\x7f-\x9f" "\u202a-\u202e\u2066-\u2069\ufeff"
_BREAKS = r"\t\n" "\u2028\u2029"
_SPACES = r" \xa0" "\u1680\u2000-\u200a\u202f\u205f\u3000"
# UTF-8, and so PostgreSQL, has no lone surrogates; nor can a description contain them.
_NOT_IN_A_TEXT = re.compile(rf"[{_UNPRINTABLE}\ud800-\udfff]")
_NOT_IN_A_LINE = re.compile(rf"[{_UNPRINTABLE}{_BREAKS}\ud800-\udfff]")
# After any spaces, there is something else.
_A_TEXT = f"^[{_SPACES}{_BREAKS}]*[^{_SPACES}{_BREAKS}{_UNPRINTABLE}][^{_UNPRINTABLE}]*$"
_A_LINE = f"^[{_SPACES}]*[^{_SPACES}{_BREAKS}{_UNPRINTABLE}][^{_BREAKS}{_UNPRINTABLE}]*$"
EMAIL_LENGTH = 254
"""The longest address, for a column that keeps one (RFC 5321 §4.5.3.1.3, without the brackets)."""
_A_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_A_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d[\d:.,]*([Zz]|[+-][\d:]+)", re.ASCII)


def _text(value: str) -> str:
    if _NOT_IN_A_TEXT.search(value):
        raise PydanticCustomError("string_unprintable", "Control characters are not accepted")
    return _trimmed(value)


def _line(value: str) -> str:
    if _NOT_IN_A_LINE.search(value):
        raise PydanticCustomError("string_not_a_line", "Line breaks are not accepted")
    return _trimmed(value)


def _trimmed(value: str) -> str:
    if not (trimmed := value.strip()):
        raise PydanticCustomError("string_too_short", "Must not be empty")
    return trimmed


def _address(value: str) -> str:
    try:
        if len(value) > EMAIL_LENGTH:
            raise EmailNotValidError
        # Pydantic's EmailStr would also accept "Somebody Else <name@example.com>".
        address = validate_email(value, check_deliverability=False)
    except EmailNotValidError:
        raise PydanticCustomError("email", "Write it as name@example.com") from None
    return address.normalized.lower()


def _written_day(value: object) -> object:
    return value if isinstance(value, date) else _written(value, _A_DAY)


def _written_timestamp(value: object) -> object:
    return value if isinstance(value, datetime) else _written(value, _A_TIMESTAMP)


def _written(value: object, form: re.Pattern[str]) -> str:
    # Pydantic would read a number, quoted or not, as seconds since 1970.
    if isinstance(value, str) and form.fullmatch(value):
        return value
    raise PydanticCustomError("string_type", "Write it as an ISO 8601 string")


def _hundredths(value: Decimal) -> Decimal:
    # As the column returns it: 1.50 for 1.5, and no negative zero.
    return value.quantize(Decimal("0.01")) + 0


type ShortText = Annotated[
    str,
    Field(
        min_length=1,
        max_length=255,
        # Otherwise, the documentation page would generate gibberish from the pattern.
        examples=["A short text"],
        json_schema_extra={"pattern": _A_LINE},
    ),
    AfterValidator(_line),
]
"""One line of text of up to 255 characters, such as a name or a title."""

type LongText = Annotated[
    str,
    Field(
        min_length=1,
        max_length=10_000,
        examples=["A longer text"],
        json_schema_extra={"pattern": _A_TEXT},
    ),
    AfterValidator(_text),
]
"""Text of several lines and up to 10,000 characters, such as a description or a comment."""

type Email = Annotated[str, Field(json_schema_extra={"format": "email"}), AfterValidator(_address)]
"""An email address, in lower case, because no mail provider distinguishes case."""

type Integer = Annotated[int, Field(strict=True, ge=-(2**31), le=2**31 - 1)]
"""An integer of 32 bits, as its column; not "1", 1.0 or true."""

type IntegerInQuery = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]
"""The same for a query parameter, which is text; fields of a ``PageQuery`` may be ``Integer``."""

type Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A finite number of double precision, as its column; not "1" or true."""

type Amount = Annotated[
    Decimal, Field(max_digits=14, decimal_places=2), AfterValidator(_hundredths)
]
"""A decimal number for a numeric(14, 2) column, such as money. Responses have it as a string."""

type Boolean = Annotated[bool, Field(strict=True)]
"""True or false; not "yes" or 1."""

type Day = Annotated[date, BeforeValidator(_written_day)]
"""A date, written as 2026-11-22."""

_Time = Annotated[
    AwareDatetime,
    BeforeValidator(_written_timestamp),
    # One day inside Python's range, so that no time zone leads out of it.
    Field(ge=datetime(1, 1, 2, tzinfo=UTC), le=datetime(9999, 12, 30, tzinfo=UTC)),
]

type Timestamp = _Time
"""A point in time with its time zone, written as 2026-11-22T12:43:00Z."""

type Moment = _Time
"""The former name of ``Timestamp``, which clients generated from a description may know."""


def omittable() -> Any:  # noqa: ANN401 - it stands for a value of any type, as Field() does
    """Return the default of a field that an update may omit.

    It is None, but callers cannot send null unless the type allows it: ``name: ShortText =
    omittable()`` rejects null. ``changes()`` returns what was sent.
    """
    return Field(default=None, json_schema_extra=_drop_default)


def _drop_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


class RequestSchema(BaseModel):
    """Base class of what callers send: no unknown members, no infinity or NaN."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )

    def changes(self) -> dict[str, Any]:
        """Return the members that the caller sent."""
        return self.model_dump(exclude_unset=True)


class ResponseSchema(BaseModel):
    """Base class of what the service returns, from a database row or from plain values."""

    # An error ends in the log, which must not have what is in the row.
    model_config = ConfigDict(frozen=True, from_attributes=True, hide_input_in_errors=True)
