"""What can go wrong when the identity provider is called.

Whatever calls the provider raises these, and ``introspect_token`` answers them with the problem
documents of ``app.utils.sso.errors``; nothing in between translates them. The messages are for the
log, and hold no token, secret or body.
"""

from typing import ClassVar


class ProviderError(Exception):
    """A call to the provider failed, or was not made because it would have failed.

    ``retry_after`` is in seconds, if it is known when the next call may be made.
    """

    # The attribute of the metric ``sso.introspection.duration``.
    outcome: ClassVar[str] = "error"

    def __init__(self, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ProviderUnreachable(ProviderError):
    """There was no reply, or none that can be trusted."""

    outcome = "unreachable"


class ProviderTimedOut(ProviderUnreachable):
    """There was no complete reply within the deadline."""


class ProviderOverloaded(ProviderTimedOut):
    """Nor was there one to this call while others were answered: the provider is slow, not down."""


class ProviderConfigurationError(ProviderError):
    """The provider rejects this service, or is not the one that the settings name."""

    outcome = "misconfigured"


class ProviderRateLimited(ProviderError):
    """The provider asks for fewer calls (429).

    Args:
        retry_after: The seconds that it asks to wait, if it does; at most a minute is granted.
    """

    outcome = "throttled"
    retry_after: int

    def __init__(self, retry_after: int | None) -> None:
        super().__init__("429", retry_after=5 if retry_after is None else retry_after)
        self.retry_after = max(1, min(self.retry_after, 60))


class ProviderErrorResponse(ProviderError):
    """A 400 or a 5xx: either the provider is failing, or this one token makes it fail."""

    outcome = "troubled"

    def __init__(self, status: int, where: str) -> None:
        super().__init__(f"{status} at {where}")
        self.status = status


class LookUpNotAdmitted(ProviderError):
    """No call is made for this token now, for the sake of the provider and of other tokens."""


class ProviderFailsForToken(ProviderError):
    """The provider fails for this token and answers about others, so no other caller is held up."""
