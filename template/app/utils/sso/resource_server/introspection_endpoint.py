"""One call to the introspection endpoint (RFC 7662 §2), and what its reply means."""

import time
from http import HTTPStatus

import httpx2
from pydantic import ValidationError

from app.core.settings import CoreSettings
from app.utils.sso.errors import ProviderMisconfigured, ProviderUnavailable
from app.utils.sso.introspection_schema import ClaimNames, TokenData
from app.utils.sso.resource_server.client_authentication import ClientAuthentication
from app.utils.sso.resource_server.discovery import Discovery
from app.utils.sso.resource_server.jwks_client import InvalidSignature, ProviderKeys
from app.utils.sso.resource_server.metrics import INTROSPECTION_DURATION
from app.utils.sso.resource_server.provider_client import Reply, deadline, fetch, parse_object
from app.utils.sso.resource_server.provider_errors import (
    Misconfigured,
    ProviderFault,
    Throttled,
    Troubled,
    Unreachable,
)

# RFC 6749 §5.2: the errors that are about us and not about the token.
_CLIENT_ERRORS = ("invalid_client", "unauthorized_client")
_NOT_THERE = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
_SIGNED = "application/token-introspection+jwt"
_UNREADABLE = "a body that is no introspection response"


class IntrospectionEndpoint:
    """The provider's introspection endpoint, with this service's credentials for it."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        settings: CoreSettings,
        keys: ProviderKeys,
        names: ClaimNames,
    ) -> None:
        self._client = client
        self._issuer = settings.sso_issuer
        self._client_id = settings.client_id
        self._signed = settings.sso_introspection_response == "jwt"
        self._configured = settings.sso_introspection_url
        self._authentication = ClientAuthentication(settings)
        self._discovery = Discovery(client, settings, "introspection_endpoint")
        self._keys = keys
        self._names = names

    async def ask(self, token: str) -> TokenData:
        """Return what the provider says about ``token``; ``active`` may be false.

        Raises:
            Unreachable: There was no reply, or none that RFC 7662 allows.
            Misconfigured: The provider does not accept this service as a client.
            Throttled: The provider limits the rate.
            Troubled: 400 or 5xx, which may be the provider's fault or the token's.
        """
        outcome, begin = "error", time.monotonic()
        try:
            # One deadline for all of it: discovery may take several calls, each with its own.
            async with deadline():
                data = await self._ask(token)
            outcome = "active" if data.active else "inactive"
        except ProviderFault as fault:
            outcome = type(fault).__name__.lower()
            raise
        finally:
            duration = time.monotonic() - begin
            INTROSPECTION_DURATION.record(duration, {"outcome": outcome})
        return data

    async def close(self) -> None:
        """Break off what is being looked up."""
        await self._discovery.close()

    async def _ask(self, token: str) -> TokenData:
        endpoint = self._configured or await self._discovery.endpoint()
        form = {"token": token, "token_type_hint": "access_token"} | self._authentication.fields()
        headers = self._authentication.headers()
        if self._signed:
            headers["Accept"] = _SIGNED
        request = self._client.build_request("POST", endpoint, data=form, headers=headers)
        reply = await fetch(self._client, request)
        if reply.status in _NOT_THERE:
            self._discovery.doubt()
        _raise_for_status(reply)
        members = await self._signed_members(reply) if self._signed else _members(reply)
        try:
            return TokenData.read(members, self._names)
        except ValidationError as error:
            raise Unreachable(f"{reply.status} with {_wrong_members(error)}") from None
        except (ValueError, OverflowError, RecursionError):
            raise Unreachable(f"{reply.status} with {_UNREADABLE}") from None

    async def _signed_members(self, reply: Reply) -> dict[str, object]:
        """Return the response that the provider has signed for this client (RFC 9701 §5)."""
        if reply.media_type != _SIGNED:
            raise Unreachable(f"{reply.status} with a response that is not signed (RFC 9701)")
        try:
            verified = await self._keys.verify(reply.body.decode("ascii").strip())
        except (InvalidSignature, UnicodeDecodeError):
            raise Unreachable(f"{reply.status} with a signature that is not good") from None
        # The circuit breaker counts faults, and would not see these.
        except ProviderUnavailable:
            raise Unreachable("its keys cannot be had") from None
        except ProviderMisconfigured:
            raise Misconfigured("its keys cannot be had") from None
        claims, members = verified.claims, verified.claims.get("token_introspection")
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        meant_for_us = (
            str(verified.header.get("typ")).lower() == "token-introspection+jwt"
            and claims.get("iss") == self._issuer
            and self._client_id in audiences
        )
        if not meant_for_us or not isinstance(members, dict):
            raise Unreachable(f"{reply.status} with a signed response for somebody else")
        return members


def _members(reply: Reply) -> dict[str, object]:
    try:
        return parse_object(reply.body)
    except (ValueError, OverflowError, RecursionError):
        raise Unreachable(f"{reply.status} with {_UNREADABLE}") from None


def _wrong_members(error: ValidationError) -> str:
    # Their names are RFC 7662's and may be logged; what they hold may not.
    names = dict.fromkeys(str(details["loc"][0]) for details in error.errors())
    return f"a response whose {', '.join(names)} RFC 7662 does not allow"


def _raise_for_status(reply: Reply) -> None:
    match reply.status:
        case HTTPStatus.OK:
            return
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            raise Misconfigured(_credentials(reply.status))
        case HTTPStatus.BAD_REQUEST if _error_code(reply.body) in _CLIENT_ERRORS:
            raise Misconfigured(_credentials(reply.status))
        case status if status in _NOT_THERE:
            raise Misconfigured(f"there is no introspection endpoint at its URL ({reply.status})")
        case HTTPStatus.TOO_MANY_REQUESTS:
            raise Throttled(reply.retry_after)
        case status if status == HTTPStatus.BAD_REQUEST or status >= 500:
            raise Troubled(status)
    # The body is not repeated: it may hold the token.
    raise Unreachable(f"{reply.status}, an unexpected status")


def _credentials(status: int) -> str:
    return f"it refuses this service's credentials ({status}): check CLIENT_ID and CLIENT_SECRET"


def _error_code(body: bytes) -> object:
    try:
        return parse_object(body).get("error")
    except (ValueError, OverflowError, RecursionError):
        return None
