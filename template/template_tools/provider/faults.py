"""Misbehaviour on demand: what a broken identity provider sends, for the tests of its callers."""

import asyncio
import gzip
import json
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator
from starlette.types import Receive, Scope, Send

from template_tools.provider.forms import NO_STORE
from template_tools.provider.keys import Claims

Endpoint = Literal["introspection", "discovery", "jwks"]
Body = Literal["html", "gzip_bomb", "oversized", "nan", "duplicate_active", "string_active"]
JwtFlaw = Literal[
    "wrong_audience", "wrong_issuer", "wrong_typ", "wrong_signature", "unsigned", "plain_json"
]
Seconds = Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)]
_OVERSIZED_BYTES = 1024 * 1024
_BOMB_BYTES = 16 * 1024 * 1024


class Faults(BaseModel):
    """How the endpoints misbehave; `Faults()` is a healthy provider. The knobs combine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoints: frozenset[Endpoint] = frozenset({"introspection"})
    """The endpoints that misbehave."""

    times: Annotated[int, Field(ge=1)] | None = None
    """How many requests are hit before all is well again; None hits all of them."""

    only_token: str | None = None
    """Only the introspection of this token is hit, as by a token that crashes the provider; the
    other requests do not count against `times`."""

    latency: Seconds = 0
    """Seconds of silence before the reply."""

    trickle: Seconds = 0
    """Seconds between the single bytes of the body."""

    status: Annotated[int, Field(ge=400, le=599)] | None = None
    """The reply's status; its body is then an OAuth error, unless `body` says otherwise."""

    error: Annotated[str, Field(pattern=r"^[a-z_]{1,100}$")] | None = None
    """The code of that OAuth error, where it is not the usual one of the status."""

    retry_after: Annotated[str, Field(pattern=r"^[!-~][ -~]{0,99}$")] | None = None
    """The Retry-After header, in seconds or as a date."""

    redirect_to: Annotated[str, Field(pattern=r"^https?://[!-~]{1,1000}$")] | None = None
    """Reply 307 with this Location, as if the endpoint had moved."""

    body: Body | None = None
    """Reply with an HTML page, 16 MiB of JSON in 16 KiB of gzip, 1 MiB of JSON, a NaN as `exp`,
    `active` twice (false, then true), or `"active": "true"`."""

    drop_claims: frozenset[str] = frozenset()
    """Members removed from the reply, such as aud, sub or iss."""

    override_claims: dict[str, JsonValue] = {}
    """Members put into the reply as they stand, such as a float exp."""

    always_active: bool = False
    """Call every token active, garbage included."""

    cut_body: bool = False
    """Close the connection in the middle of the body."""

    introspection_jwt: JwtFlaw | None = None
    """What is wrong with an introspection response that was asked for as a JWT (RFC 9701).

    The other knobs change the document inside. With `plain_json`, a `status`, an HTML page or a
    bomb there is no JWT at all."""

    without_key_members: frozenset[str] = frozenset()
    """Members missing from every key of the JWKS: many providers publish no alg, some no kid."""

    extra_keys: list[Claims] = []
    """Keys that come first in the JWKS, as they stand: symmetric, unknown, broken or others'."""

    @model_validator(mode="after")
    def _can_be_sent(self) -> "Faults":
        """Refuse what JSON cannot carry; the NaN of `body` is written by hand."""
        members = [self.override_claims, self.extra_keys]
        json.dumps(members, allow_nan=False, ensure_ascii=False).encode()
        return self

    @model_validator(mode="after")
    def _have_an_effect(self) -> "Faults":
        """Refuse a knob whose endpoint is spared: the test that turns it would prove nothing."""
        if (self.without_key_members or self.extra_keys) and "jwks" not in self.endpoints:
            raise ValueError("The keys are faulty only when the endpoints include jwks.")
        if self.introspection_jwt and "introspection" not in self.endpoints:
            raise ValueError("The JWT is faulty only when the endpoints include introspection.")
        return self


HEALTHY = Faults()


class FaultSwitch:
    """The faults in force, shared by the server's thread and a test's."""

    def __init__(self) -> None:
        """Start healthy."""
        self._lock = threading.Lock()
        self.set(HEALTHY)

    @property
    def current(self) -> Faults:
        """The faults in force now, without using up one of their `times`."""
        return self._faults

    def set(self, faults: Faults) -> None:
        """Replace the faults; their `times` start anew."""
        with self._lock:
            self._faults, self._left = faults, faults.times

    def take(self, endpoint: Endpoint, token: str | None) -> Faults:
        """Return the faults that this request meets, and count it against `times`."""
        with self._lock:
            faults = self._faults
            spared = faults.only_token is not None and faults.only_token != token
            if endpoint not in faults.endpoints or spared:
                return HEALTHY
            if self._left is not None:
                self._left -= 1
                if self._left == 0:
                    self._faults, self._left = HEALTHY, None
            return faults


class FaultyResponse(Response):
    """A reply that trickles or breaks off, when its faults say so."""

    def __init__(
        self, faults: Faults, content: bytes, status: int, headers: dict[str, str]
    ) -> None:
        """Take a finished body; `headers` include its content type."""
        super().__init__(content, status, headers)
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the reply; returning before its announced end makes the server hang up."""
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        async for chunk in self._chunks():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if not self._faults.cut_body:
            await send({"type": "http.response.body", "body": b""})

    async def _chunks(self) -> AsyncIterator[bytes]:
        body = bytes(self.body)
        if self._faults.cut_body:
            body = body[: len(body) // 2]
        if not self._faults.trickle:
            yield body
            return
        for index in range(len(body)):
            yield body[index : index + 1]
            await asyncio.sleep(self._faults.trickle)


@dataclass(frozen=True)
class Envelope:
    """What a JSON document is put into before it is sent."""

    content_type: str
    seal: Callable[[bytes], bytes]


def published_keys(keys: list[Claims], faults: Faults) -> list[JsonValue]:
    """Return the keys of a JWKS, as oddly as `faults` ask for."""
    missing = faults.without_key_members
    kept = [{name: key[name] for name in key if name not in missing} for key in keys]
    return [*faults.extra_keys, *kept]


async def reply(payload: Claims, faults: Faults, envelope: Envelope | None = None) -> Response:
    """Send `payload` as JSON, as badly as `faults` ask for; only a success has an envelope."""
    await asyncio.sleep(faults.latency)
    altered = {**payload, **faults.override_claims}
    altered = {name: value for name, value in altered.items() if name not in faults.drop_claims}
    headers = dict(NO_STORE)
    if faults.retry_after is not None:
        headers["Retry-After"] = faults.retry_after
    if faults.redirect_to is not None:
        headers["Location"] = faults.redirect_to
        return FaultyResponse(faults, b"", HTTPStatus.TEMPORARY_REDIRECT, headers)
    if faults.status is not None and faults.body is None:
        altered = {"error": faults.error or _error_code(faults.status)}
    if faults.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Basic realm="development provider"'
    headers["Content-Type"] = "text/html" if faults.body == "html" else "application/json"
    if faults.body == "gzip_bomb":
        headers["Content-Encoding"] = "gzip"
    body = _body(altered, faults.body)
    if envelope is not None and _can_be_sealed(faults):
        headers["Content-Type"], body = envelope.content_type, envelope.seal(body)
    return FaultyResponse(faults, body, faults.status or 200, headers)


def _can_be_sealed(faults: Faults) -> bool:
    is_json = faults.status is None and faults.body not in ("html", "gzip_bomb")
    return is_json and faults.introspection_jwt != "plain_json"


def _body(payload: Claims, kind: Body | None) -> bytes:
    text = json.dumps(payload)
    match kind:
        case "html":
            return b"<!doctype html><title>Sign in</title><p>Please sign in.</p>"
        case "gzip_bomb":
            return _bomb()
        case "oversized":
            return json.dumps({**payload, "padding": "x" * _OVERSIZED_BYTES}).encode()
        case "nan":
            return json.dumps({**payload, "exp": float("nan")}).encode()
        case "duplicate_active":
            rest = json.dumps({**payload, "active": True}).removeprefix("{")
            return f'{{"active": false, {rest}'.encode()
        case "string_active":
            return json.dumps({**payload, "active": "true"}).encode()
        case None:
            return text.encode()


@cache
def _bomb() -> bytes:
    return gzip.compress(b'{"active": true, "padding": "' + b"x" * _BOMB_BYTES + b'"}')


def _error_code(status: int) -> str:
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "server_error"
    denied = status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
    return "invalid_client" if denied else "invalid_request"
