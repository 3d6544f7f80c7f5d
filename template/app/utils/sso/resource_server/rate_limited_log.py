"""Log lines that a flood of requests must not turn into a flood of lines."""

import logging

from app.utils.sso.resource_server.clock import Clock

_INTERVAL_SECONDS = 60


class RateLimitedLog:
    """Writes each message at most once a minute, with the number of those left out in between."""

    def __init__(self, logger: logging.Logger, clock: Clock) -> None:
        self._logger = logger
        self._clock = clock
        self._written_at: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def warning(self, message: str, *arguments: object) -> bool:
        """Write a warning, and return whether it was written."""
        return self._write(logging.WARNING, message, arguments)

    def error(self, message: str, *arguments: object) -> bool:
        """Write an error, and return whether it was written."""
        return self._write(logging.ERROR, message, arguments)

    def _write(self, level: int, message: str, arguments: tuple[object, ...]) -> bool:
        # The unformatted message is the key, because the arguments of frequent ones differ.
        now = self._clock.monotonic()
        if now - self._written_at.get(message, float("-inf")) < _INTERVAL_SECONDS:
            self._left_out[message] = self._left_out.get(message, 0) + 1
            return False
        self._written_at[message] = now
        left_out = self._left_out.pop(message, 0)
        if left_out:
            message, arguments = message + " (and %s times before)", (*arguments, left_out)
        self._logger.log(level, message, *arguments)
        return True
