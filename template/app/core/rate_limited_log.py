"""Log lines that a flood of requests must not turn into a flood of lines."""

import logging
import time
from collections import deque
from typing import Protocol

_INTERVAL_SECONDS = 60
# So often in a minute is it said that something failed, or works again: a second outage has a
# beginning and an end too, and a state that changes with each request does not flood the log.
_CHANGES = 10


class MonotonicClock(Protocol):
    """A source of the time that has passed, such as the module ``time``."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary moment."""
        ...


class RateLimitedLog:
    """Writes each message at most once a minute, with the number of those left out in between."""

    def __init__(self, logger: logging.Logger, clock: MonotonicClock = time) -> None:
        self._logger = logger
        self._clock = clock
        self._written: dict[str, deque[float]] = {}
        self._left_out: dict[str, int] = {}

    def warning(self, message: str, *arguments: object) -> bool:
        """Write a warning, and return whether it was written."""
        return self._write(logging.WARNING, 1, message, arguments)

    def error(self, message: str, *arguments: object) -> bool:
        """Write an error, and return whether it was written."""
        return self._write(logging.ERROR, 1, message, arguments)

    def failed(self, message: str, *arguments: object) -> bool:
        """Write an error that is the beginning of an outage, and return whether it was written."""
        return self._write(logging.ERROR, _CHANGES, message, arguments)

    def recovered(self, message: str, *arguments: object) -> bool:
        """Write a warning that is the end of an outage, and return whether it was written."""
        return self._write(logging.WARNING, _CHANGES, message, arguments)

    def _write(self, level: int, most: int, message: str, arguments: tuple[object, ...]) -> bool:
        # The unformatted message is the key, because the arguments of frequent ones differ.
        now = self._clock.monotonic()
        written = self._written.setdefault(message, deque())
        while written and now - written[0] >= _INTERVAL_SECONDS:
            written.popleft()
        if len(written) >= most:
            self._left_out[message] = self._left_out.get(message, 0) + 1
            return False
        written.append(now)
        left_out = self._left_out.pop(message, 0)
        if left_out:
            message, arguments = message + " (and %s times before)", (*arguments, left_out)
        self._logger.log(level, message, *arguments)
        return True
