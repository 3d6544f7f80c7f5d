"""Changing a resource without undoing what somebody else has changed (RFC 9110 §13)."""

import re
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
    if_match: Annotated[
        list[str] | None,
        Header(description="The ETag of the resource as it was read, or * for any state"),
    ] = None,
) -> Precondition:
    """Return what the request says in ``If-Match``.

    Raises:
        PreconditionRequired: It says nothing; without it, changes get lost.
        BadRequest: The header is not a list of entity tags.
    """
    value = ", ".join(line for it in if_match or () if (line := it.strip(" \t")))
    if not value:
        raise PreconditionRequired("Send the resource's ETag in an If-Match header.")
    if value == "*":
        return Precondition(None)
    if not _TAGS.fullmatch(value):
        raise BadRequest('If-Match is a list of entity tags, such as "3".')
    return Precondition(frozenset(tag for weak, tag in re.findall(_TAG, value) if not weak))


IfMatch = Annotated[Precondition, Depends(read_precondition)]


def set_etag(response: Response, row: Versioned) -> None:
    """Say which state of the row the response shows (RFC 9110 §8.8.3)."""
    response.headers["ETag"] = f'"{row.version}"'


def set_location(response: Response, row: Versioned) -> None:
    """Say where the row that was created is (RFC 9110 §10.2.2), relative to its collection."""
    response.headers["Location"] = str(row.id)
    set_etag(response, row)
