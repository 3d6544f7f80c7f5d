"""Looking a token up: in the cache, at the provider, or by its signature."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import httpx2

from app.core.rate_limited_log import RateLimitedLog
from app.core.settings import CoreSettings
from app.utils.sso.errors import TokenInvalid
from app.utils.sso.introspection_schema import TokenData
from app.utils.sso.resource_server.admission import Admission
from app.utils.sso.resource_server.circuit_breaker import CircuitBreaker, State
from app.utils.sso.resource_server.clock import Clock
from app.utils.sso.resource_server.discovery import Discovery
from app.utils.sso.resource_server.introspection_endpoint import IntrospectionEndpoint
from app.utils.sso.resource_server.jwks_client import JwksClient
from app.utils.sso.resource_server.jwt_verifier import InvalidJwt, JwtVerifier
from app.utils.sso.resource_server.metrics import CACHE_LOOKUPS, JOINED, REFUSALS
from app.utils.sso.resource_server.provider_client import ProviderClient, create_client
from app.utils.sso.resource_server.provider_errors import (
    ProviderConfigurationError,
    ProviderError,
    ProviderFailsForToken,
    ProviderUnreachable,
)
from app.utils.sso.resource_server.single_flight import SingleFlight
from app.utils.sso.resource_server.token_cache import (
    SharedCache,
    SharedResponse,
    TokenCache,
    cache_key,
    open_shared_cache,
)
from app.utils.sso.resource_server.token_validation import Token, TokenNotInForce, TokenValidator
from app.utils.sso.resource_server.unverified_claims import Jwt, read_unverified_jwt

logger = logging.getLogger(__name__)

_HEALTH_KNOWN_SECONDS = 30
# So many tokens in a row are seldom all bad by chance.
_INACTIVE_TO_WARN = 10


class ProviderHealth(StrEnum):
    """The state of the identity provider, as far as this process knows."""

    OK = "ok"
    UNAVAILABLE = "unavailable"
    MISCONFIGURED = "misconfigured"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the service waits for others, in seconds."""

    provider: float = 5
    health: float = 2
    shared_cache: float = 0.25
    # With the provider's, less than a request may take.
    admission: float = 4


_USUAL_TIMEOUTS = Timeouts()


class Introspector:
    """Looks tokens up, as ``SSO_MODE`` says, and keeps what it has found out about them.

    By ``clock``, tokens and cached responses expire; ``timeouts`` are real time.
    """

    def __init__(
        self,
        client: httpx2.AsyncClient,
        settings: CoreSettings,
        shared_cache: SharedCache | None = None,
        *,
        clock: Clock = time,
        timeouts: Timeouts = _USUAL_TIMEOUTS,
    ) -> None:
        provider = ProviderClient(client, timeouts.provider)
        self._settings = settings
        self._clock = clock
        self._timeouts = timeouts
        self._keys = JwksClient(provider, settings, clock)
        self._authorization = Discovery(provider, settings, "authorization_endpoint", clock)
        self._token = Discovery(provider, settings, "token_endpoint", clock)
        self._verifier = JwtVerifier(self._keys, settings, clock)
        self._endpoint = IntrospectionEndpoint(provider, settings, self._verifier, clock)
        in_production = settings.environment == "production"
        self._admission = Admission(clock, timeouts.admission)
        self._breaker = CircuitBreaker(
            self._endpoint.introspect,
            clock,
            distrustful=in_production,
            when_limited=self._admission.slow_down,
        )
        self._validator = TokenValidator(settings, clock)
        self._cache = TokenCache(settings, clock)
        self._shared_cache = shared_cache
        self._look_ups = SingleFlight[bytes, tuple[Token, str]]()
        self._log = RateLimitedLog(logger, clock)
        self._answered_at = float("-inf")
        self._has_been_active = False
        self._inactive_in_a_row = 0

    @property
    def has_worked(self) -> bool:
        """Whether the provider has answered this service as it should since the start."""
        return self._answered_at > float("-inf")

    async def token_data(
        self, token: str, required_scopes: list[str], client: str | None = None
    ) -> TokenData:
        """Return the data of a token that is good for this service: ``look_up``, ``validate``."""
        return self.validate(token, await self.look_up(token, client), required_scopes)

    async def look_up(self, token: str, client: str | None = None) -> Token:
        """Return what is known about a token, which need not be good.

        ``client`` is the address that presents it, if that is known: what one client presents
        must not keep others waiting.

        Raises:
            TokenInvalid: It is no token of the provider, by its signature.
            ProviderError: It cannot be checked now, or not with these settings.
        """
        key = cache_key(self._settings, token)
        known = self._cache.get(key)
        if known is None:
            return await self._look_up(key, token, client)
        CACHE_LOOKUPS.add(1, {"result": "hit"})
        return known

    def validate(self, token: str, known: Token, required_scopes: list[str]) -> TokenData:
        """Return the data of a token, by what is known about it, if it is good for this service.

        Raises:
            TokenInvalid: It is not.
            ScopeInsufficient: It lacks one of ``required_scopes``.
        """
        try:
            self._validator.validate(known, required_scopes)
        except TokenNotInForce:
            self._cache.evict(cache_key(self._settings, token))
            raise
        return known.data

    async def login_endpoints(self) -> tuple[str, str]:
        """Return where a browser signs in, and where it gets its token.

        Raises:
            ProviderError: The provider does not say, or does not answer.
        """
        return await asyncio.gather(self._authorization.endpoint(), self._token.endpoint())

    async def health(self) -> ProviderHealth:
        """Return the state of the provider, by an answer of the last half minute or a new one."""
        answered_lately = self._clock.monotonic() - self._answered_at < _HEALTH_KNOWN_SECONDS
        if answered_lately and self._breaker.state is State.CLOSED:
            return ProviderHealth.OK
        try:
            async with asyncio.timeout(self._timeouts.health):
                if self._settings.sso_mode != "introspect":
                    await self._keys.refresh()
                if self._settings.sso_mode != "jwt":
                    await self._breaker.probe()
        except ProviderConfigurationError:
            return ProviderHealth.MISCONFIGURED
        except (ProviderError, TimeoutError):
            return ProviderHealth.UNAVAILABLE
        self._answered_at = self._clock.monotonic()
        return ProviderHealth.OK

    async def close(self) -> None:
        """Cancel the calls that are under way."""
        await self._look_ups.close()
        await self._breaker.close()
        await self._endpoint.close()
        await self._keys.close()
        await self._authorization.close()
        await self._token.close()

    async def _look_up(self, key: bytes, token: str, client: str | None) -> Token:
        joins = self._look_ups.is_running(key)
        result = "joined" if joins else "miss"
        JOINED.add(int(joins))
        try:
            if self._cache.is_failing(key):
                raise ProviderFailsForToken("the provider failed for it just now")
            found, source = await self._look_ups.run(key, partial(self._find, key, token, client))
            if not joins:
                result = source
            return found
        except ProviderUnreachable:
            # Whatever else is wrong, the provider or this service refuses to answer, and anybody
            # may have caused that in order to keep a revoked token alive.
            if (stale := self._cache.get_stale(key)) is None:
                raise
            result = "stale"
            self._log.warning("The identity provider is down; using stale cached responses")
            return stale
        finally:
            # Each look-up counts once, so that their sum is that of the requests.
            CACHE_LOOKUPS.add(1, {"result": result})
            JOINED.add(-int(joins))

    async def _find(self, key: bytes, token: str, client: str | None) -> tuple[Token, str]:
        """Return the token, and whether that was a ``miss`` or ``shared`` by a replica."""
        fresh_seconds, shared_cache = self._settings.token_cache_seconds, self._shared_cache
        if shared_cache is not None and (entry := await shared_cache.get(key)):
            jwt = read_unverified_jwt(token)
            shared = self._validator.read(entry.members, jwt, entry.checked_at)
            if shared.data.active and shared.serves(fresh_seconds, self._clock.time()):
                self._cache.put(key, shared)
                return shared, "shared"
        try:
            checked = await self._check(key, token, client)
        except ProviderFailsForToken:
            self._cache.mark_failing(key)
            raise
        self._cache.put(key, checked)
        seconds = checked.serves_until(fresh_seconds) - self._clock.time()
        if shared_cache is not None and checked.data.active and seconds > 0:
            members = checked.data.model_dump(exclude_none=True)
            entry = SharedResponse(members, checked.checked_at)
            await shared_cache.put(key, entry, seconds)
        return checked, "miss"

    async def _check(self, key: bytes, token: str, client: str | None) -> Token:
        """Ask the provider about the token, or verify it, or both."""
        # Taken before the call, because the token may be revoked while the response is on its way.
        checked_at = self._clock.time()
        if self._settings.sso_mode == "introspect":
            jwt, known = read_unverified_jwt(token), self._cache.is_known(key)
            members = await self._introspect(token, client, known=known)
            checked = self._validator.read(members, jwt, checked_at)
        else:
            jwt = await self._verify(token)
            claims = {**jwt.claims, "active": True}
            checked = self._validator.read(
                claims, jwt, checked_at, is_complete=self._settings.sso_mode == "jwt"
            )
        if self._settings.sso_mode == "both":
            # The signed claims must be valid by themselves: the response cannot correct them.
            self._validator.validate(checked, [])
            # Nobody can invent a token that comes so far.
            response = await self._introspect(token, client, known=True)
            said = {name: value for name, value in response.items() if value is not None}
            merged = self._validator.read(claims | said, jwt, checked_at)
            checked = merged.ending_with(checked.data)
        self._answered_at = self._clock.monotonic()
        return checked

    async def _introspect(
        self, token: str, client: str | None, *, known: bool
    ) -> Mapping[str, object]:
        async with self._admission.admit(client, known=known) as admitted:
            members = await self._breaker.introspect(token)
            admitted.was_active = is_active = members["active"] is True
        self._warn_of_silence(is_active=is_active, known=known)
        return members

    async def _verify(self, token: str) -> Jwt:
        try:
            return await self._verifier.verify_signature(token)
        except InvalidJwt as error:
            # The details are constant, and hold nothing of the token.
            logger.info("A JWT was refused: %s", error)
            REFUSALS.add(1, {"reason": "jwt"})
            raise TokenInvalid(str(error)) from None

    def _warn_of_silence(self, *, is_active: bool, known: bool) -> None:
        """Warn if every token is inactive, as some providers answer to a wrong secret."""
        if is_active:
            self._has_been_active, self._inactive_in_a_row = True, 0
            return
        if self._has_been_active and not known:
            # Anybody can present tokens that were never good.
            return
        self._inactive_in_a_row += 1
        if self._inactive_in_a_row >= _INACTIVE_TO_WARN:
            self._log.warning(
                "The provider calls one token after the other inactive, the last %s%s: if some of"
                " them are good, check CLIENT_ID and CLIENT_SECRET, because some providers answer"
                " so to a wrong secret",
                self._inactive_in_a_row,
                ", which were active before" if self._has_been_active else " since the start",
            )


@asynccontextmanager
async def open_introspector(
    settings: CoreSettings,
    *,
    clock: Clock = time,
    transport: httpx2.AsyncBaseTransport | None = None,
    timeouts: Timeouts = _USUAL_TIMEOUTS,
) -> AsyncIterator[Introspector]:
    """Hold the connections to the provider open for as long as the application runs.

    A test may give a clock of its own, and a transport in the place of the network.

    Raises:
        SystemExit: A file or URL of the settings cannot be used.
    """
    # Tests say nothing about the provider of the service.
    is_chosen = "sso_jwt_type" in settings.model_fields_set or settings.environment == "test"
    if settings.sso_mode != "introspect" and settings.sso_jwt_type == "any" and not is_chosen:
        logger.warning(
            "Every JWT that the provider signs for SSO_AUDIENCE may be taken for an access token,"
            " an ID token too: set SSO_JWT_TYPE=at+jwt if its access tokens have that typ, and"
            " SSO_JWT_TYPE=any if they do not"
        )
    async with (
        create_client(settings, transport) as client,
        open_shared_cache(settings, clock, timeouts.shared_cache) as shared_cache,
    ):
        introspector = Introspector(client, settings, shared_cache, clock=clock, timeouts=timeouts)
        try:
            yield introspector
        finally:
            await introspector.close()
