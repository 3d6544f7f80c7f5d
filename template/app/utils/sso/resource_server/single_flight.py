"""Coalescing of concurrent calls."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable


class SingleFlight[K: Hashable, T]:
    """Runs one call per key at a time, and gives its result to everybody who asks meanwhile.

    The call is a task of its own: cancelling a waiter does not cancel the call.
    """

    def __init__(self) -> None:
        self._calls: dict[K, asyncio.Task[T]] = {}

    def is_running(self, key: K) -> bool:
        """Whether a call with this key is under way."""
        return key in self._calls

    async def run(self, key: K, function: Callable[[], Coroutine[None, None, T]]) -> T:
        """Return the result of ``function()``, or of the call that is under way."""
        call = self.start(key, function)
        # Unlike shield(), which since Python 3.14 reports the exception of a call whose waiters
        # have left to the event loop, and so logs a traceback for each of them.
        await asyncio.wait({call})
        return call.result()

    def start(self, key: K, function: Callable[[], Coroutine[None, None, T]]) -> asyncio.Task[T]:
        """Start the call in the background, unless it is under way."""
        call = self._calls.get(key)
        if call is None:
            call = asyncio.create_task(function())
            self._calls[key] = call
            call.add_done_callback(lambda done: self._finish(key, done))
        return call

    async def close(self) -> None:
        """Cancel what is under way."""
        calls = list(self._calls.values())
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    def _finish(self, key: K, done: asyncio.Task[T]) -> None:
        self._calls.pop(key, None)
        if not done.cancelled():
            # All waiters may have left, and asyncio complains about exceptions that nobody reads.
            done.exception()
