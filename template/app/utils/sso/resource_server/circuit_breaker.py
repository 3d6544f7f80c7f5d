"""Whether the provider may be asked now, and whose fault it is when it fails."""

import logging
import math
import secrets
import time
from collections.abc import Awaitable, Callable
from enum import Enum
from http import HTTPStatus
from typing import NoReturn

from app.utils.sso.errors import ProviderMisconfigured, ProviderUnavailable
from app.utils.sso.introspection_schema import TokenData
from app.utils.sso.resource_server.metrics import BREAKER_STATE
from app.utils.sso.resource_server.provider_errors import (
    Misconfigured,
    ProviderFault,
    Throttled,
    Troubled,
    Unreachable,
)
from app.utils.sso.resource_server.rate_limited_log import SparingLog
from app.utils.sso.resource_server.single_flight import SingleFlight
from app.utils.sso.resource_server.token_cache import INACTIVE

_FAILURES_TO_OPEN = 5
_OPEN_SECONDS = 5
_MISCONFIGURED_SECONDS = 30
_THROTTLED_SECONDS = 5
_MAX_THROTTLED_SECONDS = 60


class State(Enum):
    """Why calls are held back; the numbers are those of the metric."""

    CLOSED = 0
    THROTTLED = 1
    OPEN = 2
    MISCONFIGURED = 3


class TokenUnanswered(ProviderUnavailable):
    """The provider fails at this token alone, so that no other caller need wait."""


class CircuitBreaker:
    """Holds calls to the introspection endpoint back while they cannot succeed.

    A failure is blamed on the token or on the provider by a canary: a random text, about which a
    healthy provider says that it is inactive. Five failures of the provider open the breaker, and
    a canary closes it.

    Args:
        ask: Asks the provider about a token; raises ``ProviderFault``.
        distrustful: Ask about a canary first, and refuse a provider that calls it active.
    """

    def __init__(self, ask: Callable[[str], Awaitable[TokenData]], *, distrustful: bool) -> None:
        self._ask = ask
        self._distrustful = distrustful
        self._log = SparingLog(logging.getLogger(__name__))
        self._canary = SingleFlight[None, None]()
        self._state = State.CLOSED
        self._held_until = 0.0
        self._failures = 0
        self._answers = True
        self._must_prove_itself = distrustful
        # Said at once: who watches it should see that all is well, and not nothing.
        BREAKER_STATE.set(State.CLOSED.value)

    @property
    def state(self) -> State:
        """Why calls are held back now, or were when the last one was made."""
        return self._state

    async def ask(self, token: str) -> TokenData:
        """Return what the provider says about ``token``.

        Raises:
            TokenUnanswered: The provider fails at this token, and answers about others.
            ProviderUnavailable: The provider does not answer, or asks not to be asked.
            ProviderMisconfigured: The provider does not accept this service.
        """
        self._raise_while_held()
        if self._must_prove_itself:
            await self.probe()
        try:
            data = await self._ask(token)
        except Throttled as fault:
            self._throttle(fault)
        except Unreachable as fault:
            self._count(fault)
        except (Misconfigured, Troubled) as fault:
            return await self._blame(fault)
        self._recover()
        return data

    async def probe(self) -> None:
        """Return if the provider is healthy, by its answer about a canary.

        Raises:
            ProviderUnavailable: It is not.
            ProviderMisconfigured: It does not accept this service, or accepts every token.
        """
        self._raise_while_held()
        try:
            await self._canary.ask(None, self._ask_about_canary)
        except Throttled as fault:
            self._throttle(fault)
        except Misconfigured as fault:
            self._give_up(fault)
        except ProviderFault as fault:
            self._note_outage(fault)
            self._failures += 1
            if self._failures >= _FAILURES_TO_OPEN or self._state is State.OPEN:
                self._hold(State.OPEN, _OPEN_SECONDS)
            raise ProviderUnavailable from None
        self._must_prove_itself = False
        self._recover()

    async def close(self) -> None:
        """Break off what is being asked."""
        await self._canary.close()

    async def _ask_about_canary(self) -> None:
        try:
            answer = await self._ask(secrets.token_urlsafe(32))
        except Troubled as fault:
            if fault.status != HTTPStatus.BAD_REQUEST:
                raise
            raise Misconfigured("it refuses to read a random text (400)") from None
        if answer.active and self._distrustful:
            raise Misconfigured("it calls a random text an active token")

    def _raise_while_held(self) -> None:
        left = math.ceil(self._held_until - time.monotonic())
        if left <= 0:
            # The time is over: the next caller finds out, by a canary where that is wiser.
            return
        if self._state is State.MISCONFIGURED:
            raise ProviderMisconfigured(left)
        raise ProviderUnavailable(left)

    def _hold(self, state: State, seconds: float) -> None:
        until = time.monotonic() + seconds
        if until < self._held_until:
            # A late reply to a call from before: what holds calls back for longer has come since.
            return
        self._state = state
        self._held_until = until
        if state is not State.THROTTLED:
            self._must_prove_itself = True
        BREAKER_STATE.set(state.value)

    def _recover(self) -> None:
        self._failures = 0
        # What could not be logged, because it was just now, is logged at the next occasion: the
        # last line must say how it is.
        if not self._answers:
            self._answers = self._log.warning("The identity provider answers again")
        if self._state is not State.CLOSED and time.monotonic() >= self._held_until:
            self._state = State.CLOSED
            BREAKER_STATE.set(State.CLOSED.value)

    def _throttle(self, fault: Throttled) -> NoReturn:
        seconds = _THROTTLED_SECONDS if fault.retry_after is None else fault.retry_after
        seconds = max(1, min(seconds, _MAX_THROTTLED_SECONDS))
        self._hold(State.THROTTLED, seconds)
        self._log.warning("The identity provider limits the rate of introspection (429)")
        raise ProviderUnavailable(seconds) from None

    def _give_up(self, fault: ProviderFault) -> NoReturn:
        self._hold(State.MISCONFIGURED, _MISCONFIGURED_SECONDS)
        self._log.error("The identity provider cannot be asked about tokens: %s", fault)
        raise ProviderMisconfigured from None

    def _count(self, fault: Unreachable) -> NoReturn:
        self._note_outage(fault)
        self._failures += 1
        if self._failures >= _FAILURES_TO_OPEN:
            # The next caller sends a canary: this one may have waited for the whole deadline.
            self._must_prove_itself = True
        raise ProviderUnavailable from None

    async def _blame(self, fault: Misconfigured | Troubled) -> TokenData:
        """Return that the token is inactive, if it is the token that the provider cannot bear."""
        await self.probe()
        if isinstance(fault, Troubled) and fault.status == HTTPStatus.BAD_REQUEST:
            # RFC 7662 §2.2 wants {"active": false}; some refuse what they cannot parse.
            self._log.warning("The identity provider cannot read a token (400)")
            return INACTIVE
        self._log.warning("The identity provider fails at a token, and at no other: %s", fault)
        raise TokenUnanswered from None

    def _note_outage(self, fault: ProviderFault) -> None:
        if self._answers:
            self._answers = not self._log.error(
                "The identity provider does not answer as it should: %s", fault
            )
