"""One question, asked once, however many wait for its answer."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable


class SingleFlight[K: Hashable, T]:
    """Let those who ask the same at the same time share one answer.

    The question is a task of its own: one who leaves does not take the others' answer away.
    """

    def __init__(self) -> None:
        self._flights: dict[K, asyncio.Task[T]] = {}

    def is_asked(self, key: K) -> bool:
        """Whether somebody is asking this already."""
        return key in self._flights

    async def ask(self, key: K, question: Callable[[], Awaitable[T]]) -> T:
        """Return the answer of ``question()``, or of the same question that is under way."""
        return await asyncio.shield(self.start(key, question))

    def start(self, key: K, question: Callable[[], Awaitable[T]]) -> asyncio.Task[T]:
        """Ask, unless it is being asked already, and wait for nothing."""
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.create_task(_answer(question))
            self._flights[key] = flight
            flight.add_done_callback(lambda done: self._land(key, done))
        return flight

    async def close(self) -> None:
        """Break off what is still being asked."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _land(self, key: K, done: asyncio.Task[T]) -> None:
        self._flights.pop(key, None)
        if not done.cancelled():
            # Looked at here, because those who asked may all have left: asyncio would complain.
            done.exception()


async def _answer[T](question: Callable[[], Awaitable[T]]) -> T:
    return await question()
