"""Nobody gets into the service by a route that somebody has forgotten to protect."""

from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import unquote

import pytest
from fastapi import FastAPI
from starlette.types import Message

from template_tools.provider import Faults, RunningProvider
from template_tools.pytest_plugin import Bearer
from tests.contract.probes import ANY_STATE, Answer, Probe, send
from tests.contract.routes import Entrance, all_scopes, entrances

pytestmark = pytest.mark.usefixtures("client")

UNMARKED = """\
These routes neither ask for a token nor say that anybody may call them:

  {routes}

Give each a dependency on the token, such as `_token: CurrentToken` (CurrentToken stands in
app/utils/sso/introspection.py), or say that it is public: `@router.get("/status",
openapi_extra=PUBLIC)` (PUBLIC stands in app/core/openapi.py). A WebSocket, a mount and a route of
Starlette are public by a name that begins with "public:", as in `app.mount("/metrics", metrics,
name="public:metrics")`.
"""
WRONG = """\
The token must be checked before anything else is refused or done; put it first among a route's
dependencies, or into `dependencies=[...]` of its router:

  {faults}
"""


async def call(app: FastAPI, entrance: Entrance, headers: dict[str, str]) -> Answer:
    """Send a request without a body: what a route needs is asked for after the token."""
    host = {} if entrance.host is None else {"Host": entrance.host}
    if entrance.method == "WEBSOCKET":
        return await handshake(app, entrance.example, headers)
    method = "GET" if entrance.method == "MOUNT" else entrance.method
    probe = Probe("", method, entrance.example, frozenset(), headers=(ANY_STATE,))
    return await send(app, probe, headers | host)


async def handshake(app: FastAPI, path: str, headers: dict[str, str]) -> Answer:
    """Ask for a WebSocket, and return what refuses it; 101 where it is accepted."""
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


def faults(entrance: Entrance, answer: Answer, *statuses: int) -> Iterable[str]:
    """Say what is wrong with an answer that should be one of these errors."""
    if answer.status not in statuses:
        yield f"{entrance}: {answer.status} instead of {statuses[0]}"
        return
    if entrance.method != "HEAD":
        yield from (f"{entrance}: {fault}" for fault in answer.faults_of_problem())
    if answer.status == HTTPStatus.UNAUTHORIZED and "www-authenticate" not in answer.headers:
        yield f"{entrance}: no WWW-Authenticate"
    if answer.status == HTTPStatus.SERVICE_UNAVAILABLE and "retry-after" not in answer.headers:
        yield f"{entrance}: no Retry-After"


async def test_every_route_asks_for_a_token_or_says_that_it_is_public(
    application: FastAPI,
) -> None:
    unmarked = [
        str(entrance)
        for entrance in entrances(application)
        if not entrance.is_marked
        # What FastAPI knows nothing about may ask for a token by itself.
        and (entrance.is_api or (await call(application, entrance, {})).status != 401)
    ]
    assert not unmarked, UNMARKED.format(routes="\n  ".join(unmarked))


async def test_nothing_is_done_for_a_caller_without_credentials(application: FastAPI) -> None:
    found = [
        f"{entrance}: {status} instead of 401"
        for entrance in entrances(application)
        if entrance.has_own_scheme
        and (status := (await call(application, entrance, {})).status) not in {401, 403}
    ]
    assert not found, WRONG.format(faults="\n  ".join(found))


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer unknown"}], ids=["none", "bad"])
async def test_a_caller_without_a_good_token_is_told_to_get_one(
    application: FastAPI, headers: dict[str, str]
) -> None:
    found = [
        fault
        for entrance in entrances(application)
        if entrance.scopes is not None
        for fault in faults(entrance, await call(application, entrance, headers), 401)
    ]
    assert not found, WRONG.format(faults="\n  ".join(found))


async def test_a_caller_without_the_scope_is_refused(application: FastAPI, bearer: Bearer) -> None:
    found = [
        fault
        for entrance in entrances(application)
        if entrance.scopes
        # A route that also wants a recent login may say that first.
        for fault in faults(
            entrance, await call(application, entrance, bearer(scope="unknown")), 403, 401
        )
    ]
    assert not found, WRONG.format(faults="\n  ".join(found))


async def test_an_outage_of_the_provider_is_never_blamed_on_the_caller(
    application: FastAPI, bearer: Bearer, provider: RunningProvider
) -> None:
    """A 401 would log everybody out; a 503 says that the request can be repeated."""
    marked = [entrance for entrance in entrances(application) if entrance.scopes is not None]
    headers = bearer(scope=all_scopes(application))
    provider.faults = Faults(
        endpoints=frozenset({"introspection", "discovery", "jwks"}), status=503
    )

    found = [
        fault
        for entrance in marked
        for fault in faults(entrance, await call(application, entrance, headers), 503)
    ]

    assert not found, WRONG.format(faults="\n  ".join(found))
