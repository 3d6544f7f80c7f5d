"""The provider's public keys, and what is signed with them (RFC 7515, RFC 7517)."""

import logging
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

import httpx2
import jwt
from jwt.types import JWKDict

from app.core.settings import CoreSettings
from app.utils.sso.errors import ProviderMisconfigured, ProviderUnavailable
from app.utils.sso.resource_server.discovery import Discovery
from app.utils.sso.resource_server.provider_client import deadline, fetch, parse_object
from app.utils.sso.resource_server.provider_errors import Misconfigured, Unreachable
from app.utils.sso.resource_server.rate_limited_log import SparingLog
from app.utils.sso.resource_server.single_flight import SingleFlight

_FRESH_SECONDS = 600
# How long a failed attempt, or an unknown key, keeps the next one back.
_COOLDOWN_SECONDS = 30
_RETRY_SECONDS = 5
_MAX_KEYS_TRIED = 8

# What each algorithm signs with (RFC 7518 §3.1, RFC 8037 §3.1, RFC 9864 §2.2). Neither HS256, whose
# key would be the public one, nor "none".
_KEY_TYPES = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    **dict.fromkeys(("EdDSA", "Ed25519"), "OKP"),
}
_JWS = jwt.PyJWS(options={"enforce_minimum_key_length": True})
# PyJWT knows it by its older, wider name only.
_JWS.register_algorithm("Ed25519", _JWS.get_algorithm_by_name("EdDSA"))


class InvalidSignature(Exception):
    """The text is no JWT, or none that the provider signed; the message is for the caller."""


class Verified(NamedTuple):
    """A JWT whose signature is the provider's. Its claims are not judged yet."""

    header: Mapping[str, object]
    claims: dict[str, object]


class ProviderKeys:
    """The keys of the provider's JWKS, renewed every ten minutes and kept through an outage."""

    def __init__(self, client: httpx2.AsyncClient, settings: CoreSettings) -> None:
        self._client = client
        self._configured = settings.sso_jwks_url
        self._discovery = Discovery(client, settings, "jwks_uri")
        self._log = SparingLog(logging.getLogger(__name__))
        # A fetch is nobody's own: a health check that gives up must not end the others' too.
        self._fetches = SingleFlight[None, None]()
        self._documents: list[JWKDict] = []
        self._keys: dict[tuple[int, str], jwt.PyJWK | None] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._fault: Exception | None = None

    async def verify(self, token: str) -> Verified:
        """Return what is in a JWT that the provider has signed.

        Raises:
            InvalidSignature: It is none, or signed in a way or with a key that is not accepted.
            ProviderUnavailable: The keys cannot be had, now or before.
            ProviderMisconfigured: The provider is not the one of the settings.
        """
        try:
            header = _JWS.get_unverified_header(token)
        except jwt.PyJWTError:
            raise InvalidSignature("The token is not a JWT.") from None
        algorithm, key_id = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in _KEY_TYPES:
            raise InvalidSignature("The token is signed with an algorithm that is not accepted.")
        for key in await self._candidates(algorithm, key_id):
            try:
                payload = _JWS.decode(token, key.key, algorithms=[algorithm])
            except jwt.PyJWTError:
                continue
            try:
                return Verified(header, parse_object(payload))
            except (ValueError, OverflowError, RecursionError):
                raise InvalidSignature("The token's claims cannot be read.") from None
        raise InvalidSignature("The token is not signed by the identity provider.")

    async def refresh(self) -> None:
        """Fetch the keys, if that was not tried just now.

        Raises:
            ProviderUnavailable: They cannot be had, and there are none from before.
            ProviderMisconfigured: The provider is not the one of the settings.
        """
        if self._may_fetch():
            await self._fetches.ask(None, self._fetch)
        if self._fault is not None and not self._documents:
            if isinstance(self._fault, Misconfigured):
                raise ProviderMisconfigured
            raise ProviderUnavailable

    async def close(self) -> None:
        """Break off what is being fetched."""
        await self._fetches.close()
        await self._discovery.close()

    def _may_fetch(self) -> bool:
        pause = _RETRY_SECONDS if self._fault is not None else _COOLDOWN_SECONDS
        return time.monotonic() - self._tried_at >= pause

    async def _candidates(self, algorithm: str, key_id: object) -> list[jwt.PyJWK]:
        if time.monotonic() - self._fetched_at >= _FRESH_SECONDS:
            if self._fault is None:
                await self.refresh()
            elif self._may_fetch():
                # The provider is down, and the last good keys serve on: nobody waits for it.
                self._fetches.start(None, self._fetch)
        if not (found := self._matching(algorithm, key_id)):
            # A new key, or an invented one: ask again, but not for each invention.
            await self.refresh()
            found = self._matching(algorithm, key_id)
            if not found and self._fault is not None:
                # The key may be in the document that could not be fetched.
                raise ProviderUnavailable
        return found

    def _matching(self, algorithm: str, key_id: object) -> list[jwt.PyJWK]:
        found = []
        for index, document in enumerate(self._documents):
            if key_id is not None and document.get("kid") != key_id:
                continue
            if _serves(document, algorithm) and (key := self._built(index, algorithm)):
                found.append(key)
        return found[:_MAX_KEYS_TRIED]

    def _built(self, index: int, algorithm: str) -> jwt.PyJWK | None:
        # Building one costs as much as a verification.
        if (index, algorithm) not in self._keys:
            try:
                # The algorithm is given, because PyJWT would take RS256 where the key names none.
                known_as = "EdDSA" if algorithm == "Ed25519" else algorithm
                key = jwt.PyJWK(self._documents[index], algorithm=known_as)
            except (jwt.PyJWTError, ValueError, TypeError, KeyError):
                key = None
            self._keys[index, algorithm] = key
        return self._keys[index, algorithm]

    async def _fetch(self) -> None:
        try:
            # One deadline for all of it: discovery may take several calls, each with its own.
            async with deadline():
                documents = await self._read()
            self._documents, self._keys = documents, {}
            if not documents:
                # Those of before are withdrawn, and no token is to blame that there are none.
                raise Unreachable("200 with an empty set of keys")
        except (Unreachable, Misconfigured) as fault:
            self._fault = fault
            self._log.error("The identity provider's keys cannot be fetched: %s", fault)
        else:
            self._fault = None
            self._fetched_at = time.monotonic()
        finally:
            self._tried_at = time.monotonic()

    async def _read(self) -> list[JWKDict]:
        url = self._configured or await self._discovery.endpoint()
        reply = await fetch(self._client, self._client.build_request("GET", url))
        if reply.status == HTTPStatus.NOT_FOUND:
            self._discovery.doubt()
        if reply.status != HTTPStatus.OK:
            raise Unreachable(f"{reply.status} for the keys")
        try:
            documents = parse_object(reply.body)["keys"]
        except (KeyError, ValueError, OverflowError, RecursionError):
            documents = None
        if not isinstance(documents, list):
            raise Unreachable("200 with a body that is no set of keys")
        return [document for document in documents if isinstance(document, dict)]


def _serves(document: JWKDict, algorithm: str) -> bool:
    """Whether a key may verify the algorithm (RFC 7517 §4)."""
    return (
        document.get("kty") == _KEY_TYPES[algorithm]
        # A private key, published by mistake: whoever has read it could have signed the token.
        and "d" not in document
        and document.get("use", "sig") == "sig"
        and document.get("alg", algorithm) == algorithm
        and (algorithm != "Ed25519" or document.get("crv") == "Ed25519")
    )
