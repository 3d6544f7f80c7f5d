"""What the provider has said lately, so that it is not asked again at each request.

Kept is its *response*, never a verdict: audience, issuer, time and scopes are judged again each
time. Keys are hashes, so that no dump of the memory holds a token.
"""

import hashlib
import time
from dataclasses import dataclass
from typing import Protocol

from cachetools import TLRUCache, TTLCache

from app.core.settings import CoreSettings
from app.utils.sso.introspection_schema import ClaimNames, TokenData

_ENTRIES = 10_000
_INACTIVE_SECONDS = 10
_UNANSWERED_SECONDS = 5

# Another replica's clock may be a little ahead; an entry from further on is not trusted.
_CLOCK_SKEW_SECONDS = 5

INACTIVE = TokenData(active=False)


def cache_key(settings: CoreSettings, token: str) -> bytes:
    """Return the name of a token's entry: 32 bytes, from which nobody gets the token back.

    The provider and the client are part of it, because what one client hears of a token may not
    be what another one hears.
    """
    provider = settings.sso_introspection_url or settings.sso_issuer
    text = "\0".join((provider, settings.client_id, settings.sso_mode, token))
    return hashlib.sha256(text.encode()).digest()


@dataclass(frozen=True, slots=True)
class Entry:
    """A response, and when it was given (seconds since 1970)."""

    data: TokenData
    given_at: float

    def serves_until(self, seconds: float) -> float:
        """Return when it is ``seconds`` old, or the token ends if that is earlier."""
        end = self.given_at + seconds
        return end if self.data.exp is None else min(end, self.data.exp)

    def serves(self, seconds: float) -> bool:
        """Whether it is at most ``seconds`` old, and the token has not ended.

        One of the future is of no known age: the clock was set back.
        """
        now = time.time()
        return self.given_at - _CLOCK_SKEW_SECONDS <= now < self.serves_until(seconds)


class SharedCache(Protocol):
    """A cache that the replicas of this service share. Its failures are never an error."""

    async def get(self, key: bytes, names: ClaimNames) -> Entry | None:
        """Return the entry, or None where there is none or the cache does not answer."""
        ...

    async def put(self, key: bytes, entry: Entry, seconds: float) -> None:
        """Keep an entry for so many seconds, if the cache answers."""
        ...


class TokenCache:
    """The responses that this process remembers.

    Active and inactive ones are apart, so that a flood of garbage cannot push out good ones.
    """

    def __init__(self, settings: CoreSettings) -> None:
        self._fresh_seconds = settings.token_cache_seconds
        self._kept_seconds = settings.token_cache_seconds + settings.token_cache_stale_seconds
        self._active = TLRUCache[bytes, Entry](_ENTRIES, self._use_until, timer=time.time)
        self._inactive = TTLCache[bytes, None](_ENTRIES, _INACTIVE_SECONDS)
        self._unanswered = TTLCache[bytes, None](_ENTRIES, _UNANSWERED_SECONDS)

    def fresh(self, key: bytes) -> TokenData | None:
        """Return the response about a token, if it need not be asked for again."""
        entry = self._active.get(key)
        if entry is not None and entry.serves(self._fresh_seconds):
            return entry.data
        return INACTIVE if key in self._inactive else None

    def stale(self, key: bytes) -> TokenData | None:
        """Return the last response about an active token, while the provider is down."""
        entry = self._active.get(key)
        return entry.data if entry is not None and entry.serves(self._kept_seconds) else None

    def is_unanswered(self, key: bytes) -> bool:
        """Whether the provider has just failed at this token, and at no other."""
        return key in self._unanswered

    def keep(self, key: bytes, entry: Entry) -> None:
        """Remember a response: an active one for its time, an inactive one for ten seconds."""
        if not entry.data.active:
            self._active.pop(key, None)
            self._inactive[key] = None
        elif self._kept_seconds:
            self._active[key] = entry

    def keep_unanswered(self, key: bytes) -> None:
        """Remember for five seconds that the provider failed at this token."""
        self._unanswered[key] = None

    def forget(self, key: bytes) -> None:
        """Drop what is known about a token, so that the next request asks again."""
        self._active.pop(key, None)

    def _use_until(self, _key: bytes, entry: Entry, _now: float) -> float:
        return entry.serves_until(self._kept_seconds)
