"""The answers to a request whose token is missing, refused, or could not be checked."""

import re
from collections.abc import Sequence
from typing import ClassVar

from app.core.errors import (
    BadRequest,
    Forbidden,
    JsonValue,
    Problem,
    ServiceUnavailable,
    Unauthorized,
)

# What a quoted string holds without escapes (RFC 9110 §5.6.4); another value is left out.
_QUOTABLE = re.compile(r"[ !#-\[\]-~]*")


def _challenge(**parameters: str) -> dict[str, str]:
    """Return the ``WWW-Authenticate`` header of RFC 6750 §3."""
    pairs = [
        f'{name}="{value}"' for name, value in parameters.items() if _QUOTABLE.fullmatch(value)
    ]
    return {"WWW-Authenticate": f"Bearer {', '.join(pairs)}"}


def add_resource_metadata(refusal: Problem, url: str | None) -> None:
    """Say in a challenge where the metadata of this service is (RFC 9728 §5.1)."""
    challenge = refusal.headers.get("WWW-Authenticate")
    # Requests that wait for the same look-up get the same refusal.
    if url and challenge and "resource_metadata=" not in challenge:
        refusal.headers["WWW-Authenticate"] = f'{challenge}, resource_metadata="{url}"'


class TokenMissing(Unauthorized):
    """The request carries no bearer token; RFC 6750 §3.1 wants no error code then."""

    def __init__(self, required: Sequence[str] = ()) -> None:
        scope = {"scope": " ".join(required)} if required else {}
        super().__init__("A bearer token is required.", headers=_challenge(realm="api", **scope))


class TokenRequestInvalid(BadRequest):
    """The Authorization header is malformed."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers=_challenge(realm="api", error="invalid_request"))


class TokenInvalid(Unauthorized):
    """The token is malformed, expired, revoked, or made for somebody else."""

    type = "urn:problem:invalid-token"
    title = "Invalid token"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers=_challenge(realm="api", error="invalid_token"))


class AuthenticationInsufficient(Unauthorized):
    """The token is valid, but its user must log in again, or in a stronger way (RFC 9470 §3)."""

    type = "urn:problem:insufficient-user-authentication"
    title = "Insufficient user authentication"

    def __init__(self, detail: str, *, acr_values: Sequence[str], max_age: int | None) -> None:
        wanted = {"acr_values": " ".join(acr_values)} if acr_values else {}
        if max_age is not None:
            wanted["max_age"] = str(max_age)
        error = "insufficient_user_authentication"
        members: dict[str, JsonValue] = {**wanted}
        super().__init__(detail, headers=_challenge(realm="api", error=error, **wanted), **members)


class ScopeInsufficient(Forbidden):
    """The token is valid, but lacks a scope that is required."""

    type = "urn:problem:insufficient-scope"
    title = "Insufficient scope"

    def __init__(self, required: list[str]) -> None:
        scope = " ".join(required)
        scopes: list[JsonValue] = [*required]
        super().__init__(
            "The token lacks a scope that this route requires.",
            headers=_challenge(realm="api", error="insufficient_scope", scope=scope),
            scopes=scopes,
        )


class RoleInsufficient(Forbidden):
    """The token is valid, but its user has none of the roles that may do this."""

    type = "urn:problem:insufficient-role"
    title = "Insufficient role"

    def __init__(self) -> None:
        super().__init__(
            "The token lacks a role that this route requires.",
            headers=_challenge(realm="api", error="insufficient_scope"),
        )


class TokenUnchecked(ServiceUnavailable):
    """The token could not be checked.

    This is never a 401, because clients answer a 401 by logging their users out.
    """

    cause: ClassVar[str]

    def __init__(self, retry_after: int | None = None) -> None:
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        super().__init__(f"The token could not be checked because {self.cause}.", headers=headers)


class ProviderUnavailable(TokenUnchecked):
    """The identity provider does not answer, or not in a way that can be trusted."""

    type = "urn:problem:sso-unavailable"
    title = "Identity provider unavailable"
    cause = "the identity provider is unavailable"


class ProviderMisconfigured(TokenUnchecked):
    """The identity provider rejects this service itself; callers can do nothing about it."""

    type = "urn:problem:sso-misconfigured"
    title = "Identity provider misconfigured"
    cause = "this service is misconfigured"
    retry_after = 30
