"""Which look-ups may call the provider now.

Anybody can invent a token, and each invented one costs a call. So tokens that were never good here
share a limited number of calls at once, in turns between the clients that present them, and a
limited number of answers other than "active". Tokens that were good before have calls of their
own, and what the service asks for itself (a canary, keys, metadata) needs no admission.
"""

import asyncio
import ipaddress
import logging
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cachetools import LRUCache

from app.utils.sso.resource_server.clock import Clock
from app.utils.sso.resource_server.metrics import REFUSALS
from app.utils.sso.resource_server.provider_errors import LookUpNotAdmitted
from app.utils.sso.resource_server.rate_limit import RateLimit
from app.utils.sso.resource_server.rate_limited_log import RateLimitedLog

logger = logging.getLogger(__name__)

# Their sum is below the number of connections to the provider, which leaves some for the service.
CALLS_FOR_KNOWN_TOKENS = 50
CALLS_FOR_UNKNOWN_TOKENS = 50
_WAITING = 2_000
_CLIENTS = 10_000


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
        self._budget = RateLimit(clock, per_second=100, burst=1_000)
        self._budgets = LRUCache[str, RateLimit](_CLIENTS)
        self._log = RateLimitedLog(logger, clock)

    @asynccontextmanager
    async def admit(self, client: str | None, *, known: bool) -> AsyncIterator[Admitted]:
        """Wait for a turn, and hold it.

        Args:
            client: The address that presents the token; None where only a proxy's is known.
            known: Whether the token was good lately.

        Raises:
            LookUpNotAdmitted: Too many tokens that are not good were presented, or wait already.
        """
        turns = self._known if known else self._unknown
        owner = "" if client is None else _network(client)
        try:
            await turns.take(owner, self._wait_seconds)
        except TimeoutError:
            raise self._refusal("for seconds others were before it", 1) from None
        admitted = Admitted()
        try:
            if known:
                yield admitted
                return
            budgets = [*([self._budget_of(owner)] if owner else []), self._budget]
            self._spend(budgets)
            try:
                yield admitted
            finally:
                if admitted.was_active:
                    for budget in budgets:
                        budget.give_back()
        finally:
            turns.give_back()

    def _spend(self, budgets: list[RateLimit]) -> None:
        for number, budget in enumerate(budgets):
            if not budget.take():
                for spent in budgets[:number]:
                    spent.give_back()
                raise self._refusal("too many like it were not good", budget.retry_after)

    def _budget_of(self, owner: str) -> RateLimit:
        budget = self._budgets.get(owner)
        if budget is None:
            budget = self._budgets[owner] = RateLimit(self._clock, per_second=20, burst=200)
        return budget

    def _refusal(self, why: str, retry_after: int) -> LookUpNotAdmitted:
        self._log.warning("A token was not looked up: %s", why)
        REFUSALS.add(1, {"reason": "admission"})
        return LookUpNotAdmitted(why, retry_after=retry_after)


class _Turns:
    """A semaphore whose waiters are served in turns between their owners."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting = OrderedDict[str, deque[asyncio.Future[None]]]()
        self._count = 0

    async def take(self, owner: str, seconds: float) -> None:
        """Take a turn; ``TimeoutError`` is that none was free in time."""
        if self._free:
            self._free -= 1
            return
        if self._count >= _WAITING:
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
                self.give_back()
            raise
        finally:
            self._count -= 1
            self._remove(owner, turn)

    def give_back(self) -> None:
        """Hand a turn on to the owner who has waited longest for theirs."""
        while self._waiting:
            owner, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[owner] = turns
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _remove(self, owner: str, turn: asyncio.Future[None]) -> None:
        turns = self._waiting.get(owner)
        if turns is not None and turn in turns:
            turns.remove(turn)
            if not turns:
                del self._waiting[owner]


def _network(client: str) -> str:
    """Return whose budget an address shares: of IPv6, one client has a whole /64."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return client
