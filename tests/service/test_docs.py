"""The documentation page; tests/test_docs_page.py opens it in a browser."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from fastapi import FastAPI

from app.main import create_app
from app.settings import Settings
from app.utils.sso.resource_server.introspector import open_introspector
from tests.service.provider import Faults, RunningProvider
from tests.service.sso.conftest import Network

METADATA = "/.well-known/oauth-authorization-server"


@asynccontextmanager
async def calling(app: FastAPI, root_path: str = "") -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app, root_path=root_path)
    base_url = f"http://test{root_path}/"
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url=base_url) as client,
    ):
        yield client


def settings_of(page: httpx2.Response) -> dict[str, object]:
    assert page.status_code == 200
    found = re.search(r'<script id="settings" type="application/json">(.*?)</script', page.text)
    assert found is not None
    values: dict[str, object] = json.loads(found[1])
    return values


@pytest.mark.parametrize("root_path", ["", "/orders", "/docs"])
async def test_what_the_page_loads_is_served_beside_it(settings: Settings, root_path: str) -> None:
    async with calling(create_app(settings), root_path) as client:
        for path in ("docs", "redoc", "docs/oauth2-redirect"):
            page = await client.get(path)
            policy = page.headers["content-security-policy"]
            assert "script-src 'self';" in policy
            assert "://" not in page.text.replace(settings.sso_issuer, "")
            loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
            assert loaded
            for address in loaded:
                response = await client.get(str(page.url.join(address)))
                assert response.status_code == 200, address


async def test_the_page_signs_in_where_the_provider_says(settings: Settings) -> None:
    changes = {"docs_client_id": "</script><b>", "docs_scopes": "openid  profile"}
    async with calling(create_app(settings.model_copy(update=changes))) as client:
        page = await client.get("docs")
    issuer = settings.sso_issuer
    assert settings_of(page) == {
        "clientId": "</script><b>",
        "scopes": ["openid", "profile"],
        "isDevelopment": False,
        "authorizationUrl": f"{issuer}/authorize",
        "tokenUrl": f"{issuer}/token",
    }
    assert f"connect-src 'self' {issuer};" in page.headers["content-security-policy"]


async def test_metadata_of_oauth_are_enough(settings: Settings) -> None:
    """A provider without OpenID Connect has only those of RFC 8414."""
    endpoints = {
        "issuer": settings.sso_issuer,
        "authorization_endpoint": "https://login.example.com/a",
        "token_endpoint": "https://tokens.example.com/t",
    }

    async def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == METADATA:
            return httpx2.Response(200, json=endpoints)
        return httpx2.Response(404)

    app = create_app(settings)
    transport = Network(answer)
    async with calling(app) as client, open_introspector(settings, transport=transport) as other:
        app.state.introspector = other
        page = await client.get("docs")
    assert settings_of(page)["authorizationUrl"] == "https://login.example.com/a"
    assert "connect-src 'self' https://tokens.example.com;" in str(page.headers)


async def test_without_the_provider_the_page_offers_to_paste_a_token(
    settings: Settings, provider: RunningProvider
) -> None:
    provider.faults = Faults(endpoints=frozenset({"discovery"}), status=503)
    async with calling(create_app(settings)) as client:
        page = await client.get("docs")
    assert settings_of(page)["authorizationUrl"] == ""
    assert "connect-src 'self';" in page.headers["content-security-policy"]


@pytest.mark.parametrize("name", ["page.html", "__init__.py", "nothing.js", "%2e%2e%2fmain.py"])
async def test_nothing_else_is_served(settings: Settings, name: str) -> None:
    async with calling(create_app(settings)) as client:
        assert (await client.get(f"docs/{name}")).status_code == 404
