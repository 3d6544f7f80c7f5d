"""Which look-ups may call the provider now.

Anybody can invent a token, and each invented one costs a call. So tokens that were never good here
share a limited number of calls at once, in turns between the clients that present them, and a
limited number of answers other than "active". Tokens that were good before have calls of their
own, and what the service asks for itself (a canary, keys, metadata) needs no admission.

A provider that answers only some of the calls in time has too many at once: each such failure takes
one from their number, and it takes as many answers as there are to give one back (the additive
increase of TCP).
"""

import asyncio
import ipaddress
import logging
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cachetools import LRUCache

from app.core.rate_limited_log import RateLimitedLog
from app.utils.sso.resource_server.clock import Clock
from app.utils.sso.resource_server.metrics import REFUSALS
from app.utils.sso.resource_server.provider_errors import LookUpNotAdmitted, ProviderOverloaded
from app.utils.sso.resource_server.rate_limit import RateLimit

logger = logging.getLogger(__name__)

# Their sum is below the number of connections to the provider, which leaves some for the service.
CALLS_FOR_KNOWN_TOKENS = 50
CALLS_FOR_UNKNOWN_TOKENS = 50
_FEWEST_CALLS = 10
# Of these and of the places to wait in, no client has all, however many tokens it presents.
_SHARE_OF_ONE_CLIENT = 0.8
_WAITING = 2_000
_WAITING_OF_ONE_CLIENT = 500
_CLIENTS = 10_000

# Answers other than "active" that are allowed, a second; ten times as many at once.
_FROM_ALL = 100
# Behind a proxy that the server does not trust, clients cannot be told apart.
_FROM_UNKNOWN_CLIENTS = 80
_FROM_ONE_CLIENT = 20
_FROM_ONE_SITE = 60
# After the provider has asked for fewer calls; twice as many after each minute without that.
_SLOWEST = 1
_SLOW_SECONDS = 60
_TOO_MANY = "too many from there were not good"


@dataclass
class Admitted:
    """A look-up that may call the provider; whoever made it says how it ended."""

    was_active: bool = False


class Admission:
    """Admits look-ups to the provider, or refuses them within ``wait_seconds``."""

    def __init__(self, clock: Clock, wait_seconds: float) -> None:
        self._clock = clock
        self._wait_seconds = wait_seconds
        self._known = _Turns(CALLS_FOR_KNOWN_TOKENS)
        self._unknown = _Turns(CALLS_FOR_UNKNOWN_TOKENS)
        # Inactive answers and failures; what ends well is given back.
        self._speed: float = _FROM_ALL
        self._budget = self._new_budget(_FROM_ALL)
        self._slowed_at = float("-inf")
        self._budgets = LRUCache[str, RateLimit](_CLIENTS)
        self._log = RateLimitedLog(logger, clock)

    def slow_down(self) -> None:
        """Admit few tokens that were never good: the provider asks for fewer calls."""
        self._set_speed(_SLOWEST)

    @asynccontextmanager
    async def admit(self, client: str | None, *, known: bool) -> AsyncIterator[Admitted]:
        """Wait for a turn, and hold it.

        Args:
            client: The address that presents the token; None where only a proxy's is known.
            known: Whether the token was good lately.

        Raises:
            LookUpNotAdmitted: Too many tokens that are not good were presented, or wait already.
        """
        owner, site = _networks(client)
        turns = self._known if known else self._unknown
        if known and not turns.has_one_for(owner) and self._unknown.has_one_for(owner):
            turns = self._unknown
        budgets = [] if known else [*self._budgets_of(owner, site), self._current_budget()]
        for budget in budgets:
            if budget.is_exhausted:
                raise self._refusal(_TOO_MANY, budget.retry_after)
        try:
            await turns.take(owner, self._wait_seconds)
        except TimeoutError:
            raise self._refusal("for seconds others were before it", 1) from None
        admitted = Admitted()
        try:
            self._spend(budgets)
            try:
                yield admitted
                turns.grow()
            except ProviderOverloaded as error:
                turns.shrink()
                self._log.warning("Fewer calls at once are made: %s", error)
                raise
            finally:
                if admitted.was_active:
                    for budget in budgets:
                        budget.give_back()
        finally:
            turns.give_back(owner)

    def _spend(self, budgets: list[RateLimit]) -> None:
        for number, budget in enumerate(budgets):
            if not budget.take():
                for spent in budgets[:number]:
                    spent.give_back()
                raise self._refusal(_TOO_MANY, budget.retry_after)

    def _budgets_of(self, client: str, site: str) -> list[RateLimit]:
        # A site that is one address has the budget of that address only.
        speeds = {
            site: _FROM_ONE_SITE,
            client: _FROM_ONE_CLIENT if client else _FROM_UNKNOWN_CLIENTS,
        }
        for owner, per_second in speeds.items():
            if owner not in self._budgets:
                self._budgets[owner] = self._new_budget(per_second)
        return [self._budgets[owner] for owner in speeds]

    def _current_budget(self) -> RateLimit:
        is_slow = self._speed < _FROM_ALL
        if is_slow and self._clock.monotonic() - self._slowed_at >= _SLOW_SECONDS:
            self._set_speed(min(2 * self._speed, _FROM_ALL))
        return self._budget

    def _set_speed(self, per_second: float) -> None:
        self._speed = per_second
        self._slowed_at = self._clock.monotonic()
        self._budget = self._new_budget(per_second)

    def _new_budget(self, per_second: float) -> RateLimit:
        return RateLimit(self._clock, per_second=per_second, burst=round(10 * per_second))

    def _refusal(self, why: str, retry_after: int) -> LookUpNotAdmitted:
        # A part of the message: neither reason hides the other for a minute.
        self._log.warning(f"A token was not looked up: {why}")
        REFUSALS.add(1, {"reason": "admission"})
        return LookUpNotAdmitted(why, retry_after=retry_after)


class _Turns:
    """A semaphore whose waiters are served in turns between their owners."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._size: float = most
        self._running = 0
        self._taken = Counter[str]()
        self._waiting = OrderedDict[str, deque[asyncio.Future[None]]]()
        self._count = 0

    def has_one_for(self, owner: str) -> bool:
        """Whether ``owner`` would not have to wait."""
        share = _SHARE_OF_ONE_CLIENT * self._size
        return self._running + 1 <= self._size and self._taken[owner] + 1 <= share

    def grow(self) -> None:
        """Allow more at once, by one when all have ended well."""
        self._size = min(self._most, self._size + 1 / self._size)

    def shrink(self) -> None:
        """Allow one less at once."""
        self._size = max(_FEWEST_CALLS, self._size - 1)

    async def take(self, owner: str, seconds: float) -> None:
        """Take a turn; ``TimeoutError`` is that none was free in time."""
        if self.has_one_for(owner):
            self._grant(owner)
            return
        places = len(self._waiting.get(owner, ()))
        if self._count >= _WAITING or places >= _WAITING_OF_ONE_CLIENT:
            raise TimeoutError
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        self._count += 1
        try:
            async with asyncio.timeout(seconds):
                await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                # It came in the moment in which its owner gave up.
                self.give_back(owner)
            raise
        finally:
            self._count -= 1
            self._remove(owner, turn)

    def give_back(self, owner: str) -> None:
        """Hand a turn on to the owner who has waited longest for theirs."""
        self._running -= 1
        self._taken[owner] -= 1
        if not self._taken[owner]:
            del self._taken[owner]
        while (next_ := next(filter(self.has_one_for, self._waiting), None)) is not None:
            turns = self._waiting.pop(next_)
            turn = turns.popleft()
            if turns:
                self._waiting[next_] = turns
            if not turn.done():
                self._grant(next_)
                turn.set_result(None)

    def _grant(self, owner: str) -> None:
        self._running += 1
        self._taken[owner] += 1

    def _remove(self, owner: str, turn: asyncio.Future[None]) -> None:
        turns = self._waiting.get(owner)
        if turns is not None and turn in turns:
            turns.remove(turn)
            if not turns:
                del self._waiting[owner]


def _networks(client: str | None) -> tuple[str, str]:
    """Return whose budgets an address shares: of IPv6, one client has a /64, and a site a /48.

    Both are empty where the address is unknown, or is none.
    """
    try:
        address = ipaddress.ip_address(client or "")
    except ValueError:
        return "", ""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address), str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped), str(address.ipv4_mapped)
    network = ipaddress.ip_network((address, 64), strict=False)
    return str(network), str(network.supernet(new_prefix=48))
