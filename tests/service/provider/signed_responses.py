"""Introspection responses that are signed JWTs (RFC 9701)."""

import json
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.service.provider.faults import Faults, JwtFlaw
from tests.service.provider.state import ProviderState

_JWT_TYPE = "token-introspection+jwt"
_MEDIA_TYPE = f"application/{_JWT_TYPE}"


class SignedResponses:
    """Put a successful introspection response into a JWT for a client that accepts one."""

    def __init__(self, app: ASGIApp, state: ProviderState) -> None:
        """Wrap the application of a provider."""
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request, and sign the response if the client asked for that (§4)."""
        path = f"{self._state.config.issuer_path}/introspect"
        wanted = scope["type"] == "http" and scope["path"] == path
        if not wanted or _MEDIA_TYPE not in Headers(scope=scope).get("accept", "").lower():
            await self._app(scope, receive, send)
            return
        # The request counts against the faults, so they are read before it.
        faults = self._state.faults.current
        flaw = faults.introspection_jwt if isinstance(faults, Faults) else None
        sent: list[Message] = []

        async def collect(message: Message) -> None:
            sent.append(message)

        await self._app(scope, receive, collect)
        start, *chunks = sent
        headers = MutableHeaders(raw=start["headers"])
        plain = headers.get("content-type") == "application/json"
        sealable = start["status"] == 200 and plain and "content-encoding" not in headers
        complete = not chunks[-1].get("more_body", False)
        if sealable and complete and flaw != "plain_json":
            body = self._sign(b"".join(chunk.get("body", b"") for chunk in chunks), flaw)
            headers["Content-Type"] = _MEDIA_TYPE
            headers["Content-Length"] = str(len(body))
            chunks = [{"type": "http.response.body", "body": body}]
        for message in (start, *chunks):
            await send(message)

    def _sign(self, document: bytes, flaw: JwtFlaw | None) -> bytes:
        """Return the JWT of RFC 9701 §5 around a document, which may itself be faulty JSON."""
        config, keys = self._state.config, self._state.tokens.key
        claims = {
            "iss": f"{config.issuer}/another" if flaw == "wrong_issuer" else config.issuer,
            "aud": f"{config.client_id}-another" if flaw == "wrong_audience" else config.client_id,
            "iat": int(time.time()),
        }
        opened = json.dumps(claims).encode().removesuffix(b"}")
        signed = keys.sign_bytes(
            opened + b', "token_introspection": ' + document + b"}",
            algorithm="none" if flaw == "unsigned" else "RS256",
            typ="JWT" if flaw == "wrong_typ" else _JWT_TYPE,
        )
        if flaw == "wrong_signature":
            # The signature of something else is as long as the right one, and as well-formed.
            signed = f"{signed.rpartition('.')[0]}.{keys.sign({}).rpartition('.')[2]}"
        return signed.encode()
