"""The provider's recent responses, so that it is not asked at each request.

The provider's *response* is kept, never a verdict: audience, issuer, time and scopes are judged at
each request. Keys are hashes, so that no dump of the memory holds a token.
"""

import hashlib
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from importlib import import_module
from typing import NamedTuple, Protocol

from cachetools import TLRUCache, TTLCache

from app.core.settings import CoreSettings
from app.utils.sso.resource_server.clock import Clock
from app.utils.sso.resource_server.token_validation import Token

_ENTRIES = 10_000
_INACTIVE_SECONDS = 10
_FAILING_SECONDS = 5
_KNOWN_SECONDS = 3600


def cache_key(settings: CoreSettings, token: str) -> bytes:
    """Return the key of a token's entry: a hash, which does not reveal the token.

    The provider and the client are part of it, because the response depends on both.
    """
    provider = settings.sso_introspection_url or settings.sso_issuer
    text = "\0".join((provider, settings.client_id, settings.sso_mode, token))
    return hashlib.sha256(text.encode()).digest()


class SharedResponse(NamedTuple):
    """A response, and when the provider was asked for it, in seconds since 1970."""

    members: Mapping[str, object]
    checked_at: float


class SharedCache(Protocol):
    """A cache that the replicas of this service share. Its failures are never an error."""

    async def get(self, key: bytes) -> SharedResponse | None:
        """Return the entry, or None where there is none or the cache does not answer."""
        ...

    async def put(self, key: bytes, response: SharedResponse, seconds: float) -> None:
        """Keep an entry for so many seconds, if the cache answers."""
        ...


def open_shared_cache(
    settings: CoreSettings, clock: Clock, timeout_seconds: float
) -> AbstractAsyncContextManager[SharedCache | None]:
    """Open the cache that ``TOKEN_CACHE_URL`` names; without it there is none.

    Nor is there one in the mode ``jwt``: verifying a signature is faster than asking a cache.

    Raises:
        SystemExit: There is a URL, and the project was made without what it takes.
    """
    if settings.token_cache_url is None or settings.sso_mode == "jwt":
        return nullcontext()
    try:
        # The module, and the package that it needs, are there where the answer to the template's
        # question token_cache is valkey.
        valkey = import_module("app.utils.sso.resource_server.valkey_cache")
    except ModuleNotFoundError:
        raise SystemExit(
            "The service cannot start: TOKEN_CACHE_URL is set, and this project keeps tokens in "
            "memory. Unset it, or run: uvx copier update --data token_cache=valkey"
        ) from None
    opened: AbstractAsyncContextManager[SharedCache] = valkey.open_valkey_cache(
        settings, clock, timeout_seconds
    )
    return opened


class TokenCache:
    """The tokens that this process remembers.

    Active and inactive ones are kept apart, so that a flood of garbage cannot evict good ones.
    """

    def __init__(self, settings: CoreSettings, clock: Clock) -> None:
        self._clock = clock
        self._fresh_seconds = settings.token_cache_seconds
        self._kept_seconds = settings.token_cache_seconds + settings.token_cache_stale_seconds
        self._active = TLRUCache[bytes, Token](_ENTRIES, self._use_until, timer=clock.time)
        self._inactive = TTLCache[bytes, Token](_ENTRIES, _INACTIVE_SECONDS, timer=clock.monotonic)
        self._known = TTLCache[bytes, None](_ENTRIES, _KNOWN_SECONDS, timer=clock.monotonic)
        self._failing = TTLCache[bytes, None](_ENTRIES, _FAILING_SECONDS, timer=clock.monotonic)

    def get(self, key: bytes) -> Token | None:
        """Return a token that need not be asked about again."""
        token = self._active.get(key)
        if token is not None and token.serves(self._fresh_seconds, self._clock.time()):
            return token
        return self._inactive.get(key)

    def get_stale(self, key: bytes) -> Token | None:
        """Return a token that was active when it was last asked about, for an outage."""
        token = self._active.get(key)
        if token is None or not token.serves(self._kept_seconds, self._clock.time()):
            return None
        return token

    def put(self, key: bytes, token: Token) -> None:
        """Remember a token: an active one for its time, an inactive one for ten seconds."""
        if not token.data.active:
            self._active.pop(key, None)
            self._known.pop(key, None)
            self._inactive[key] = token
            return
        self._known[key] = None
        if self._kept_seconds:
            self._active[key] = token

    def is_known(self, key: bytes) -> bool:
        """Whether the token was active when it was last asked about, in the last hour."""
        return key in self._known

    def evict(self, key: bytes) -> None:
        """Forget an active token, so that the next request asks again."""
        self._active.pop(key, None)

    def mark_failing(self, key: bytes) -> None:
        """Remember for five seconds that the provider fails for this token."""
        self._failing[key] = None

    def is_failing(self, key: bytes) -> bool:
        """Whether the provider has just failed for this token, and for no other."""
        return key in self._failing

    def _use_until(self, _key: bytes, token: Token, _now: float) -> float:
        return token.serves_until(self._kept_seconds)
