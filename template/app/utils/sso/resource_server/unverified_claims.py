"""What a token says of itself, before anybody has vouched for it.

Nothing of it may make a token acceptable. It may refuse one, and explain a refusal.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import NamedTuple

from app.utils.sso.resource_server.provider_client import parse_object


class Peek(NamedTuple):
    """The header and the claims of a JWT, unverified."""

    header: Mapping[str, object]
    claims: Mapping[str, object]


def peek(token: str) -> Peek | None:
    """Return what the token says, if it is a JWT in its compact form (RFC 7519 §3)."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        return Peek(_decoded(parts[0]), _decoded(parts[1]))
    except (ValueError, OverflowError, RecursionError, binascii.Error):
        return None


def _decoded(part: str) -> Mapping[str, object]:
    return parse_object(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
