"""Lists in pages that stay right while rows come and go."""

import base64
import re
from dataclasses import dataclass
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic_core import PydanticCustomError

from app.core.schema import RequestSchema, ResponseSchema

# The 128 bits of a key in base64url; the last four bits of the last character are zero.
_CURSOR = "^[A-Za-z0-9_-]{21}[AQgw]$"

# How JSON writes them; more digits than these fit no column.
_NUMBER = re.compile(r"-?\d{1,40}(\.\d{1,40})?([eE][+-]?\d{1,4})?", re.ASCII)


def _key(value: object) -> UUID:
    """Read a cursor. It is opaque to callers, so that what is in it may change."""
    if not isinstance(value, str) or not re.fullmatch(_CURSOR[1:-1], value):
        raise PydanticCustomError("cursor", "Take the next_cursor of the page before")
    return UUID(bytes=base64.urlsafe_b64decode(f"{value}=="))


def _read_json(text: str) -> bool | int | float | None:
    if text in {"true", "false"}:
        return text == "true"
    if not _NUMBER.fullmatch(text):
        return None
    return float(text) if set(text) & set(".eE") else int(text)


type Cursor = Annotated[
    UUID,
    BeforeValidator(_key, json_schema_input_type=Annotated[str, Field(pattern=_CURSOR)]),
]


class PageQuery(RequestSchema):
    """Which page of a list the caller wants; members of subclasses are filters."""

    cursor: Annotated[
        Cursor | None, Field(description="The next_cursor of the page before; none for the first")
    ] = None
    limit: Annotated[
        int, Field(strict=True, ge=1, le=100, description="How many items at most")
    ] = 50

    @field_validator("*", mode="wrap")
    @classmethod
    def _read(cls, value: object, handler: ValidatorFunctionWrapHandler) -> object:
        """Read a number or a boolean from the text that a query is.

        The types of bodies refuse text in their place, as they should.
        """
        try:
            return handler(value)
        except ValidationError:
            if not isinstance(value, str) or (meant := _read_json(value)) is None:
                raise
            read = handler(meant)
            if isinstance(meant, bool) and read is not meant:
                # Python would count with it: True is 1.
                raise
            return read

    def filters(self) -> dict[str, Any]:
        """Return what the rows must be equal to, by column."""
        return self.model_dump(exclude_none=True, exclude={"cursor", "limit"})


@dataclass(frozen=True, slots=True)
class Rows[T]:
    """Some rows of a table, and the key of the last one where there are more."""

    items: list[T]
    last: UUID | None


class Page[T](ResponseSchema):
    """Some items of a list, in the order of their creation."""

    items: list[T]
    next_cursor: str | None

    @classmethod
    def of(cls, rows: Rows[Any]) -> Self:
        """Return the page that shows these rows."""
        cursor = None
        if rows.last is not None:
            cursor = base64.urlsafe_b64encode(rows.last.bytes).decode().rstrip("=")
        return cls.model_validate({"items": rows.items, "next_cursor": cursor})
