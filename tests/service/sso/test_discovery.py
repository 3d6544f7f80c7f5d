"""Finding the provider's endpoints."""

import asyncio
from collections.abc import Callable

import httpx2
import pytest
from pydantic import JsonValue, SecretStr

from app.settings import Settings
from template_tools.pytest_plugin import Bearer
from tests.service.provider import (
    Endpoint,
    Faults,
    ProviderConfig,
    RunningProvider,
    running_provider,
)
from tests.service.sso.assertions import Log, assert_unavailable, get
from tests.service.sso.conftest import Clock, Hanging, Network, Serve

_DISCOVERY: frozenset[Endpoint] = frozenset({"discovery"})


async def until(happened: Callable[[], bool]) -> None:
    """Wait for a background task."""
    async with asyncio.timeout(20):
        while not happened():  # noqa: ASYNC110 - another thread counts
            await asyncio.sleep(0.001)
    # What is called back when a task ends comes in the next turn of the loop.
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("issuer", "urls"),
    [
        (
            "https://sso.example.com/realms/main/",
            [
                "https://sso.example.com/realms/main/.well-known/openid-configuration",
                "https://sso.example.com/.well-known/oauth-authorization-server/realms/main",
                "https://sso.example.com/realms/main/.well-known/oauth-authorization-server",
            ],
        ),
        (
            "https://sso.example.com",
            [
                "https://sso.example.com/.well-known/openid-configuration",
                "https://sso.example.com/.well-known/oauth-authorization-server",
            ],
        ),
    ],
)
async def test_the_document_is_looked_for_in_the_places_where_providers_put_it(
    settings: Settings, serve: Serve, network: Network, issuer: str, urls: list[str]
) -> None:
    asked: list[str] = []

    async def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url))
        return httpx2.Response(404)

    network.handler = answer
    async with serve(settings.model_copy(update={"sso_issuer": issuer})) as caller:
        assert_unavailable(await get(caller, "some-token"))
    assert asked == urls


async def test_many_callers_share_one_look_up(
    caller: httpx2.AsyncClient, provider: RunningProvider
) -> None:
    for _ in range(2):
        calls = (get(caller, provider.mint()) for _ in range(20))
        assert {response.status_code for response in await asyncio.gather(*calls)} == {200}
    assert provider.discovery_calls == 1


async def test_a_caller_who_leaves_does_not_end_the_look_up_of_the_others(
    caller: httpx2.AsyncClient, provider: RunningProvider
) -> None:
    provider.faults = Faults(endpoints=_DISCOVERY, latency=0.2)
    one, other = (asyncio.create_task(get(caller, provider.mint())) for _ in range(2))
    await until(lambda: provider.discovery_calls == 1)
    one.cancel()

    assert (await other).status_code == 200
    assert provider.discovery_calls == 1


async def test_an_issuer_with_a_path_is_found(settings: Settings, serve: Serve) -> None:
    config = ProviderConfig(issuer="http://127.0.0.1:1/realms/main")
    with running_provider(config) as provider:
        other = settings.model_copy(
            update={
                "sso_issuer": provider.issuer,
                "client_id": provider.config.client_id,
                "client_secret": SecretStr(provider.config.client_secret),
            }
        )
        async with serve(other) as caller:
            assert (await get(caller, provider.mint())).status_code == 200


async def test_a_document_of_another_issuer_is_not_used(
    settings: Settings, serve: Serve, provider: RunningProvider
) -> None:
    """A trailing slash makes the difference: issuers are compared as text (RFC 8414 §3.3)."""
    other = settings.model_copy(update={"sso_issuer": provider.issuer + "/"})
    async with serve(other) as caller:
        assert_unavailable(await get(caller, provider.mint()), "sso-misconfigured")
    assert provider.introspection_calls == 0


async def test_a_document_that_cannot_be_read_may_be_the_right_one(
    settings: Settings, serve: Serve, provider: RunningProvider
) -> None:
    """It is an outage, even if another document names another issuer."""
    provider.faults = Faults(endpoints=_DISCOVERY, status=500, times=1)
    other = settings.model_copy(update={"sso_issuer": provider.issuer + "/"})
    async with serve(other) as caller:
        assert_unavailable(await get(caller, provider.mint()))


@pytest.mark.parametrize(
    ("method", "aliases", "path"),
    [
        ("tls_client_auth", True, "/mtls/introspect"),
        ("tls_client_auth", False, "/introspect"),
        ("client_secret_basic", True, "/introspect"),
    ],
)
async def test_a_client_with_a_certificate_calls_where_it_is_asked_for(
    settings: Settings,
    serve: Serve,
    provider: RunningProvider,
    network: Network,
    method: str,
    aliases: bool,
    path: str,
) -> None:
    """RFC 8705 §5."""
    where: JsonValue = {"introspection_endpoint": f"{provider.issuer}/mtls/introspect"}
    provider.faults = Faults(
        endpoints=_DISCOVERY, override_claims={"mtls_endpoint_aliases": where if aliases else {}}
    )
    paths: list[str] = []

    async def answer(request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            return await network.forward(request)
        paths.append(request.url.path)
        return httpx2.Response(200, json={"active": True, "aud": "app"})

    network.handler = answer
    async with serve(settings.model_copy(update={"client_auth_method": method})) as caller:
        assert (await get(caller, "some-token")).status_code == 200
    assert paths == [path]


async def test_an_endpoint_without_tls_is_not_used_in_production(
    settings: Settings, serve: Serve, provider: RunningProvider
) -> None:
    async with serve(settings.model_copy(update={"environment": "production"})) as caller:
        assert_unavailable(await get(caller, provider.mint()), "sso-misconfigured")
    assert provider.introspection_calls == 0


@pytest.mark.parametrize("url", ["http://[::1", "http://127.0.0.1:port/introspect", "ftp://sso"])
async def test_an_endpoint_that_cannot_be_called_is_as_good_as_none(
    settings: Settings, serve: Serve, provider: RunningProvider, log: Log, url: str
) -> None:
    provider.faults = Faults(endpoints=_DISCOVERY, override_claims={"introspection_endpoint": url})
    async with serve(settings) as caller:
        assert_unavailable(await get(caller, provider.mint()), "sso-misconfigured")
    [(_, text)] = log.lines()
    assert "SSO_INTROSPECTION_URL" in text


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 404}, {"body": "html"}], ids=str)
async def test_no_document_is_an_outage(
    caller: httpx2.AsyncClient, provider: RunningProvider, fault: dict[str, object]
) -> None:
    provider.faults = Faults.model_validate({"endpoints": ["discovery"]} | fault)
    assert_unavailable(await get(caller, provider.mint()))


async def test_the_last_good_document_serves_through_an_outage(
    caller: httpx2.AsyncClient, provider: RunningProvider, clock: Clock, log: Log
) -> None:
    async def accepted() -> None:
        assert (await get(caller, provider.mint(expires_in=86400))).status_code == 200

    await accepted()
    ours = asyncio.all_tasks()

    provider.faults = Faults(endpoints=_DISCOVERY, status=500)
    clock.ahead += 3601
    for calls in (3, 5, 7):
        await accepted()
        await until(lambda: asyncio.all_tasks() <= ours)
        await accepted()
        assert asyncio.all_tasks() <= ours, "it is not looked up again at every request"
        assert provider.discovery_calls == calls, "one look-up in ten seconds reads both places"
        clock.ahead += 11
    [(level, text)] = log.lines()
    assert level == "WARNING"
    assert "stays in use" in text

    provider.faults = Faults()
    await accepted()
    await until(lambda: asyncio.all_tasks() <= ours)
    clock.ahead += 3599
    await accepted()
    assert provider.discovery_calls == 8


async def test_a_renewal_that_hangs_keeps_nobody_waiting(
    caller: httpx2.AsyncClient, provider: RunningProvider, network: Network, clock: Clock
) -> None:
    """The endpoint itself may work: the document can be on another server."""
    assert (await get(caller, provider.mint())).status_code == 200
    network.handler = hanging = Hanging(network, "/.well-known/")
    clock.ahead += 3601
    async with asyncio.timeout(15):
        for _ in range(3):
            assert (await get(caller, provider.mint(expires_in=7200))).status_code == 200
        await hanging.asked.wait()


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
        calls = provider.discovery_calls
        assert (await get(caller, provider.mint())).status_code == 200
        assert provider.discovery_calls == calls, "and not again at every request"


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
