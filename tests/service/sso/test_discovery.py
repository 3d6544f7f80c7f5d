"""Finding the provider's endpoints."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import httpx2
import pytest
from pydantic import JsonValue

from app.settings import Settings
from app.utils.sso.resource_server.discovery import Discovery, Need, metadata_urls
from app.utils.sso.resource_server.provider_errors import Misconfigured, Unreachable
from template_tools.pytest_plugin import Bearer
from tests.service.provider import (
    Endpoint,
    Faults,
    ProviderConfig,
    RunningProvider,
    running_provider,
)
from tests.service.sso.assertions import Log, assert_unavailable, get
from tests.service.sso.conftest import Clock, Serve

_DISCOVERY: frozenset[Endpoint] = frozenset({"discovery"})


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient() as client:
        yield client


def finding(
    client: httpx2.AsyncClient,
    settings: Settings,
    need: Need = "introspection_endpoint",
    **changes: object,
) -> Discovery:
    """Return what finds an endpoint with other settings."""
    return Discovery(client, settings.model_copy(update=changes), need)


async def until(happened: Callable[[], bool]) -> None:
    """Wait for what goes on in the background."""
    async with asyncio.timeout(20):
        while not happened():  # noqa: ASYNC110 - another thread counts
            await asyncio.sleep(0.001)
    # What is called back when a task ends comes in the next turn of the loop.
    await asyncio.sleep(0)


def test_the_document_is_looked_for_in_the_places_where_providers_put_it() -> None:
    assert list(metadata_urls("https://sso.example.com/realms/main/")) == [
        "https://sso.example.com/realms/main/.well-known/openid-configuration",
        "https://sso.example.com/.well-known/oauth-authorization-server/realms/main",
        "https://sso.example.com/realms/main/.well-known/oauth-authorization-server",
    ]
    assert len(list(metadata_urls("https://sso.example.com"))) == 2


async def test_many_callers_share_one_look_up(
    http: httpx2.AsyncClient, settings: Settings, provider: RunningProvider
) -> None:
    found = finding(http, settings)

    endpoints = {await found.endpoint()} | set(
        await asyncio.gather(*(found.endpoint() for _ in range(30)))
    )

    assert len(endpoints) == 1
    assert provider.discovery_calls == 1


async def test_a_caller_who_leaves_does_not_end_the_look_up_of_the_others(
    http: httpx2.AsyncClient, settings: Settings, provider: RunningProvider
) -> None:
    provider.faults = Faults(endpoints=_DISCOVERY, latency=0.2)
    found = finding(http, settings)
    one, other = (asyncio.create_task(found.endpoint()) for _ in range(2))
    await until(lambda: provider.discovery_calls == 1)
    one.cancel()

    assert await other == f"{provider.issuer}/introspect"
    assert provider.discovery_calls == 1


async def test_an_issuer_with_a_path_is_found(http: httpx2.AsyncClient, settings: Settings) -> None:
    config = ProviderConfig(issuer="http://127.0.0.1:1/realms/main")
    with running_provider(config) as provider:
        found = finding(http, settings, sso_issuer=provider.issuer)
        endpoint = await found.endpoint()
    assert endpoint.startswith(f"{provider.issuer}/")


async def test_each_endpoint_is_found_for_itself(
    http: httpx2.AsyncClient, settings: Settings, provider: RunningProvider
) -> None:
    assert await finding(http, settings, "jwks_uri").endpoint() == f"{provider.issuer}/jwks"


async def test_a_document_of_another_issuer_is_not_used(
    http: httpx2.AsyncClient, settings: Settings, provider: RunningProvider
) -> None:
    """The trailing slash is enough: an issuer is compared as it is written (RFC 8414 §3.3)."""
    with pytest.raises(Misconfigured):
        await finding(http, settings, sso_issuer=provider.issuer + "/").endpoint()


async def test_a_document_that_cannot_be_read_may_be_the_right_one(
    http: httpx2.AsyncClient, settings: Settings, provider: RunningProvider
) -> None:
    """It is an outage, although there is one of another issuer: the settings may be right."""
    provider.faults = Faults(endpoints=_DISCOVERY, status=500, times=1)
    with pytest.raises(Unreachable):
        await finding(http, settings, sso_issuer=provider.issuer + "/").endpoint()


@pytest.mark.parametrize(
    ("method", "aliases", "path"),
    [
        ("tls_client_auth", True, "/mtls/introspect"),
        ("tls_client_auth", False, "/introspect"),
        ("client_secret_basic", True, "/introspect"),
    ],
)
async def test_a_client_with_a_certificate_calls_where_it_is_asked_for(
    http: httpx2.AsyncClient,
    settings: Settings,
    provider: RunningProvider,
    method: str,
    aliases: bool,
    path: str,
) -> None:
    """RFC 8705 §5."""
    where: JsonValue = {"introspection_endpoint": f"{provider.issuer}/mtls/introspect"}
    provider.faults = Faults(
        endpoints=_DISCOVERY, override_claims={"mtls_endpoint_aliases": where if aliases else {}}
    )
    found = finding(http, settings, client_auth_method=method)
    assert await found.endpoint() == f"{provider.issuer}{path}"


async def test_an_endpoint_without_tls_is_not_used_in_production(
    http: httpx2.AsyncClient, settings: Settings, provider: RunningProvider
) -> None:
    with pytest.raises(Misconfigured):
        await finding(http, settings, environment="production").endpoint()


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 404}, {"body": "html"}], ids=str)
async def test_no_document_is_an_outage(
    http: httpx2.AsyncClient,
    settings: Settings,
    provider: RunningProvider,
    fault: dict[str, object],
) -> None:
    provider.faults = Faults.model_validate({"endpoints": ["discovery"]} | fault)
    with pytest.raises(Unreachable):
        await finding(http, settings).endpoint()


async def test_the_last_good_document_serves_through_an_outage(
    http: httpx2.AsyncClient,
    settings: Settings,
    provider: RunningProvider,
    clock: Clock,
    log: Log,
) -> None:
    found = finding(http, settings)
    endpoint = await found.endpoint()
    ours = asyncio.all_tasks()

    provider.faults = Faults(endpoints=_DISCOVERY, status=500)
    clock.ahead += 3601
    for calls in (3, 5, 7):
        assert await found.endpoint() == endpoint
        await until(lambda: asyncio.all_tasks() <= ours)
        assert await found.endpoint() == endpoint
        assert asyncio.all_tasks() <= ours, "it is not looked up again at every request"
        assert provider.discovery_calls == calls, "one look-up in ten seconds reads both places"
        clock.ahead += 11
    [(level, text)] = log.lines()
    assert level == "WARNING"
    assert "stays in use" in text

    provider.faults = Faults()
    assert await found.endpoint() == endpoint
    await until(lambda: asyncio.all_tasks() <= ours)
    clock.ahead += 3599
    assert await found.endpoint() == endpoint
    assert provider.discovery_calls == 8


async def test_a_renewal_that_hangs_keeps_nobody_waiting(
    settings: Settings,
    serve: Serve,
    provider: RunningProvider,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The endpoint itself may be well, and another server have the document."""
    monkeypatch.setattr("app.utils.sso.resource_server.provider_client._DEADLINE_SECONDS", 20)
    async with serve(settings) as caller:
        assert (await get(caller, provider.mint())).status_code == 200
        provider.faults = Faults(endpoints=_DISCOVERY, latency=30)
        clock.ahead += 3601
        begin = time.monotonic()
        for _ in range(3):
            assert (await get(caller, provider.mint(expires_in=7200))).status_code == 200
        assert time.monotonic() - begin < 15
        await until(lambda: provider.discovery_calls == 2)


async def test_an_endpoint_that_is_not_there_any_more_is_looked_up_again(
    settings: Settings, serve: Serve, provider: RunningProvider, clock: Clock
) -> None:
    moved: dict[str, JsonValue] = {"introspection_endpoint": f"{provider.issuer}/moved"}
    provider.faults = Faults(endpoints=_DISCOVERY, override_claims=moved)
    async with serve(settings) as caller:
        assert_unavailable(await get(caller, provider.mint()), "sso-misconfigured")
        provider.faults = Faults()
        clock.ahead += 31
        assert (await get(caller, provider.mint())).status_code == 200


async def test_keys_that_are_not_there_any_more_are_looked_for_again(
    settings: Settings, serve: Serve, provider: RunningProvider, clock: Clock
) -> None:
    provider.faults = Faults(
        endpoints=_DISCOVERY, override_claims={"jwks_uri": f"{provider.issuer}/moved"}
    )
    async with serve(settings.model_copy(update={"sso_mode": "jwt"})) as caller:
        assert_unavailable(await get(caller, provider.mint(format="jwt")))
        provider.faults = Faults()
        clock.ahead += 6
        assert (await get(caller, provider.mint(format="jwt"))).status_code == 200


async def test_an_endpoint_from_the_settings_needs_no_discovery(
    settings: Settings, serve: Serve, provider: RunningProvider, bearer: Bearer
) -> None:
    configured = settings.model_copy(
        update={"sso_introspection_url": f"{provider.issuer}/introspect"}
    )
    async with serve(configured) as caller:
        assert (await caller.get("/anyone", headers=bearer())).status_code == 200
    assert provider.discovery_calls == 0
