"""Faults that no project needs: malformed bodies, redirects, odd keys, wrong signatures."""

import asyncio
import gzip
import json
from functools import cache
from typing import Annotated, Literal, Self

from fastapi.responses import RedirectResponse, Response
from pydantic import Field, model_validator
from starlette.types import Receive, Scope, Send

from template_tools import provider
from template_tools.provider.faults import Seconds
from template_tools.provider.forms import NO_STORE
from template_tools.provider.keys import Claims

Body = Literal["html", "gzip_bomb", "oversized", "nan", "duplicate_active", "string_active"]
JwtFlaw = Literal[
    "wrong_audience", "wrong_issuer", "wrong_typ", "wrong_signature", "unsigned", "plain_json"
]
_OVERSIZED_BYTES = 1024 * 1024
_BOMB_BYTES = 16 * 1024 * 1024


class Faults(provider.Faults):
    """How the endpoints misbehave; `Faults()` is a healthy provider. The fields combine."""

    trickle: Seconds = 0
    """Seconds between the single bytes of the body."""

    error: Annotated[str, Field(pattern=r"^[a-z_]{1,100}$")] | None = None
    """The code of the OAuth error that a `status` has, where it is not the usual one."""

    redirect_to: Annotated[str, Field(pattern=r"^https?://[!-~]{1,1000}$")] | None = None
    """Reply 307 with this Location, as if the endpoint had moved."""

    body: Body | None = None
    """Reply with an HTML page, 16 MiB of JSON in 16 KiB of gzip, 1 MiB of JSON, a NaN as `exp`,
    `active` twice (false, then true), or `"active": "true"`."""

    drop_claims: frozenset[str] = frozenset()
    """Members removed from the reply, such as aud, sub or iss."""

    always_active: bool = False
    """Call every token active, garbage included."""

    introspection_jwt: JwtFlaw | None = None
    """What is wrong with an introspection response that was requested as a JWT (RFC 9701).

    The other fields change the document inside. With `plain_json`, a `status`, an HTML page or a
    bomb there is no JWT at all."""

    without_key_members: frozenset[str] = frozenset()
    """Members missing from every key of the JWKS: many providers publish no alg, some no kid."""

    override_key_members: Claims = Field(default={})
    """Members that every key of the JWKS gets, such as the same kid."""

    extra_keys: list[Claims] = Field(default=[])
    """Keys that come first in the JWKS, as they stand: symmetric, unknown, broken or others'."""

    @model_validator(mode="after")
    def _keys_can_be_sent(self) -> Self:
        """Refuse what JSON cannot carry; the NaN of `body` is written by hand."""
        json.dumps(self.extra_keys, allow_nan=False, ensure_ascii=False).encode()
        return self

    @model_validator(mode="after")
    def _have_an_effect(self) -> Self:
        """Refuse a field whose endpoint is healthy: the test that sets it would prove nothing."""
        odd_keys = self.without_key_members or self.override_key_members or self.extra_keys
        if odd_keys and "jwks" not in self.endpoints:
            raise ValueError("The keys are faulty only when the endpoints include jwks.")
        if self.introspection_jwt and "introspection" not in self.endpoints:
            raise ValueError("The JWT is faulty only when the endpoints include introspection.")
        return self

    async def respond(self, document: Claims) -> Response:
        """Return the response for a JSON document, with these faults applied."""
        document = {**self._with_odd_keys(document), **self.override_claims}
        document = {name: document[name] for name in document if name not in self.drop_claims}
        response = await super().respond(document)
        if self.redirect_to is not None:
            return RedirectResponse(self.redirect_to, headers=NO_STORE)
        if self.body is not None or self.error is not None:
            response = self._with_body(document, response)
        if self.trickle:
            return _Trickle(response, self.trickle)
        return response

    def _with_odd_keys(self, document: Claims) -> Claims:
        keys = document.get("keys")
        if not isinstance(keys, list):
            return document
        missing = self.without_key_members
        kept = [
            {name: key[name] for name in key if name not in missing} | self.override_key_members
            for key in keys
            if isinstance(key, dict)
        ]
        return {**document, "keys": [*self.extra_keys, *kept]}

    def _with_body(self, document: Claims, response: Response) -> Response:
        headers = {
            name: value
            for name, value in response.headers.items()
            if name not in ("content-length", "content-type")
        }
        headers["Content-Type"] = "text/html" if self.body == "html" else "application/json"
        if self.body == "gzip_bomb":
            headers["Content-Encoding"] = "gzip"
        body = _body({"error": self.error} if self.error else document, self.body)
        return Response(body, response.status_code, headers)


class _Trickle(Response):
    """A response whose body is sent byte by byte."""

    def __init__(self, response: Response, seconds: float) -> None:
        super().__init__(response.body, response.status_code)
        self.raw_headers = response.raw_headers
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        for byte in bytes(self.body):
            await send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
            await asyncio.sleep(self._seconds)
        await send({"type": "http.response.body", "body": b""})


def _body(document: Claims, kind: Body | None) -> bytes:
    match kind:
        case "html":
            return b"<!doctype html><title>Sign in</title><p>Please sign in.</p>"
        case "gzip_bomb":
            return _bomb()
        case "oversized":
            return json.dumps({**document, "padding": "x" * _OVERSIZED_BYTES}).encode()
        case "nan":
            return json.dumps({**document, "exp": float("nan")}).encode()
        case "duplicate_active":
            rest = json.dumps({**document, "active": True}).removeprefix("{")
            return f'{{"active": false, {rest}'.encode()
        case "string_active":
            return json.dumps({**document, "active": "true"}).encode()
        case None:
            return json.dumps(document).encode()


@cache
def _bomb() -> bytes:
    return gzip.compress(b'{"active": true, "padding": "' + b"x" * _BOMB_BYTES + b'"}')
