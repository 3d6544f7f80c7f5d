"""Whether the provider may be called, and whether the token is to blame for a failure."""

import logging
import math
import secrets
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from http import HTTPStatus
from typing import NoReturn

from app.core.rate_limited_log import RateLimitedLog
from app.utils.sso.resource_server.clock import Clock
from app.utils.sso.resource_server.metrics import BREAKER_STATE
from app.utils.sso.resource_server.provider_errors import (
    ProviderConfigurationError,
    ProviderError,
    ProviderErrorResponse,
    ProviderFailsForToken,
    ProviderOverloaded,
    ProviderRateLimited,
    ProviderTimedOut,
    ProviderUnreachable,
)
from app.utils.sso.resource_server.single_flight import SingleFlight

_FAILURES_TO_OPEN = 5
_OPEN_SECONDS = 5
_MISCONFIGURED_SECONDS = 30
# For how long a canary's answer shows that a 429 was about one token. Another canary for each
# would double the calls to a provider that wants fewer.
_CANARY_SECONDS = 1


class State(Enum):
    """Why calls are held back; the numbers are those of the metric."""

    CLOSED = 0
    RATE_LIMITED = 1
    OPEN = 2
    MISCONFIGURED = 3


class CircuitBreaker:
    """Holds calls to the introspection endpoint back while they cannot succeed.

    A failure is blamed on the token or on the provider by a canary: a random text, which a healthy
    provider calls inactive. Five failures of the provider open the breaker, and a canary closes it.

    If it is ``distrustful``, it sends a canary first, and refuses a provider that calls it active.
    """

    def __init__(
        self,
        introspect: Callable[[str], Awaitable[Mapping[str, object]]],
        clock: Clock,
        *,
        distrustful: bool,
        when_limited: Callable[[], None] = lambda: None,
    ) -> None:
        self._introspect = introspect
        self._when_limited = when_limited
        self._distrustful = distrustful
        self._clock = clock
        self._log = RateLimitedLog(logging.getLogger(__name__), clock)
        self._canary = SingleFlight[None, None]()
        self._state = State.CLOSED
        self._held_until = 0.0
        self._failures = 0
        self._answers = 0
        self._is_up = True
        self._canary_answered_at = float("-inf")
        self._needs_canary = distrustful
        # Reported at once, so that a dashboard shows that all is well rather than nothing.
        BREAKER_STATE.set(State.CLOSED.value)

    @property
    def state(self) -> State:
        """Why calls are held back now, or were when the last one was made."""
        return self._state

    async def introspect(self, token: str) -> Mapping[str, object]:
        """Return what the provider says about ``token``.

        Raises:
            ProviderFailsForToken: The provider fails for this token, and answers about others.
            ProviderOverloaded: It did not answer in time, but others meanwhile.
            ProviderError: It fails for all of them, or calls are held back.
        """
        self._raise_while_held()
        if self._needs_canary:
            await self.probe()
        answers = self._answers
        try:
            members = await self._introspect(token)
        except ProviderRateLimited as error:
            await self._doubt(error)
        except ProviderUnreachable as error:
            if isinstance(error, ProviderTimedOut) and self._answers > answers:
                raise ProviderOverloaded(f"{error}, while others were answered") from None
            self._note_outage(error)
            if self._failures >= _FAILURES_TO_OPEN:
                # The next caller sends a canary: this one may have waited for the whole deadline.
                self._needs_canary = True
            raise
        except (ProviderConfigurationError, ProviderErrorResponse) as error:
            return await self._blame(error)
        self._recover()
        return members

    async def probe(self) -> None:
        """Return if the provider answers a canary as it should; otherwise raise its error."""
        self._raise_while_held()
        try:
            await self._canary.run(None, self._send_canary)
        except ProviderRateLimited as error:
            self._limit_rate(error)
            raise
        except ProviderConfigurationError as error:
            self._hold(State.MISCONFIGURED, _MISCONFIGURED_SECONDS)
            self._log.error("The identity provider cannot be asked about tokens: %s", error)
            raise
        except ProviderError as error:
            self._note_outage(error)
            if self._failures >= _FAILURES_TO_OPEN or self._state is State.OPEN:
                self._hold(State.OPEN, _OPEN_SECONDS)
            raise
        self._needs_canary = False
        self._canary_answered_at = self._clock.monotonic()
        self._recover()

    async def close(self) -> None:
        """Cancel a canary that is under way."""
        await self._canary.close()

    async def _send_canary(self) -> None:
        try:
            answer = await self._introspect(secrets.token_urlsafe(32))
        except ProviderErrorResponse as error:
            if error.status != HTTPStatus.BAD_REQUEST:
                # No token is to blame, so the provider is as good as unreachable.
                raise ProviderUnreachable(str(error)) from None
            raise ProviderConfigurationError("it refuses to read a random text (400)") from None
        if answer["active"] and self._distrustful:
            raise ProviderConfigurationError("it calls a random text an active token")

    async def _blame(
        self, error: ProviderConfigurationError | ProviderErrorResponse
    ) -> Mapping[str, object]:
        """Return that the token is inactive, if the provider cannot read this token alone."""
        await self.probe()
        if isinstance(error, ProviderErrorResponse) and error.status == HTTPStatus.BAD_REQUEST:
            # RFC 7662 §2.2 wants {"active": false}; some providers refuse what they cannot parse.
            self._log.warning("The identity provider cannot read a token (400)")
            return {"active": False}
        self._log.warning("The identity provider fails at a token, and at no other: %s", error)
        raise ProviderFailsForToken(str(error)) from None

    async def _doubt(self, error: ProviderRateLimited) -> NoReturn:
        """Raise that the rate is limited for one token, or for all if it is for a canary too."""
        if self._clock.monotonic() - self._canary_answered_at >= _CANARY_SECONDS:
            await self.probe()
        self._log.warning("The identity provider limits the rate for some tokens (429)")
        raise ProviderFailsForToken("429", retry_after=error.retry_after) from None

    def _raise_while_held(self) -> None:
        left = math.ceil(self._held_until - self._clock.monotonic())
        if left <= 0:
            # The hold has expired, and this call shows whether the provider has recovered.
            return
        if self._state is State.MISCONFIGURED:
            raise ProviderConfigurationError("no calls are made", retry_after=left)
        if self._state is State.RATE_LIMITED:
            raise ProviderRateLimited(left)
        raise ProviderUnreachable("no calls are made", retry_after=left)

    def _limit_rate(self, error: ProviderRateLimited) -> None:
        self._when_limited()
        self._hold(State.RATE_LIMITED, error.retry_after)
        self._log.warning("The identity provider limits the rate of introspection (429)")

    def _hold(self, state: State, seconds: float) -> None:
        until = self._clock.monotonic() + seconds
        if until < self._held_until:
            # This is a late reply to an earlier call, and a longer hold has begun since.
            return
        self._state = state
        self._held_until = until
        if state is not State.RATE_LIMITED:
            self._needs_canary = True
        BREAKER_STATE.set(state.value)

    def _recover(self) -> None:
        self._answers += 1
        self._failures = 0
        # A line that was held back by the rate limit is written at the next occasion, because the
        # last line must say how the provider is.
        if not self._is_up:
            self._is_up = self._log.recovered("The identity provider has recovered")
        if self._state is not State.CLOSED and self._clock.monotonic() >= self._held_until:
            self._state = State.CLOSED
            BREAKER_STATE.set(State.CLOSED.value)

    def _note_outage(self, error: ProviderError) -> None:
        self._failures += 1
        if self._is_up:
            self._is_up = not self._log.failed(
                "The identity provider does not answer as it should: %s", error
            )
