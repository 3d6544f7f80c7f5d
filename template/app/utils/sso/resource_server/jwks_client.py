"""The provider's public keys (RFC 7517)."""

import logging
from copy import copy
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx2

from app.core.rate_limited_log import RateLimitedLog
from app.core.settings import CoreSettings
from app.utils.sso.resource_server.clock import Clock
from app.utils.sso.resource_server.connection_failures import origin
from app.utils.sso.resource_server.discovery import Discovery
from app.utils.sso.resource_server.provider_client import ProviderClient
from app.utils.sso.resource_server.provider_errors import (
    LookUpNotAdmitted,
    ProviderConfigurationError,
    ProviderError,
    ProviderUnreachable,
)
from app.utils.sso.resource_server.rate_limit import RateLimit
from app.utils.sso.resource_server.single_flight import SingleFlight
from app.utils.sso.resource_server.strict_json import parse_object

if TYPE_CHECKING:
    import jwt
    from jwt.types import JWKDict

_FRESH_SECONDS = 600
_RETRY_SECONDS = 5
# A token that fits no key causes a fetch, because the keys may have changed. So may a forged one.
_RENEWALS_AT_ONCE = 10
_RENEWALS_PER_SECOND = 1 / 3
_MAX_KEYS_TRIED = 16

# What each algorithm signs with (RFC 7518 §3.1, RFC 8037 §3.1, RFC 9864 §2.2). HS256 is left out,
# because its key would be the public one, and "none" is no signature.
KEY_TYPES = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    **dict.fromkeys(("EdDSA", "Ed25519"), "OKP"),
}
# Some providers write these for a member that they do not use.
_ABSENT = (None, "")


class JwksClient:
    """The keys of the provider's JWKS, renewed every ten minutes and kept through an outage."""

    def __init__(self, provider: ProviderClient, settings: CoreSettings, clock: Clock) -> None:
        self._provider = provider
        self._configured_url = settings.sso_jwks_url
        self._discovery = Discovery(provider, settings, "jwks_uri", clock)
        self._clock = clock
        self._log = RateLimitedLog(logging.getLogger(__name__), clock)
        # No caller owns a fetch: a health check that gives up must not end it for the requests.
        self._fetches = SingleFlight[None, None]()
        self._renewals = RateLimit(clock, per_second=_RENEWALS_PER_SECOND, burst=_RENEWALS_AT_ONCE)
        self._documents: list[JWKDict] = []
        self._keys: dict[tuple[int, str], jwt.PyJWK | None] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._error: ProviderError | None = None
        # The numbers of the fetch that was started last, and of the last one that succeeded.
        self._started = 0
        self._succeeded = 0

    @property
    def fetches(self) -> int:
        """How many fetches have been started, as ``renew`` takes it."""
        return self._started

    async def keys_for(self, algorithm: str, key_id: object) -> "list[jwt.PyJWK]":
        """Return the keys that a JWT with this ``alg`` and ``kid`` may be signed with.

        A key without a ``kid`` may have signed any JWT, and a JWT without one may be signed with
        any key (RFC 7517 §4.5, RFC 7515 §4.1.4). The list may be empty.

        Raises:
            ProviderError: There are no keys, or too many fit to try them all.
        """
        if self._clock.monotonic() - self._fetched_at >= _FRESH_SECONDS:
            if self._error is None:
                await self.refresh()
            elif self._may_try():
                # The provider is down: the last good keys stay in use, and no request waits.
                self._fetches.start(None, self._fetch)
        if not self._documents:
            await self.refresh()
        return self._matching(algorithm, key_id)

    async def renew(self, fetches: int) -> None:
        """Return when a fetch has succeeded that was started after the first ``fetches``.

        It is for a token that fits none of the keys: the provider may have changed them since.

        Raises:
            ProviderError: The keys cannot be fetched now, or were fetched too often because of
                such tokens, so that nobody can know whether this one is good.
        """
        while self._succeeded <= fetches:
            if not self._fetches.is_running(None):
                if not self._may_try():
                    self._raise_error()
                if not self._renewals.take():
                    self._log.warning(
                        "Tokens that fit none of the provider's keys have had them fetched often;"
                        " whether such a token is good stays open until the next fetch"
                    )
                    raise LookUpNotAdmitted(
                        "no more keys are fetched now", retry_after=self._renewals.retry_after
                    )
            await self._fetches.run(None, self._fetch)
            self._raise_error()

    async def refresh(self) -> None:
        """Fetch the keys, unless that has just failed."""
        if self._may_try():
            await self._fetches.run(None, self._fetch)
        if not self._documents:
            self._raise_error()

    async def close(self) -> None:
        """Cancel a fetch that is under way."""
        await self._fetches.close()
        await self._discovery.close()

    def _raise_error(self) -> None:
        if self._error is not None:
            # A copy, because raising it adds the frames of the caller, and so a token.
            raise copy(self._error)

    def _may_try(self) -> bool:
        tried_lately = self._clock.monotonic() - self._tried_at < _RETRY_SECONDS
        return self._error is None or not tried_lately

    def _matching(self, algorithm: str, key_id: object) -> "list[jwt.PyJWK]":
        found = []
        for index, document in enumerate(self._documents):
            if key_id is not None and document.get("kid") not in (key_id, *_ABSENT):
                continue
            if _serves(document, algorithm) and (key := self._key(index, algorithm)):
                found.append(key)
        if len(found) > _MAX_KEYS_TRIED:
            # Each costs a verification, and some of the tokens that they signed are good.
            self._log.error(
                "%s of the provider's keys fit a token: their kid, or the token's, is missing",
                len(found),
            )
            raise ProviderConfigurationError(f"more than {_MAX_KEYS_TRIED} keys fit a token")
        return found

    def _key(self, index: int, algorithm: str) -> "jwt.PyJWK | None":
        import jwt

        # Building one costs as much as a verification.
        if (index, algorithm) not in self._keys:
            try:
                # The algorithm is given, because PyJWT would take RS256 where the key names none.
                known_as = "EdDSA" if algorithm == "Ed25519" else algorithm
                key = jwt.PyJWK(self._documents[index], algorithm=known_as)
                # It must be of the algorithm's curve, and RSA's long enough.
                key.Algorithm.prepare_key(key.key)
                is_usable = key.Algorithm.check_key_length(key.key) is None
            except (jwt.PyJWTError, ValueError, TypeError, KeyError):
                is_usable = False
            self._keys[index, algorithm] = key if is_usable else None
        return self._keys[index, algorithm]

    async def _fetch(self) -> None:
        self._started += 1
        number = self._started
        try:
            # One deadline for all of it: discovery may take several calls, each with its own.
            async with self._provider.deadline():
                documents = await self._read()
            self._documents, self._keys = documents, {}
            if not documents:
                # The earlier keys are withdrawn, but a token is not to blame for that.
                raise ProviderUnreachable("200 for the keys, with an empty set of them")
        except ProviderError as error:
            # Without its traceback, whose frames hold what the callers hold.
            self._error = copy(error)
            self._log.error("The identity provider's keys cannot be fetched: %s", error)
        else:
            self._error = None
            self._succeeded = number
            self._fetched_at = self._clock.monotonic()
        finally:
            self._tried_at = self._clock.monotonic()

    async def _read(self) -> "list[JWKDict]":
        url = self._configured_url or await self._discovery.endpoint()
        where = f"for the keys at {origin(httpx2.URL(url))}"
        reply = await self._provider.get(url)
        if reply.status == HTTPStatus.NOT_FOUND:
            self._discovery.invalidate()
        if reply.status != HTTPStatus.OK:
            raise ProviderUnreachable(f"{reply.status} {where}")
        try:
            documents = parse_object(reply.body)["keys"]
        except (KeyError, ValueError):
            documents = None
        if not isinstance(documents, list):
            raise ProviderUnreachable(f"200 {where}, with a body that is no set of keys")
        return [document for document in documents if isinstance(document, dict)]


def _serves(document: "JWKDict", algorithm: str) -> bool:
    """Whether a key may verify the algorithm (RFC 7517 §4)."""
    return (
        document.get("kty") == KEY_TYPES[algorithm]
        # A private key that was published by mistake proves nothing: anybody can sign with it.
        and "d" not in document
        and document.get("use") in ("sig", *_ABSENT)
        and document.get("alg") in (algorithm, *_ABSENT)
        and (algorithm != "Ed25519" or document.get("crv") == "Ed25519")
    )
