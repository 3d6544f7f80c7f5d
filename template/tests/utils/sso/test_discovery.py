"""Finding the introspection endpoint."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from app.settings import Settings
from app.utils.sso import discovery
from app.utils.sso.discovery import Discovery, metadata_urls
from app.utils.sso.errors import ProviderMisconfigured, ProviderUnavailable
from devtools.provider import Faults, ProviderConfig, RunningProvider, running_provider
from devtools.pytest_plugin import Bearer
from tests.utils.sso.conftest import Serve


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient() as client:
        yield client


def test_the_document_is_looked_for_in_the_places_where_providers_put_it() -> None:
    assert list(metadata_urls("https://sso.example.com/realms/main/")) == [
        "https://sso.example.com/realms/main/.well-known/openid-configuration",
        "https://sso.example.com/.well-known/oauth-authorization-server/realms/main",
        "https://sso.example.com/realms/main/.well-known/oauth-authorization-server",
    ]
    assert len(list(metadata_urls("https://sso.example.com"))) == 2


async def test_many_callers_share_one_look_up(
    http: httpx2.AsyncClient, provider: RunningProvider
) -> None:
    found = Discovery(http, provider.issuer, require_tls=False)

    endpoints = {await found.introspection_endpoint()} | set(
        await asyncio.gather(*(found.introspection_endpoint() for _ in range(30)))
    )

    assert len(endpoints) == 1
    assert provider.discovery_calls == 1


async def test_an_issuer_with_a_path_is_found(http: httpx2.AsyncClient) -> None:
    config = ProviderConfig(issuer="http://127.0.0.1:1/realms/main")
    with running_provider(config) as provider:
        found = Discovery(http, provider.issuer, require_tls=False)
        endpoint = await found.introspection_endpoint()
    assert endpoint.startswith(f"{provider.issuer}/")


async def test_a_document_of_another_issuer_is_not_used(
    http: httpx2.AsyncClient, provider: RunningProvider
) -> None:
    """The trailing slash is enough: an issuer is compared as it is written (RFC 8414 §3.3)."""
    with pytest.raises(ProviderMisconfigured):
        await Discovery(http, provider.issuer + "/", require_tls=False).introspection_endpoint()


async def test_an_endpoint_without_tls_is_not_used_in_production(
    http: httpx2.AsyncClient, provider: RunningProvider
) -> None:
    with pytest.raises(ProviderMisconfigured):
        await Discovery(http, provider.issuer, require_tls=True).introspection_endpoint()


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 404}, {"body": "html"}], ids=str)
async def test_no_document_is_an_outage(
    http: httpx2.AsyncClient, provider: RunningProvider, fault: dict[str, object]
) -> None:
    provider.faults = Faults.model_validate({"endpoints": ["discovery"]} | fault)
    with pytest.raises(ProviderUnavailable):
        await Discovery(http, provider.issuer, require_tls=False).introspection_endpoint()


async def test_the_last_good_document_serves_through_an_outage(
    http: httpx2.AsyncClient, provider: RunningProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "_FRESH_SECONDS", 0)
    found = Discovery(http, provider.issuer, require_tls=False)
    endpoint = await found.introspection_endpoint()

    provider.faults = Faults(endpoints=frozenset({"discovery"}), status=500)

    assert await found.introspection_endpoint() == endpoint
    asked = provider.discovery_calls
    assert await found.introspection_endpoint() == endpoint
    assert provider.discovery_calls == asked, "it is not asked again at every request"


async def test_an_endpoint_from_the_settings_needs_no_discovery(
    settings: Settings, serve: Serve, provider: RunningProvider, bearer: Bearer
) -> None:
    configured = settings.model_copy(
        update={"sso_introspection_url": f"{provider.issuer}/introspect"}
    )
    async with serve(configured) as caller:
        assert (await caller.get("/anyone", headers=bearer())).status_code == 200
    assert provider.discovery_calls == 0
