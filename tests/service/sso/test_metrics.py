"""What an operator sees of the tokens."""

import asyncio

import httpx2
import pytest

from app.settings import Settings
from app.utils.sso.resource_server.introspector import Timeouts
from tests.service.provider import Faults, RunningProvider
from tests.service.sso.assertions import get
from tests.service.sso.conftest import Clock, Serve
from tests.service.sso.metrics import Recorder


async def test_look_ups_are_counted_by_their_result(
    recorder: Recorder, caller: httpx2.AsyncClient, provider: RunningProvider
) -> None:
    token = provider.mint()
    await asyncio.gather(*(get(caller, token) for _ in range(5)))
    await get(caller, token)

    assert recorder["sso.token_cache.lookups"].values("result") == ["miss", *["joined"] * 4, "hit"]
    assert recorder["sso.token_cache.lookups"].amounts == [1] * 6
    joined = recorder["sso.introspection.joined"].amounts
    assert sum(joined) == 0, "nobody waits any more"
    assert max(joined) == 1
    assert joined.count(1) == 4


@pytest.mark.parametrize(
    ("faults", "outcomes"),
    [
        ({}, ["active"]),
        ({"override_claims": {"active": False}}, ["inactive"]),
        ({"body": "html"}, ["unreachable"]),
        ({"status": 429}, ["throttled", "throttled"]),
        ({"status": 401}, ["misconfigured", "misconfigured"]),
        ({"status": 500}, ["troubled", "troubled"]),
    ],
    ids=str,
)
async def test_calls_are_timed_by_their_outcome(
    recorder: Recorder,
    caller: httpx2.AsyncClient,
    provider: RunningProvider,
    faults: dict[str, object],
    outcomes: list[str],
) -> None:
    provider.faults = Faults.model_validate(faults)
    await get(caller, provider.mint())

    durations = recorder["sso.introspection.duration"]
    assert durations.values("outcome") == outcomes
    assert all(0 < amount < 5 for amount in durations.amounts)


def test_the_buckets_of_their_times_end_with_the_deadline(recorder: Recorder) -> None:
    """An SDK refuses boundaries that are not in order, and not before the first call is timed."""
    boundaries = recorder["sso.introspection.duration"].boundaries
    assert [*boundaries] == sorted(set(boundaries))
    assert boundaries[-1] == Timeouts().provider


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"active": False}, "inactive"),
        ({"exp": 1}, "time"),
        ({"nbf": 32_503_680_000}, "time"),
        ({"aud": "another"}, "audience"),
        ({"iss": "https://other.example.com"}, "issuer"),
        ({"typ": "Refresh"}, "kind"),
        ({"cnf": {"jkt": "thumbprint"}}, "bound"),
        ({"scope": "report:read"}, "scope"),
    ],
    ids=str,
)
async def test_refusals_are_counted_by_their_reason(
    recorder: Recorder,
    caller: httpx2.AsyncClient,
    provider: RunningProvider,
    claims: dict[str, object],
    reason: str,
) -> None:
    provider.faults = Faults.model_validate({"override_claims": claims})
    await get(caller, provider.mint(), "/writers")
    assert recorder["sso.token.refusals"].attributes == [{"reason": reason}]
    assert recorder["sso.token.refusals"].amounts == [1]


@pytest.mark.parametrize(
    ("faults", "state"), [({"status": 429}, 1), ({"status": 500}, 2), ({"status": 401}, 3)], ids=str
)
async def test_the_breaker_shows_its_state(
    recorder: Recorder,
    caller: httpx2.AsyncClient,
    provider: RunningProvider,
    clock: Clock,
    faults: dict[str, object],
    state: int,
) -> None:
    provider.faults = Faults.model_validate(faults)
    for _ in range(6):
        await get(caller, provider.mint())
    provider.faults = Faults()
    clock.ahead += 61
    await get(caller, provider.mint())
    assert recorder["sso.breaker.state"].amounts == [0, state, 0]


async def test_a_token_that_lacks_what_a_route_asks_for_is_counted_too(
    recorder: Recorder, caller: httpx2.AsyncClient, provider: RunningProvider
) -> None:
    for path in ("/admins", "/strong", "/recent"):
        await get(caller, provider.mint(), path)
    reasons = recorder["sso.token.refusals"].values("reason")
    assert reasons == ["role", "authentication", "authentication"]
    assert recorder["sso.token.refusals"].amounts == [1] * 3


async def test_a_jwt_that_is_none_of_the_provider_is_counted_too(
    recorder: Recorder, settings: Settings, serve: Serve
) -> None:
    async with serve(settings.model_copy(update={"sso_mode": "jwt"})) as caller:
        await get(caller, "opaque-token")
    assert recorder["sso.token.refusals"].attributes == [{"reason": "jwt"}]
    assert recorder["sso.token.refusals"].amounts == [1]


async def test_each_look_up_is_counted_once(
    recorder: Recorder,
    settings: Settings,
    serve: Serve,
    provider: RunningProvider,
    clock: Clock,
) -> None:
    """A look-up that is answered by a stale response does not count as a miss as well."""
    token = provider.mint()
    lenient = settings.model_copy(update={"token_cache_stale_seconds": 300})
    async with serve(lenient) as caller:
        assert (await get(caller, token)).status_code == 200
        provider.faults = Faults(status=500)
        clock.ahead = 61
        assert (await get(caller, token)).status_code == 200
        await get(caller, provider.mint())
    assert recorder["sso.token_cache.lookups"].values("result") == ["miss", "stale", "miss"]


async def test_no_attribute_names_a_token_or_a_person(
    recorder: Recorder, caller: httpx2.AsyncClient, provider: RunningProvider
) -> None:
    """Each value of an attribute is a time series of its own, and is kept for long."""
    for token in (provider.mint(username="alice"), provider.mint(aud="another"), "unknown-token"):
        await get(caller, token)
    values = {
        value
        for instrument in recorder.instruments.values()
        for attributes in instrument.attributes
        for value in attributes.values()
    }
    assert values == {"miss", "active", "inactive", "audience"}
