"""Callers find out which provider the service trusts (RFC 9728)."""

import asyncio

import httpx2
import pytest

from app.core.project import TITLE
from app.settings import Settings
from tests.service.provider import Faults, RunningProvider
from tests.service.sso.assertions import assert_problem, get
from tests.service.sso.conftest import Serve

_DOCUMENT = "/.well-known/oauth-protected-resource"


@pytest.mark.parametrize(
    ("public_url", "document_url"),
    [
        ("https://api.example.com", f"https://api.example.com{_DOCUMENT}"),
        ("https://api.example.com/", f"https://api.example.com{_DOCUMENT}"),
        ("https://example.com/api/v1", f"https://example.com{_DOCUMENT}/api/v1"),
        ("https://example.com:8443/api/", f"https://example.com:8443{_DOCUMENT}/api"),
        ('https://example.com/a"%20b', f"https://example.com{_DOCUMENT}/a%22%20b"),
    ],
)
async def test_every_challenge_says_where_the_document_is(
    settings: Settings, serve: Serve, provider: RunningProvider, public_url: str, document_url: str
) -> None:
    token = provider.mint(scope="report:read", acr="silver")
    async with serve(settings.model_copy(update={"public_url": public_url})) as caller:
        answers = [
            await get(caller, None),
            await get(caller, "unknown-token"),
            await caller.get("/anyone", headers={"Authorization": ""}),
            await get(caller, token, "/writers"),
            await get(caller, token, "/strong"),
            await get(caller, token, "/admins"),
        ]
        document = await caller.get(httpx2.URL(document_url).path)

    assert [answer.status_code for answer in answers] == [401, 401, 400, 403, 401, 403]
    for answer in answers:
        challenge = answer.headers["www-authenticate"]
        assert challenge.endswith(f', resource_metadata="{document_url}"')
        assert challenge.count("resource_metadata") == 1
    assert document.json() == {
        "resource": public_url,
        "authorization_servers": [provider.issuer],
        "bearer_methods_supported": ["header"],
        "resource_name": TITLE,
    }


async def test_those_who_wait_for_one_look_up_get_one_address_each(
    settings: Settings, serve: Serve, provider: RunningProvider
) -> None:
    public = {"public_url": "https://api.example.com", "sso_mode": "jwt"}
    token = provider.sign({"iss": provider.issuer})
    async with serve(settings.model_copy(update=public)) as caller:
        answers = await asyncio.gather(*(get(caller, token) for _ in range(5)))
    for answer in answers:
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].count("resource_metadata") == 1


async def test_the_host_of_a_request_is_never_repeated(caller: httpx2.AsyncClient) -> None:
    """The caller chooses it; without PUBLIC_URL there is no document."""
    headers = {"Host": "evil.example.com", "X-Forwarded-Host": "evil.example.com"}
    answer = await caller.get("/anyone", headers=headers)
    assert answer.headers["www-authenticate"] == 'Bearer realm="api"'

    document = await caller.get(_DOCUMENT, headers=headers)
    assert_problem(document, 404, "about:blank", "Not Found")


async def test_an_outage_has_no_challenge(
    settings: Settings, serve: Serve, provider: RunningProvider
) -> None:
    provider.faults = Faults(status=500)
    public = settings.model_copy(update={"public_url": "https://api.example.com"})
    async with serve(public) as caller:
        assert "www-authenticate" not in (await get(caller, provider.mint())).headers
