"""Log lines that a flood of requests must not turn into a flood of lines."""

import logging
import time

_INTERVAL_SECONDS = 60


class SparingLog:
    """Writes each message once a minute, and then says how many there were meanwhile."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._written_at: dict[str, float] = {}
        self._held_back: dict[str, int] = {}

    def warning(self, message: str, *arguments: object) -> bool:
        """Write a warning, unless the same one was written within the last minute.

        Returns whether it was written.
        """
        return self._write(logging.WARNING, message, arguments)

    def error(self, message: str, *arguments: object) -> bool:
        """Write an error, unless the same one was written within the last minute.

        Returns whether it was written.
        """
        return self._write(logging.ERROR, message, arguments)

    def _write(self, level: int, message: str, arguments: tuple[object, ...]) -> bool:
        # The message is its own key: the arguments of one that comes often differ.
        now = time.monotonic()
        if now - self._written_at.get(message, float("-inf")) < _INTERVAL_SECONDS:
            self._held_back[message] = self._held_back.get(message, 0) + 1
            return False
        self._written_at[message] = now
        held_back = self._held_back.pop(message, 0)
        if held_back:
            message, arguments = message + " (and %s times before)", (*arguments, held_back)
        self._logger.log(level, message, *arguments)
        return True
