"""The time, as something that a test can replace."""

from typing import Protocol


class Clock(Protocol):
    """What is needed of the module ``time``, which is a clock too."""

    def time(self) -> float:
        """Return the seconds since 1970-01-01T00:00Z."""
        ...

    def monotonic(self) -> float:
        """Return seconds since some moment, which no change of the system's clock affects."""
        ...
