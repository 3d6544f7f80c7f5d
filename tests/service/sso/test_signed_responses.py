"""Introspection responses that the provider has signed (RFC 9701)."""

from collections.abc import AsyncIterator

import httpx2
import pytest
from pydantic import JsonValue

from app.settings import Settings
from tests.service.provider import Faults, RunningProvider
from tests.service.sso.assertions import Log, assert_refused, assert_unavailable, get
from tests.service.sso.conftest import Clock, Network, Serve


@pytest.fixture
def signed(settings: Settings) -> Settings:
    return settings.model_copy(update={"sso_introspection_response": "jwt"})


@pytest.fixture
async def caller(signed: Settings, serve: Serve) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the service that wants a signed response."""
    async with serve(signed) as caller:
        yield caller


async def test_a_good_token_is_accepted(
    caller: httpx2.AsyncClient, provider: RunningProvider
) -> None:
    for sub in ("a-1", "a-2"):
        response = await get(caller, provider.mint(sub=sub))
        assert response.status_code == 200
        assert response.json()["sub"] == sub
    assert provider.jwks_calls == 1


async def test_an_inactive_one_is_refused(caller: httpx2.AsyncClient) -> None:
    assert_refused(await get(caller, "unknown-token"))


@pytest.mark.parametrize(
    "flaw",
    ["wrong_audience", "wrong_issuer", "wrong_typ", "wrong_signature", "unsigned", "plain_json"],
)
async def test_a_response_that_is_not_signed_for_us_is_not_believed(
    caller: httpx2.AsyncClient, provider: RunningProvider, log: Log, flaw: str
) -> None:
    token = provider.mint()
    provider.faults = Faults.model_validate({"introspection_jwt": flaw})
    assert_unavailable(await get(caller, token))
    assert log.levels() == ["ERROR"]

    provider.faults = Faults()
    assert (await get(caller, token)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe.\xc3\xa9.AAAA",
        b"a.b.c",
        b"..",
        b'{"active": true}',
    ],
    ids=str,
)
async def test_a_body_that_is_called_signed_and_is_no_jwt_is_not_believed(
    caller: httpx2.AsyncClient, network: Network, log: Log, body: bytes
) -> None:
    async def answer(request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            return await network.forward(request)
        headers = {"content-type": "application/token-introspection+jwt"}
        return httpx2.Response(200, headers=headers, content=body)

    network.handler = answer
    assert_unavailable(await get(caller, "some-token"))
    assert log.levels() == ["ERROR"]


@pytest.mark.parametrize(
    "faults",
    [
        {"body": "nan"},
        {"body": "duplicate_active"},
        {"body": "string_active"},
        {"body": "html"},
        {"override_claims": {"active": 1}},
    ],
    ids=str,
)
async def test_what_is_in_it_is_read_as_strictly(
    caller: httpx2.AsyncClient, provider: RunningProvider, faults: dict[str, object]
) -> None:
    provider.faults = Faults.model_validate(faults)
    assert_unavailable(await get(caller, provider.mint()))


@pytest.mark.parametrize(
    "claims", [{"aud": "another"}, {"exp": 1}, {"iss": "https://other.example.com"}], ids=str
)
async def test_what_is_in_it_is_judged_all_the_same(
    caller: httpx2.AsyncClient, provider: RunningProvider, claims: dict[str, object]
) -> None:
    provider.faults = Faults.model_validate({"override_claims": claims})
    assert_refused(await get(caller, provider.mint()))


async def test_without_the_keys_it_is_an_outage_that_opens_the_breaker(
    caller: httpx2.AsyncClient, provider: RunningProvider, clock: Clock
) -> None:
    provider.faults = Faults(endpoints=frozenset({"jwks"}), status=500)
    for _ in range(8):
        assert_unavailable(await get(caller, provider.mint()))
    calls = provider.introspection_calls
    assert_unavailable(await get(caller, provider.mint()))
    assert provider.introspection_calls == calls

    provider.faults = Faults()
    clock.ahead += 31
    assert (await get(caller, provider.mint())).status_code == 200


async def test_a_signed_body_that_is_not_called_so_is_not_believed(
    caller: httpx2.AsyncClient, provider: RunningProvider, network: Network
) -> None:
    """RFC 9701 §5: the type tells it apart from other JWTs of the provider."""

    async def renamed(request: httpx2.Request) -> httpx2.Response:
        response = await network.forward(request)
        response.headers["content-type"] = "application/jwt"
        return response

    assert (await get(caller, provider.mint())).status_code == 200
    network.handler = renamed
    assert_unavailable(await get(caller, provider.mint()))


async def test_without_an_address_of_the_keys_it_is_our_fault_and_held(
    caller: httpx2.AsyncClient, provider: RunningProvider, log: Log
) -> None:
    nowhere: dict[str, JsonValue] = {"jwks_uri": None}
    provider.faults = Faults(endpoints=frozenset({"discovery"}), override_claims=nowhere)
    for _ in range(4):
        assert_unavailable(await get(caller, provider.mint()), "sso-misconfigured")
    assert provider.introspection_calls == 2, "one for the token and one for the canary"
    assert set(log.levels()) == {"ERROR"}


async def test_a_signed_response_is_no_access_token(
    settings: Settings, serve: Serve, provider: RunningProvider
) -> None:
    """RFC 9701 §8.1: its ``typ`` says what it is."""
    token = provider.sign(
        {"iss": provider.issuer, "aud": "app", "sub": "a", "iat": 1, "exp": 32_503_680_000},
        typ="token-introspection+jwt",
    )
    async with serve(settings.model_copy(update={"sso_mode": "jwt"})) as caller:
        assert_refused(await get(caller, token))
