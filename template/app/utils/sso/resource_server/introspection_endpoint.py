"""One call to the introspection endpoint (RFC 7662 §2), and what its reply means."""

import time
from collections.abc import Mapping
from functools import lru_cache, partial
from http import HTTPStatus
from typing import NoReturn

from app.core.settings import CoreSettings
from app.utils.sso.resource_server.client_authentication import ClientAuthentication
from app.utils.sso.resource_server.clock import Clock
from app.utils.sso.resource_server.connection_failures import origin
from app.utils.sso.resource_server.discovery import Discovery
from app.utils.sso.resource_server.jwt_verifier import InvalidJwt, JwtVerifier
from app.utils.sso.resource_server.metrics import INTROSPECTION_DURATION
from app.utils.sso.resource_server.provider_client import ProviderClient, Reply
from app.utils.sso.resource_server.provider_errors import (
    ProviderConfigurationError,
    ProviderError,
    ProviderErrorResponse,
    ProviderRateLimited,
    ProviderUnreachable,
)
from app.utils.sso.resource_server.strict_json import parse_object

# RFC 6749 §5.2: the errors that are about the client and not about the token.
_CLIENT_ERRORS = ("invalid_client", "unauthorized_client")
_NOT_FOUND = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
_SIGNED = "application/token-introspection+jwt"
_UNREADABLE = "a body that is no introspection response"
_UNDECIDED = "a response whose active is not a boolean (RFC 7662)"


class IntrospectionEndpoint:
    """The provider's introspection endpoint, with this service's credentials for it."""

    def __init__(
        self,
        provider: ProviderClient,
        settings: CoreSettings,
        verifier: JwtVerifier,
        clock: Clock,
    ) -> None:
        self._provider = provider
        self._issuer = settings.sso_issuer
        self._client_id = settings.client_id
        self._signed = settings.sso_introspection_response == "jwt"
        self._configured_url = settings.sso_introspection_url
        self._authentication = ClientAuthentication(settings)
        self._discovery = Discovery(provider, settings, "introspection_endpoint", clock)
        accept = {"Accept": _SIGNED} if self._signed else {}
        headers = self._authentication.headers() | accept
        self._prepared = lru_cache(1)(partial(provider.prepare_post, headers=headers))
        self._verifier = verifier

    async def introspect(self, token: str) -> Mapping[str, object]:
        """Return what the provider says about ``token``; its member ``active`` is a boolean.

        A reply that is no introspection response (RFC 7662 §2.2) is as good as none.
        """
        outcome, begin = ProviderError.outcome, time.monotonic()
        try:
            # One deadline for all of it: discovery may take several calls, each with its own.
            async with self._provider.deadline():
                members = await self._introspect(token)
            outcome = "active" if members["active"] else "inactive"
        except ProviderError as error:
            outcome = error.outcome
            raise
        finally:
            duration = time.monotonic() - begin
            INTROSPECTION_DURATION.record(duration, {"outcome": outcome})
        return members

    async def close(self) -> None:
        """Cancel what is being looked up."""
        await self._discovery.close()

    async def _introspect(self, token: str) -> Mapping[str, object]:
        url = self._configured_url or await self._discovery.endpoint()
        prepared = self._prepared(url)
        form = {"token": token, "token_type_hint": "access_token"} | self._authentication.fields()
        reply = await self._provider.post(prepared, form)
        if reply.status in _NOT_FOUND:
            self._discovery.invalidate()
        if reply.status != HTTPStatus.OK:
            _raise_for_status(reply, origin(prepared.url))
        try:
            members = (
                await self._signed_members(reply) if self._signed else parse_object(reply.body)
            )
        except ValueError:
            raise ProviderUnreachable(f"{reply.status} with {_UNREADABLE}") from None
        if not isinstance(members.get("active"), bool):
            raise ProviderUnreachable(f"{reply.status} with {_UNDECIDED}")
        return members

    async def _signed_members(self, reply: Reply) -> dict[str, object]:
        """Return the response that the provider has signed for this client (RFC 9701 §5)."""
        if reply.media_type != _SIGNED:
            raise ProviderUnreachable(
                f"{reply.status} with a response that is not signed (RFC 9701)"
            )
        try:
            verified = await self._verifier.verify_signature(reply.body.decode("ascii").strip())
        except (InvalidJwt, UnicodeDecodeError):
            raise ProviderUnreachable(f"{reply.status} with a signature that is not good") from None
        claims, members = verified.claims, verified.claims.get("token_introspection")
        is_for_us = (
            str(verified.header.get("typ")).lower() == "token-introspection+jwt"
            and claims.get("iss") == self._issuer
            and self._client_id in verified.audiences
        )
        if not is_for_us or not isinstance(members, dict):
            raise ProviderUnreachable(f"{reply.status} with a signed response for somebody else")
        return members


def _raise_for_status(reply: Reply, where: str) -> NoReturn:
    match reply.status:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            raise _rejected(reply)
        case HTTPStatus.BAD_REQUEST if _error_code(reply.body) in _CLIENT_ERRORS:
            raise _rejected(reply)
        case status if status in _NOT_FOUND:
            raise ProviderConfigurationError(
                f"its introspection endpoint at {where} is not there ({status}); correct or set"
                " SSO_INTROSPECTION_URL"
            )
        case HTTPStatus.TOO_MANY_REQUESTS:
            raise ProviderRateLimited(reply.retry_after)
        case status if status == HTTPStatus.BAD_REQUEST or status >= 500:
            raise ProviderErrorResponse(status, where)
    # The body is not repeated: it may hold the token.
    raise ProviderUnreachable(f"{reply.status} at {where}, an unexpected status")


def _rejected(reply: Reply) -> ProviderConfigurationError:
    return ProviderConfigurationError(
        f"it refuses this service's credentials ({reply.status}): check CLIENT_ID and CLIENT_SECRET"
    )


def _error_code(body: bytes) -> object:
    try:
        return parse_object(body).get("error")
    except ValueError:
        return None
