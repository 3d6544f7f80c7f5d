"""Asking the identity provider about a token (RFC 7662)."""

import base64
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from urllib.parse import quote_plus

import httpx2

from app.core.settings import CoreSettings
from app.utils.sso.discovery import Discovery
from app.utils.sso.errors import ProviderMisconfigured, ProviderUnavailable, TokenInvalid
from app.utils.sso.fetch import Reply, create_client, fetch, parse_object
from app.utils.sso.introspection_schema import TokenData

logger = logging.getLogger(__name__)

_MAX_RETRY_AFTER_SECONDS = 60
# RFC 6749 §5.2: the errors that are about us and not about the token.
_CLIENT_ERRORS = ("invalid_client", "unauthorized_client")


class Introspector:
    """The provider's introspection endpoint, with this service's credentials for it."""

    def __init__(self, client: httpx2.AsyncClient, settings: CoreSettings) -> None:
        self._client = client
        self._configured_endpoint = settings.sso_introspection_url
        self._authorization = _basic_authorization(
            settings.client_id, settings.client_secret.get_secret_value()
        )
        self._discovery = Discovery(
            client, settings.sso_issuer, require_tls=settings.environment == "production"
        )

    async def introspect(self, token: str) -> TokenData:
        """Return what the provider says about ``token``; ``active`` may be false.

        Raises:
            TokenInvalid: The provider cannot read this token at all.
            ProviderUnavailable: The provider does not answer, or not as RFC 7662 asks.
            ProviderMisconfigured: The provider does not accept this service as a client.
        """
        endpoint = self._configured_endpoint or await self._discovery.introspection_endpoint()
        request = self._client.build_request(
            "POST",
            endpoint,
            data={"token": token, "token_type_hint": "access_token"},
            headers={"Authorization": self._authorization},
        )
        return _read(await fetch(self._client, request))


def _basic_authorization(client_id: str, client_secret: str) -> str:
    # RFC 6749 §2.3.1: both parts are form-urlencoded before they are joined, or a colon in the
    # identifier would move the border between them.
    credentials = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
    return "Basic " + base64.b64encode(credentials.encode()).decode()


def _read(reply: Reply) -> TokenData:
    match reply.status:
        case HTTPStatus.OK:
            pass
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            raise _misconfigured(reply.status)
        case HTTPStatus.BAD_REQUEST if _error_code(reply.body) in _CLIENT_ERRORS:
            raise _misconfigured(reply.status)
        case HTTPStatus.BAD_REQUEST:
            # Some providers refuse what they cannot parse, where RFC 7662 §2.2 wants
            # {"active": false}. To the caller it is the same.
            raise TokenInvalid("The token is not one of the identity provider's.")
        case HTTPStatus.TOO_MANY_REQUESTS:
            logger.warning("Identity provider limits the rate of introspection (429)")
            raise ProviderUnavailable(_retry_after(reply.retry_after))
        case _:
            raise _untrusted(reply.status, "an unexpected status")
    try:
        return TokenData.model_validate(parse_object(reply.body))
    except (ValueError, OverflowError, RecursionError):
        raise _untrusted(reply.status, "a body that is no introspection response") from None


def _misconfigured(status: int) -> ProviderMisconfigured:
    logger.error(
        "Identity provider refuses this service's credentials for introspection (%s):"
        " check CLIENT_ID and CLIENT_SECRET",
        status,
    )
    return ProviderMisconfigured()


def _untrusted(status: int, what: str) -> ProviderUnavailable:
    # The body is not logged: it may repeat the token.
    logger.error("Identity provider answered introspection with %s (%s)", what, status)
    return ProviderUnavailable()


def _error_code(body: bytes) -> object:
    try:
        return parse_object(body).get("error")
    except (ValueError, OverflowError, RecursionError):
        return None


def _retry_after(header: str | None) -> int | None:
    if header is None or not re.fullmatch(r"[0-9]{1,9}", header):
        return None
    return min(int(header), _MAX_RETRY_AFTER_SECONDS)


@asynccontextmanager
async def open_introspector(settings: CoreSettings) -> AsyncIterator[Introspector]:
    """Hold the connections to the provider open for as long as the application runs."""
    async with create_client() as client:
        yield Introspector(client, settings)
