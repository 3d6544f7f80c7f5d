"""The cache that replicas share, in a Valkey or Redis server.

Entries are encrypted with TOKEN_CACHE_SECRET or with the client's own credentials: whoever reads
the server learns no claims, and whoever writes to it can make no token good. While it does not
answer, the provider is asked instead.
"""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from valkey.asyncio import BlockingConnectionPool, Valkey
from valkey.asyncio.retry import Retry
from valkey.backoff import NoBackoff
from valkey.exceptions import ValkeyError

from app.core.rate_limited_log import RateLimitedLog
from app.core.settings import CoreSettings, is_random
from app.utils.sso.resource_server.clock import Clock
from app.utils.sso.resource_server.token_cache import SharedResponse

logger = logging.getLogger(__name__)

# How long a server that did not answer is left alone.
_SUSPENDED_SECONDS = 5
_CONNECTIONS = 50
_NONCE_BYTES = 12


class ValkeyCache:
    """The provider's responses, where all replicas find them."""

    def __init__(
        self, client: Valkey, encryption_key: bytes, clock: Clock, timeout_seconds: float
    ) -> None:
        self._client = client
        self._clock = clock
        # For connecting and for asking.
        self._timeout_seconds = 2 * timeout_seconds
        self._cipher = AESGCM(encryption_key)
        self._log = RateLimitedLog(logger, clock)
        self._suspended_until = 0.0
        self._calls = 0

    async def get(self, key: bytes) -> SharedResponse | None:
        """Return a replica's entry, or None where there is none or the server does not answer."""
        sealed: bytes | None = await self._ask(lambda: self._client.get(_name(key)))
        return None if sealed is None else self._opened(sealed, key)

    async def put(self, key: bytes, response: SharedResponse, seconds: float) -> None:
        """Keep an entry for so many seconds, if the server answers."""
        sealed, milliseconds = self._sealed(response, key), max(1, int(seconds * 1000))
        await self._ask(lambda: self._client.set(_name(key), sealed, px=milliseconds))

    async def _ask[T](self, call: Callable[[], Awaitable[T]]) -> T | None:
        """Return what the server answers, or None if it is not asked, or does not answer."""
        # A flood of tokens must not look like a server that does not answer, so nobody waits for
        # a connection.
        is_busy = self._calls >= _CONNECTIONS
        if is_busy or self._clock.monotonic() < self._suspended_until:
            return None
        self._calls += 1
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await call()
        except (ValkeyError, OSError, TimeoutError) as error:
            self._suspend(error)
            return None
        finally:
            self._calls -= 1

    def _suspend(self, error: Exception) -> None:
        self._suspended_until = self._clock.monotonic() + _SUSPENDED_SECONDS
        self._log.warning(
            "The token cache does not answer (%s); the provider is asked instead",
            type(error).__name__,
        )

    def _sealed(self, response: SharedResponse, key: bytes) -> bytes:
        content = {
            "given_at": response.checked_at,
            "token": response.members,
        }
        nonce = os.urandom(_NONCE_BYTES)
        # The key is authenticated too, so that no entry can be moved to another token's place.
        return nonce + self._cipher.encrypt(nonce, json.dumps(content).encode(), key)

    def _opened(self, sealed: bytes, key: bytes) -> SharedResponse | None:
        try:
            nonce, text = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            content: Mapping[str, object] = json.loads(self._cipher.decrypt(nonce, text, key))
            given_at, members = content["given_at"], content["token"]
            if not isinstance(given_at, float) or not isinstance(members, dict):
                return None
        except (InvalidTag, ValueError, KeyError, TypeError):
            # It is of a release with another format, of other credentials, or forged.
            self._log.warning("The token cache holds an entry that is not ours; it is not used")
            return None
        return SharedResponse(members, given_at)


@asynccontextmanager
async def open_valkey_cache(
    settings: CoreSettings, clock: Clock, timeout_seconds: float
) -> AsyncIterator[ValkeyCache | None]:
    """Hold the connections to the server of ``TOKEN_CACHE_URL`` open; none is made before use.

    Without a secret that nobody can guess, nothing is shared: whoever writes to the server could
    make up tokens.

    Raises:
        SystemExit: The URL is not one of a Valkey server, or has an unknown option.
    """
    assert settings.token_cache_url is not None  # noqa: S101 - open_shared_cache() asks first
    try:
        pool = BlockingConnectionPool.from_url(
            settings.token_cache_url.get_secret_value(),
            max_connections=_CONNECTIONS,
            timeout=timeout_seconds,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
        )
        # Entries are bytes and no text, whatever the URL asks for.
        pool.connection_kwargs["decode_responses"] = False
        # This does not connect yet, and finds an unknown option of the URL now.
        pool.connection_class(**pool.connection_kwargs)
    except (ValueError, TypeError, ValkeyError):
        raise SystemExit(
            "The service cannot start: write TOKEN_CACHE_URL as "
            "valkey://user:password@host:6379/0, or valkeys:// for TLS, without options that the "
            "package valkey does not understand."
        ) from None
    key = _encryption_key(settings)
    if key is None:
        logger.warning(
            "TOKEN_CACHE_URL is not used, because CLIENT_SECRET can be guessed: set "
            "TOKEN_CACHE_SECRET to the output of `openssl rand -base64 32`, the same for every "
            "replica"
        )
        yield None
        return
    client = Valkey.from_pool(pool)
    try:
        yield ValkeyCache(client, key, clock, timeout_seconds)
    finally:
        await client.aclose()


def _name(key: bytes) -> str:
    return f"sso:token:{key.hex()}"


def _encryption_key(settings: CoreSettings) -> bytes | None:
    """Derive a key from what only the replicas of this service know (RFC 5869)."""
    own = settings.token_cache_secret
    if own is None and settings.client_private_key_file is not None:
        secret = settings.client_private_key_file.read_bytes()
    else:
        text = (own or settings.client_secret).get_secret_value()
        if not is_random(text):
            return None
        secret = text.encode()
    return HKDF(SHA256(), length=32, salt=None, info=b"token cache").derive(secret)
