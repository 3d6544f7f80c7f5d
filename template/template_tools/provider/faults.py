"""Fault injection: how the provider misbehaves when a test asks for it."""

import asyncio
import json
import threading
from http import HTTPStatus
from typing import Annotated, Literal, Self

from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator
from starlette.types import Receive, Scope, Send

from template_tools.provider.forms import NO_STORE
from template_tools.provider.keys import Claims

Endpoint = Literal["introspection", "discovery", "jwks"]
Seconds = Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)]


class Faults(BaseModel):
    """How the endpoints misbehave; `Faults()` is a healthy provider. The fields combine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoints: frozenset[Endpoint] = frozenset({"introspection"})
    """The endpoints that misbehave."""

    times: Annotated[int, Field(ge=1)] | None = None
    """How many requests fail before the provider recovers; None for all of them."""

    only_token: str | None = None
    """Only the introspection of this token fails; other requests do not count for `times`."""

    latency: Seconds = 0
    """Seconds before the reply."""

    status: Annotated[int, Field(ge=400, le=599)] | None = None
    """The status of the reply, whose body is then an OAuth error."""

    retry_after: Annotated[str, Field(pattern=r"^[!-~][ -~]{0,99}$")] | None = None
    """The Retry-After header, in seconds or as a date."""

    override_claims: dict[str, JsonValue] = {}
    """Members that replace those of the reply, or join them."""

    cut_body: bool = False
    """Close the connection in the middle of the reply."""

    @model_validator(mode="after")
    def _can_be_sent(self) -> Self:
        """Refuse what JSON cannot carry, such as NaN and unpaired surrogates."""
        json.dumps(self.override_claims, allow_nan=False, ensure_ascii=False).encode()
        return self

    async def respond(self, document: Claims) -> Response:
        """Return the response for a JSON document, with these faults applied."""
        await asyncio.sleep(self.latency)
        headers = dict(NO_STORE)
        if self.retry_after is not None:
            headers["Retry-After"] = self.retry_after
        content: Claims = {**document, **self.override_claims}
        if self.status is not None:
            content = {"error": _error_code(self.status)}
        response = _CutResponse if self.cut_body else JSONResponse
        return response(content, self.status or 200, headers)


HEALTHY = Faults()


class FaultSwitch:
    """The faults in force, shared by the server's thread and a test's."""

    def __init__(self) -> None:
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

    def take(self, endpoint: Endpoint, token: str | None = None) -> Faults:
        """Return the faults that apply to this request, and count it against `times`."""
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


class _CutResponse(JSONResponse):
    """A response that ends before its announced length, upon which the server hangs up."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})


def _error_code(status: int) -> str:
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "server_error"
    denied = status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
    return "invalid_client" if denied else "invalid_request"
