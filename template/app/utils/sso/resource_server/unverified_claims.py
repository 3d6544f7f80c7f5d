"""What a JWT says, before anybody has vouched for it.

None of it may make a token acceptable. It may be the reason to refuse one, and explain a refusal.
"""

import base64
from collections.abc import Mapping
from typing import NamedTuple

from app.utils.sso.resource_server.strict_json import parse_object


class Jwt(NamedTuple):
    """The header and the claims of a JWT (RFC 7519 §3), whether verified or not."""

    header: Mapping[str, object]
    claims: Mapping[str, object]

    @property
    def audiences(self) -> list[object]:
        """The claim ``aud`` as a list; a single one may stand by itself (RFC 7519 §4.1.3)."""
        return audience if isinstance(audience := self.claims.get("aud"), list) else [audience]


def read_unverified_jwt(token: str) -> Jwt | None:
    """Return what the token says, if it is a JWT in the compact form (RFC 7515 §3.1)."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        return Jwt(_decoded(parts[0]), _decoded(parts[1]))
    except ValueError:
        return None


def _decoded(part: str) -> Mapping[str, object]:
    return parse_object(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
