"""What can go wrong at the provider.

The texts are for the log, and hold no token, secret or body.
"""


class ProviderFault(Exception):
    """A call to the provider did not bring what it was made for."""


class Unreachable(ProviderFault):
    """There was no reply, or none that can be trusted."""


class Misconfigured(ProviderFault):
    """The provider refuses this service, or is not the one that the settings name."""


class Throttled(ProviderFault):
    """The provider asks for fewer calls; ``retry_after`` is in seconds, if it said."""

    def __init__(self, retry_after: int | None) -> None:
        super().__init__("429")
        self.retry_after = retry_after


class Troubled(ProviderFault):
    """A 400 or a 5xx: either the provider is ill, or it cannot bear this one token."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status
