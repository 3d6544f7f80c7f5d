"""Finding out about a token: from memory, from the provider, or from its signature."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from enum import StrEnum
from typing import NamedTuple

import httpx2

from app.core.settings import CoreSettings
from app.utils.sso.errors import ProviderMisconfigured, ProviderUnavailable
from app.utils.sso.introspection_schema import ClaimNames, TokenData
from app.utils.sso.resource_server.circuit_breaker import CircuitBreaker, State, TokenUnanswered
from app.utils.sso.resource_server.introspection_endpoint import IntrospectionEndpoint
from app.utils.sso.resource_server.jwks_client import ProviderKeys
from app.utils.sso.resource_server.jwt_verifier import LocalJwt
from app.utils.sso.resource_server.metrics import CACHE_LOOKUPS, JOINED
from app.utils.sso.resource_server.provider_client import create_client
from app.utils.sso.resource_server.rate_limited_log import SparingLog
from app.utils.sso.resource_server.shared_cache import open_shared_cache
from app.utils.sso.resource_server.single_flight import SingleFlight
from app.utils.sso.resource_server.token_cache import (
    INACTIVE,
    Entry,
    SharedCache,
    TokenCache,
    cache_key,
)
from app.utils.sso.resource_server.token_validation import Judge, TokenOutOfTime

_HEALTH_KNOWN_SECONDS = 30
_HEALTH_DEADLINE_SECONDS = 2


class ProviderHealth(StrEnum):
    """How the identity provider is, as far as this process knows."""

    OK = "ok"
    UNAVAILABLE = "unavailable"
    MISCONFIGURED = "misconfigured"


class Found(NamedTuple):
    """What was found out about a token, and whether a replica had found it out before."""

    data: TokenData
    is_shared: bool


class Introspector:
    """What this process knows about tokens, and how it finds out.

    Args:
        client: For the calls to the provider.
        settings: Among them ``SSO_MODE``, which decides what those calls are.
        shared_cache: What replicas have in common, if anything.
    """

    def __init__(
        self,
        client: httpx2.AsyncClient,
        settings: CoreSettings,
        shared_cache: SharedCache | None = None,
    ) -> None:
        self._settings = settings
        self._names = ClaimNames(settings.sso_subject_claim, settings.sso_roles_claim)
        self._keys = ProviderKeys(client, settings)
        self._local = LocalJwt(self._keys, settings, self._names)
        self._endpoint = IntrospectionEndpoint(client, settings, self._keys, self._names)
        self._breaker = CircuitBreaker(
            self._endpoint.ask, distrustful=settings.environment == "production"
        )
        self._judge = Judge(settings)
        self._cache = TokenCache(settings)
        self._shared_cache = shared_cache
        self._flights = SingleFlight[bytes, Found]()
        self._log = SparingLog(logging.getLogger(__name__))
        self._answered_at = float("-inf")

    async def token_data(self, token: str, required_scopes: list[str]) -> TokenData:
        """Return what is known about a token that is good for this service.

        Raises:
            TokenInvalid: It is not good.
            ScopeInsufficient: It lacks one of ``required_scopes``.
            ProviderUnavailable: It cannot be checked now.
            ProviderMisconfigured: It cannot be checked with these settings.
        """
        key = cache_key(self._settings, token)
        data = self._cache.fresh(key)
        if data is None:
            data = await self._find_out(key, token)
        else:
            CACHE_LOOKUPS.add(1, {"result": "hit"})
        try:
            self._judge.judge(data, token, required_scopes)
        except TokenOutOfTime:
            self._cache.forget(key)
            raise
        return data

    async def health(self) -> ProviderHealth:
        """Return how the provider is; it is asked where that is not known from the last seconds."""
        answered_lately = time.monotonic() - self._answered_at < _HEALTH_KNOWN_SECONDS
        if answered_lately and self._breaker.state is State.CLOSED:
            return ProviderHealth.OK
        try:
            async with asyncio.timeout(_HEALTH_DEADLINE_SECONDS):
                if self._settings.sso_mode != "introspect":
                    await self._keys.refresh()
                if self._settings.sso_mode != "jwt":
                    await self._breaker.probe()
        except ProviderMisconfigured:
            return ProviderHealth.MISCONFIGURED
        except (ProviderUnavailable, TimeoutError):
            return ProviderHealth.UNAVAILABLE
        self._answered_at = time.monotonic()
        return ProviderHealth.OK

    async def close(self) -> None:
        """Break off what is being asked."""
        await self._flights.close()
        await self._breaker.close()
        await self._endpoint.close()
        await self._keys.close()

    async def _find_out(self, key: bytes, token: str) -> TokenData:
        joins = self._flights.is_asked(key)
        result = "joined" if joins else "miss"
        JOINED.add(int(joins))
        try:
            if self._cache.is_unanswered(key):
                raise TokenUnanswered
            found = await self._flights.ask(key, lambda: self._ask_and_keep(key, token))
            if found.is_shared and not joins:
                result = "shared"
            return found.data
        except ProviderUnavailable:
            if (data := self._cache.stale(key)) is None:
                raise
            result = "stale"
            self._log.warning("The provider is down, and older responses serve on")
            return data
        finally:
            # Each look-up counts once, so that their sum is that of the requests.
            CACHE_LOOKUPS.add(1, {"result": result})
            JOINED.add(-int(joins))

    async def _ask_and_keep(self, key: bytes, token: str) -> Found:
        shared = await self._shared_entry(key)
        if shared is not None:
            self._cache.keep(key, shared)
            return Found(shared.data, is_shared=True)
        given_at = time.time()
        try:
            data = await self._ask(token)
        except TokenUnanswered:
            self._cache.keep_unanswered(key)
            raise
        entry = Entry(data, given_at)
        self._cache.keep(key, entry)
        await self._share(key, entry)
        return Found(data, is_shared=False)

    async def _ask(self, token: str) -> TokenData:
        if self._settings.sso_mode == "jwt":
            data = await self._local.check(token)
        elif self._settings.sso_mode == "introspect":
            data = await self._breaker.ask(token)
        else:
            claims = await self._local.check(token)
            # What is signed must be good by itself; the response adds to it, and excuses nothing.
            self._judge.judge(claims, token, [])
            data = self._united(claims, await self._breaker.ask(token))
        self._answered_at = time.monotonic()
        return data

    def _united(self, claims: TokenData, response: TokenData) -> TokenData:
        """Return the response, with what it does not say taken from the signed claims."""
        if not response.active:
            return INACTIVE
        said = response.model_dump(exclude_none=True)
        ends = [time for time in (claims.exp, response.exp) if time is not None]
        united = claims.model_dump() | said | {"exp": min(ends, default=None)}
        return TokenData.read(united, self._names)

    async def _shared_entry(self, key: bytes) -> Entry | None:
        if self._shared_cache is None:
            return None
        entry = await self._shared_cache.get(key, self._names)
        if entry is None or not entry.serves(self._settings.token_cache_seconds):
            return None
        return entry

    async def _share(self, key: bytes, entry: Entry) -> None:
        seconds = entry.serves_until(self._settings.token_cache_seconds) - time.time()
        if self._shared_cache is not None and entry.data.active and seconds > 0:
            await self._shared_cache.put(key, entry, seconds)


@asynccontextmanager
async def open_introspector(settings: CoreSettings) -> AsyncIterator[Introspector]:
    """Hold the connections to the provider open for as long as the application runs.

    Raises:
        SystemExit: A file or URL of the settings cannot be used.
    """
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(create_client(settings))
        shared_cache = await stack.enter_async_context(open_shared_cache(settings))
        introspector = Introspector(client, settings, shared_cache)
        stack.push_async_callback(introspector.close)
        yield introspector
