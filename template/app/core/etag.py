"""Conditional requests, which keep concurrent changes from being lost (RFC 9110 §13)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol
from uuid import UUID

from fastapi import Depends, Header, Response

from app.core.errors import BadRequest, PreconditionFailed, PreconditionRequired

# RFC 9110 §8.8.3. A weak tag is valid, but never matches: §13.1.1 compares strongly.
_TAG = r'(W/)?"([\x21\x23-\x7e]*)"'
_TAGS = re.compile(rf"{_TAG}(?:[ \t]*,[ \t]*{_TAG})*")
# The same, or *, for the API's description.
IF_MATCH_PATTERN = rf"^(\*|{_TAG}([ \t]*,[ \t]*{_TAG})*)$"
# A client that has read the resource sends one tag; some send those of a few copies.
_MAX_LENGTH = 1024
_DESCRIPTION = "The ETag of the resource as it was read, or * for any state"
OPTIONAL_DESCRIPTION = f"{_DESCRIPTION}; any state by default"


class Versioned(Protocol):
    """A row with a key and a version, as every table has them."""

    id: UUID
    version: int


@dataclass(frozen=True, slots=True)
class Precondition:
    """The states of a resource that a request is valid for; None for any state."""

    tags: frozenset[str] | None

    def check(self, row: Versioned) -> None:
        """Return if the row is in one of the states.

        Raises:
            PreconditionFailed: The row has been changed.
        """
        if self.tags is not None and str(row.version) not in self.tags:
            raise PreconditionFailed("The resource has been changed; read it again.")


_Lines = Annotated[list[str] | None, Header(description=_DESCRIPTION)]
_OptionalLines = Annotated[list[str] | None, Header(description=OPTIONAL_DESCRIPTION)]


def read_precondition(if_match: _Lines = None) -> Precondition:
    """Return the precondition in the header ``If-Match``.

    Raises:
        PreconditionRequired: The header is missing or empty.
        BadRequest: The header is not a list of entity tags.
    """
    value = _joined(if_match or ())
    if not value:
        raise PreconditionRequired("Send the resource's ETag in an If-Match header.")
    return _read(value)


def read_optional_precondition(if_match: _OptionalLines = None) -> Precondition:
    """Return the precondition in the header ``If-Match``, which may be missing.

    A header that is sent must hold (RFC 9110 §13.1.1): a route that ignored it would delete what
    another request has just changed.

    Raises:
        BadRequest: The header is not a list of entity tags.
    """
    return Precondition(None) if if_match is None else _read(_joined(if_match))


def _joined(lines: Sequence[str]) -> str:
    """Join the lines of a header into the equivalent single line (RFC 9110 §5.3)."""
    return ", ".join(line for it in lines if (line := it.strip(" \t")))


def _read(value: str) -> Precondition:
    if value == "*":
        return Precondition(None)
    if len(value) > _MAX_LENGTH:
        raise BadRequest(f"If-Match has more than {_MAX_LENGTH} characters.")
    if not _TAGS.fullmatch(value):
        raise BadRequest('If-Match is a list of entity tags, such as "3".')
    return Precondition(frozenset(tag for weak, tag in re.findall(_TAG, value) if not weak))


# FastAPI calls what is not async in a thread, which costs more than the rest of this module.
async def _read_in_loop(if_match: _Lines = None) -> Precondition:
    return read_precondition(if_match)


async def _read_optional_in_loop(if_match: _OptionalLines = None) -> Precondition:
    return read_optional_precondition(if_match)


IfMatch = Annotated[Precondition, Depends(_read_in_loop)]
OptionalIfMatch = Annotated[Precondition, Depends(_read_optional_in_loop)]


def set_etag(response: Response, row: Versioned) -> None:
    """Set the header that names the row's state (RFC 9110 §8.8.3)."""
    response.headers["ETag"] = f'"{row.version}"'


def set_location(response: Response, row: Versioned) -> None:
    """Set the headers for a created row; its URL is relative to the collection's (§10.2.2)."""
    response.headers["Location"] = str(row.id)
    set_etag(response, row)
