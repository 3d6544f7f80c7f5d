"""What a process keeps of the tokens and clients that it has seen is bounded."""

import asyncio
import gc
from contextlib import suppress

import httpx2
import pytest

from app.settings import Settings
from app.utils.sso.resource_server import admission, token_cache
from app.utils.sso.resource_server.provider_errors import ProviderError
from tests.service.sso.conftest import Network, Open
from tests.service.sso.test_token_cache import _ELSEWHERE

_BOUND = 40
_FLOOD = 240


class Mixed:
    """A provider to which a third of the tokens is good, a third bad, and that fails at others."""

    def __init__(self, network: Network, settings: Settings) -> None:
        self._network = network
        self._good = {"active": True, "aud": settings.sso_audience, "sub": "somebody"}
        self._calls = 0

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request."""
        if request.method == "GET":
            return await self._network.forward(request)
        # A canary is long, and inactive.
        if b"token-" not in request.content:
            return httpx2.Response(200, json={"active": False})
        self._calls += 1
        match self._calls % 3:
            case 0:
                return httpx2.Response(200, json=self._good)
            case 1:
                return httpx2.Response(200, json={"active": False})
        return httpx2.Response(500)


def entries_in(holder: object) -> int:
    """Return how many entries all dictionaries, lists and sets have that an object holds."""
    entries, seen, rest = 0, set[int](), [holder]
    while rest:
        item = rest.pop()
        if id(item) in seen or isinstance(item, _ELSEWHERE):
            continue
        seen.add(id(item))
        entries += len(item) if isinstance(item, dict | list | set) else 0
        rest += gc.get_referents(item)
    return entries


async def test_new_tokens_of_new_clients_push_out_those_before(
    settings: Settings, open_service: Open, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "_CLIENTS", _BOUND)
    monkeypatch.setattr(token_cache, "_ENTRIES", _BOUND)
    network.handler = Mixed(network, settings)
    async with open_service(settings) as app:
        introspector = app.state.introspector

        async def look_up(number: int) -> None:
            client = f"192.0.{number // 256}.{number % 256}"
            with suppress(ProviderError):
                await introspector.look_up(f"token-{number}", client)

        async def flood(first: int) -> int:
            for number in range(first, first + _FLOOD, 20):
                await asyncio.gather(*(look_up(it) for it in range(number, number + 20)))
            gc.collect()
            return entries_in(introspector)

        before = await flood(0)
        assert await flood(_FLOOD) < before + _FLOOD // 2
