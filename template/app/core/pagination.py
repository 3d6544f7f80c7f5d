"""Keyset pagination, whose pages stay correct while rows are added and removed."""

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

# A UUID in base64url; the last four bits of the last character are padding, and zero.
_CURSOR = "^[A-Za-z0-9_-]{21}[AQgw]$"

# A JSON number; no column has more digits than this.
_NUMBER = re.compile(r"-?\d{1,40}(\.\d{1,40})?([eE][+-]?\d{1,4})?", re.ASCII)


def _key(value: object) -> UUID:
    """Decode a cursor, which is opaque to callers so that its content may change."""
    if not isinstance(value, str) or not re.fullmatch(_CURSOR[1:-1], value):
        raise PydanticCustomError("cursor", "Use the next_cursor of the previous page")
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
    """The page of a list that the caller asks for; fields of subclasses are filters."""

    cursor: Annotated[
        Cursor | None, Field(description="The next_cursor of the previous page; none for the first")
    ] = None
    limit: Annotated[
        int, Field(strict=True, ge=1, le=100, description="The maximum number of items")
    ] = 50

    @field_validator("*", mode="wrap")
    @classmethod
    def _read(cls, value: object, handler: ValidatorFunctionWrapHandler) -> object:
        """Read numbers and booleans from the text of a query.

        A filter may therefore have the strict types of bodies, which accept no text themselves.
        """
        try:
            return handler(value)
        except ValidationError:
            if not isinstance(value, str) or (meant := _read_json(value)) is None:
                raise
            read = handler(meant)
            if isinstance(meant, bool) and read is not meant:
                # True would otherwise be accepted as the number 1.
                raise
            return read

    def filters(self) -> dict[str, Any]:
        """Return the values that the rows' columns must be equal to, by column."""
        return self.model_dump(exclude_none=True, exclude={"cursor", "limit"})


@dataclass(frozen=True, slots=True)
class Rows[T]:
    """A page of a table's rows, and the key of the last one if there are more pages."""

    items: list[T]
    last: UUID | None


class Page[T](ResponseSchema):
    """A page of a list, in the order of creation."""

    items: list[T]
    next_cursor: str | None

    @classmethod
    def of(cls, rows: Rows[Any]) -> Self:
        """Return the page that shows these rows."""
        cursor = None
        if rows.last is not None:
            cursor = base64.urlsafe_b64encode(rows.last.bytes).decode().rstrip("=")
        return cls.model_validate({"items": rows.items, "next_cursor": cursor})
