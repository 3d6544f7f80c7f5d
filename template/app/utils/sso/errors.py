"""The answers to a request whose token is missing, refused, or could not be judged."""

from app.core.errors import BadRequest, Forbidden, JsonValue, ServiceUnavailable, Unauthorized


def _challenge(**parameters: str) -> dict[str, str]:
    """Return the ``WWW-Authenticate`` header of RFC 6750 §3. No value may hold a quote."""
    pairs = ", ".join(f'{name}="{value}"' for name, value in parameters.items())
    return {"WWW-Authenticate": f"Bearer {pairs}"}


class TokenMissing(Unauthorized):
    """The request carries no bearer token; RFC 6750 §3.1 wants no error code then."""

    def __init__(self) -> None:
        super().__init__("A bearer token is required.", headers=_challenge(realm="api"))


class TokenRequestInvalid(BadRequest):
    """The Authorization header cannot be understood."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers=_challenge(realm="api", error="invalid_request"))


class TokenInvalid(Unauthorized):
    """The token is expired, revoked, made for somebody else, or none at all."""

    type = "urn:problem:invalid-token"
    title = "Invalid token"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers=_challenge(realm="api", error="invalid_token"))


class ScopeInsufficient(Forbidden):
    """The token is good, and does not allow this."""

    type = "urn:problem:insufficient-scope"
    title = "Insufficient scope"

    def __init__(self, required: list[str]) -> None:
        scope = " ".join(required)
        scopes: list[JsonValue] = [*required]
        super().__init__(
            "The token does not have a scope that is required here.",
            headers=_challenge(realm="api", error="insufficient_scope", scope=scope),
            scopes=scopes,
        )


class ProviderUnavailable(ServiceUnavailable):
    """The identity provider does not answer, or not in a way that can be trusted.

    It is never a 401: clients answer that by logging their users out.
    """

    type = "urn:problem:sso-unavailable"
    title = "Identity provider unavailable"

    def __init__(self, retry_after: int | None = None) -> None:
        super().__init__(
            "The token could not be checked, because the identity provider does not answer.",
            headers={} if retry_after is None else {"Retry-After": str(retry_after)},
        )


class ProviderMisconfigured(ServiceUnavailable):
    """The identity provider refuses this service itself; callers can do nothing about it."""

    type = "urn:problem:sso-misconfigured"
    title = "Identity provider misconfigured"
    retry_after = 30

    def __init__(self) -> None:
        super().__init__("The token could not be checked, because of this service's settings.")
