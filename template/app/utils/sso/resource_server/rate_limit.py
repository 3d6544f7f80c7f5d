"""A bound on how often something may happen (the token bucket of the field)."""

import math

from app.utils.sso.resource_server.clock import Clock


class RateLimit:
    """Allows ``burst`` events at once, and ``per_second`` in the long run."""

    def __init__(self, clock: Clock, *, per_second: float, burst: int) -> None:
        self._clock = clock
        self._per_second = per_second
        self._burst = burst
        self._allowed = float(burst)
        self._counted_at = clock.monotonic()

    @property
    def is_exhausted(self) -> bool:
        """Whether no event is allowed now."""
        self._count()
        return self._allowed < 1

    @property
    def retry_after(self) -> int:
        """Whole seconds until the next event is allowed; at least one."""
        self._count()
        return max(1, math.ceil((1 - self._allowed) / self._per_second))

    def take(self) -> bool:
        """Return whether the event may happen now, and count it if so."""
        if self.is_exhausted:
            return False
        self._allowed -= 1
        return True

    def give_back(self) -> None:
        """Count an event no longer that was allowed."""
        self._allowed = min(self._burst, self._allowed + 1)

    def _count(self) -> None:
        now = self._clock.monotonic()
        # A clock that stands still or is set back by a test allows nothing new.
        passed = max(0.0, now - self._counted_at)
        self._counted_at = now
        self._allowed = min(self._burst, self._allowed + passed * self._per_second)
