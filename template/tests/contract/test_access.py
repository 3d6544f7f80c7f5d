"""Every route requires a token, or is declared public."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import pytest
from fastapi import FastAPI
from starlette.types import Message

from template_tools.provider import Faults, RunningProvider
from template_tools.pytest_plugin import Bearer
from tests.contract.probes import ANY_STATE, JSON, Answer, Probe, send
from tests.contract.routes import Operation, all_scopes, operations

pytestmark = pytest.mark.usefixtures("client")

UNMARKED = """\
These routes neither require a token nor are declared public:

  {routes}

Add a dependency on the token, such as `_token: CurrentToken` (from app/utils/sso/introspection.py),
or declare the route public: `@router.get("/status", openapi_extra=PUBLIC)` (from
app/core/openapi.py). A WebSocket, a mount or a plain route of Starlette is declared public by a
name that begins with "public:", such as `app.mount("/metrics", metrics, name="public:metrics")`.
"""
WRONG = """\
These routes do not check the token before everything else. Make it the first of the route's
dependencies, or one of `dependencies=[...]` of its router.

  {faults}

If it is a middleware of yours that answers, let it accept these requests, whose host is `test`.
"""


# Whatever else is wrong with a request, it is not looked at before the token.
REQUESTS: dict[str, dict[str, Any]] = {
    "plain": {"headers": (ANY_STATE,)},
    "broken body": {"body": b'{"', "headers": (JSON, ANY_STATE)},
    "body of another kind": {"body": b"a=1", "headers": (("content-type", "text/plain"),)},
    "no If-Match": {"body": b"{}", "headers": (JSON,)},
    "broken If-Match": {"body": b"{}", "headers": (JSON, ("if-match", "no tag"))},
    "broken query": {"query": "limit=none&cursor=&unknown=1", "headers": (ANY_STATE,)},
}


async def call(
    app: FastAPI, operation: Operation, headers: dict[str, str], request: str = "plain"
) -> Answer:
    """Send one of ``REQUESTS``."""
    host = {} if operation.host is None else {"Host": operation.host}
    if operation.method == "WEBSOCKET":
        return await handshake(app, operation.example, headers)
    method = "GET" if operation.method == "MOUNT" else operation.method
    probe = Probe("", method, operation.example, frozenset(), **REQUESTS[request])
    return await send(app, probe, headers | host)


async def handshake(app: FastAPI, path: str, headers: dict[str, str]) -> Answer:
    """Open a WebSocket; return the response that denies it, or a 101 if it is accepted."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect" if not sent else "websocket.disconnect", "code": 1000}

    async def answer(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "path": unquote(path),
        "raw_path": path.encode("ascii"),
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
        "state": {},
    }
    await app(scope, receive, answer)
    if sent[0]["type"] != "websocket.http.response.start":
        return Answer(101 if sent[0]["type"] == "websocket.accept" else 403, {}, b"")
    received = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], received, sent[1]["body"])


def faults(operation: Operation, answer: Answer, *statuses: int) -> Iterable[str]:
    """Say what is wrong with a response that should have one of these statuses."""
    if answer.status not in statuses:
        yield f"{operation}: {answer.status} instead of {statuses[0]}"
        return
    if operation.method != "HEAD":
        yield from (f"{operation}: {fault}" for fault in answer.faults_of_problem())
    if answer.status == HTTPStatus.UNAUTHORIZED and "www-authenticate" not in answer.headers:
        yield f"{operation}: no WWW-Authenticate"
    if answer.status == HTTPStatus.SERVICE_UNAVAILABLE and "retry-after" not in answer.headers:
        yield f"{operation}: no Retry-After"


async def test_every_route_asks_for_a_token_or_says_that_it_is_public(
    application: FastAPI,
) -> None:
    unmarked = [
        str(operation)
        for operation in operations(application)
        if not operation.is_marked
        # An application that is not FastAPI's may check the token by itself.
        and (operation.is_api or (await call(application, operation, {})).status != 401)
    ]
    assert not unmarked, UNMARKED.format(routes="\n  ".join(unmarked))


async def test_nothing_is_done_for_a_caller_without_credentials(application: FastAPI) -> None:
    found = [
        f"{operation}: {status} instead of 401"
        for operation in operations(application)
        if operation.has_own_scheme
        and (status := (await call(application, operation, {})).status) not in {401, 403}
    ]
    assert not found, WRONG.format(faults="\n  ".join(found))


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer unknown"}], ids=["none", "bad"])
async def test_a_caller_without_a_good_token_is_told_to_get_one(
    application: FastAPI, headers: dict[str, str], request_: str
) -> None:
    found = [
        fault
        for operation in operations(application)
        if operation.scopes is not None
        for fault in faults(operation, await call(application, operation, headers, request_), 401)
    ]
    assert not found, WRONG.format(faults="\n  ".join(found))


async def test_a_caller_without_the_scope_is_refused(application: FastAPI, bearer: Bearer) -> None:
    headers = bearer(scope="unknown")
    found = [
        fault
        for operation in operations(application)
        if operation.scopes
        # A route that also requires a recent login may answer 401 first.
        for fault in faults(operation, await call(application, operation, headers), 403, 401)
    ]
    assert not found, WRONG.format(faults="\n  ".join(found))


async def test_an_outage_of_the_provider_is_never_blamed_on_the_caller(
    application: FastAPI, bearer: Bearer, provider: RunningProvider
) -> None:
    """A 401 would log every user out; a 503 says that the request can be repeated."""
    marked = [operation for operation in operations(application) if operation.scopes is not None]
    headers = bearer(scope=all_scopes(application))
    provider.faults = Faults(
        endpoints=frozenset({"introspection", "discovery", "jwks"}), status=503
    )

    found = [
        fault
        for operation in marked
        for fault in faults(operation, await call(application, operation, headers), 503)
    ]

    assert not found, WRONG.format(faults="\n  ".join(found))
