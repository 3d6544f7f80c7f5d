"""Changing a resource without undoing what somebody else has changed (RFC 9110 §13)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol
from uuid import UUID

from fastapi import Depends, Header, Response

from app.core.errors import BadRequest, PreconditionFailed, PreconditionRequired

# RFC 9110 §8.8.3. A weak tag is understood, and never matches: §13.1.1 compares strongly.
_TAG = r'(W/)?"([\x21\x23-\x7e]*)"'
_TAGS = re.compile(rf"{_TAG}(?:[ \t]*,[ \t]*{_TAG})*")
# The same for the API's description, and * beside it.
IF_MATCH_PATTERN = rf"^(\*|{_TAG}([ \t]*,[ \t]*{_TAG})*)$"
_STATE = "The ETag of the resource as it was read, or * for any state"
OPTIONAL_STATE = f"{_STATE}; without it, any is meant"


class Versioned(Protocol):
    """What has a key, and counts its changes; every table does."""

    id: UUID
    version: int


@dataclass(frozen=True, slots=True)
class Precondition:
    """The states of a resource for which the caller has meant the request; None is any."""

    tags: frozenset[str] | None

    def check(self, row: Versioned) -> None:
        """Return if the row is in one of them.

        Raises:
            PreconditionFailed: Somebody has changed it.
        """
        if self.tags is not None and str(row.version) not in self.tags:
            raise PreconditionFailed("The resource was changed meanwhile; read it again.")


def read_precondition(
    if_match: Annotated[list[str] | None, Header(description=_STATE)] = None,
) -> Precondition:
    """Return what the request says in ``If-Match``.

    Raises:
        PreconditionRequired: It says nothing; without it, changes get lost.
        BadRequest: The header is not a list of entity tags.
    """
    value = _joined(if_match or ())
    if not value:
        raise PreconditionRequired("Send the resource's ETag in an If-Match header.")
    return _read(value)


def read_optional_precondition(
    if_match: Annotated[list[str] | None, Header(description=OPTIONAL_STATE)] = None,
) -> Precondition:
    """Return what the request says in ``If-Match``, where it need not say anything.

    What it says must hold all the same (RFC 9110 §13.1.1): a route that ignores the header would
    delete what somebody has just changed.

    Raises:
        BadRequest: The header is not a list of entity tags.
    """
    return Precondition(None) if if_match is None else _read(_joined(if_match))


def _joined(lines: Sequence[str]) -> str:
    """Return the lines of a header as the one line that they mean (RFC 9110 §5.3)."""
    return ", ".join(line for it in lines if (line := it.strip(" \t")))


def _read(value: str) -> Precondition:
    if value == "*":
        return Precondition(None)
    if not _TAGS.fullmatch(value):
        raise BadRequest('If-Match is a list of entity tags, such as "3".')
    return Precondition(frozenset(tag for weak, tag in re.findall(_TAG, value) if not weak))


IfMatch = Annotated[Precondition, Depends(read_precondition)]
OptionalIfMatch = Annotated[Precondition, Depends(read_optional_precondition)]


def set_etag(response: Response, row: Versioned) -> None:
    """Say which state of the row the response shows (RFC 9110 §8.8.3)."""
    response.headers["ETag"] = f'"{row.version}"'


def set_location(response: Response, row: Versioned) -> None:
    """Say where the row that was created is (RFC 9110 §10.2.2), relative to its collection."""
    response.headers["Location"] = str(row.id)
    set_etag(response, row)
