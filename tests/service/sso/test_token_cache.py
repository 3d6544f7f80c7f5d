"""What is cached of a token, for how long, and what concurrent requests share."""

import asyncio
import gc
import logging
import time
from types import FunctionType, ModuleType

import httpx2
import pytest

from app.settings import Settings
from app.utils.sso.errors import TokenInvalid
from app.utils.sso.resource_server.introspector import Introspector, Timeouts
from app.utils.sso.resource_server.provider_errors import ProviderError
from app.utils.sso.resource_server.token_cache import TokenCache, cache_key
from app.utils.sso.resource_server.token_validation import Token, TokenValidator
from tests.service.provider import Faults, RunningProvider
from tests.service.sso.assertions import Log, assert_refused, assert_unavailable, get
from tests.service.sso.conftest import Clock, Network, Open, Serve

# What leads out of the object that holds it.
_ELSEWHERE = (type, ModuleType, FunctionType, logging.Logger, httpx2.AsyncBaseTransport)


def texts_in(holder: object) -> set[str]:
    """Return the texts that an object of the service keeps, at any depth."""
    texts: set[str] = set()
    seen: set[int] = set()
    rest: list[object] = [holder]
    while rest:
        item = rest.pop()
        if isinstance(item, str | bytes):
            texts.add(item if isinstance(item, str) else item.decode("latin-1"))
        elif id(item) not in seen and not isinstance(item, _ELSEWHERE):
            seen.add(id(item))
            rest += gc.get_referents(item)
    return texts


class TestItsTime:
    async def test_an_active_token_is_remembered_for_a_minute(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, clock: Clock
    ) -> None:
        token = provider.mint()
        for ahead, calls in ((0, 1), (58, 1), (61, 2)):
            clock.ahead = ahead
            assert (await get(caller, token)).status_code == 200
            assert provider.introspection_calls == calls

    async def test_a_token_that_ends_before_is_remembered_until_then(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, clock: Clock
    ) -> None:
        token = provider.mint(expires_in=20)
        for ahead, calls in ((0, 1), (18, 1), (21, 2)):
            clock.ahead = ahead
            assert (await get(caller, token)).status_code == 200
            assert provider.introspection_calls == calls

    async def test_a_token_that_never_ends_is_remembered_for_a_minute(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, clock: Clock
    ) -> None:
        provider.faults = Faults(drop_claims=frozenset({"exp"}))
        token = provider.mint()
        for ahead, calls in ((0, 1), (58, 1), (61, 2)):
            clock.ahead = ahead
            assert (await get(caller, token)).status_code == 200
            assert provider.introspection_calls == calls

    async def test_a_revoked_token_ends_within_the_minute(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, clock: Clock
    ) -> None:
        token = provider.mint()
        assert (await get(caller, token)).status_code == 200
        provider.revoke(token)
        clock.ahead = 61
        assert_refused(await get(caller, token))

    async def test_a_clock_that_is_set_back_does_not_lengthen_it(
        self, settings: Settings, serve: Serve, provider: RunningProvider, clock: Clock
    ) -> None:
        for stale_seconds in (0, 3600):
            stale = settings.model_copy(update={"token_cache_stale_seconds": stale_seconds})
            async with serve(stale) as caller:
                token = provider.mint(expires_in=86400)
                clock.ahead = 7200
                assert (await get(caller, token)).status_code == 200
                provider.revoke(token)
                clock.ahead = 0
                assert_refused(await get(caller, token))

    async def test_an_inactive_token_is_remembered_for_ten_seconds(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, clock: Clock
    ) -> None:
        for ahead, calls in ((0, 1), (9, 1), (11, 2)):
            clock.ahead = ahead
            assert_refused(await get(caller, "unknown-token"))
            assert provider.introspection_calls == calls

    async def test_zero_seconds_ask_at_each_request(
        self, settings: Settings, serve: Serve, provider: RunningProvider
    ) -> None:
        token = provider.mint()
        async with serve(settings.model_copy(update={"token_cache_seconds": 0})) as caller:
            for calls in (1, 2):
                assert (await get(caller, token)).status_code == 200
                assert provider.introspection_calls == calls
            provider.revoke(token)
            assert_refused(await get(caller, token))

    async def test_zero_seconds_ask_again_where_the_clock_is_set_back(
        self, settings: Settings, serve: Serve, provider: RunningProvider, clock: Clock
    ) -> None:
        token = provider.mint()
        async with serve(settings.model_copy(update={"token_cache_seconds": 0})) as caller:
            assert (await get(caller, token)).status_code == 200
            clock.ahead = -3
            assert (await get(caller, token)).status_code == 200
            assert provider.introspection_calls == 2


class TestItsContents:
    async def test_scopes_are_judged_again_at_each_request(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        token = provider.mint(scope="report:read")
        assert (await get(caller, token)).status_code == 200
        assert (await get(caller, token, "/writers")).status_code == 403
        assert (await get(caller, token)).status_code == 200
        assert provider.introspection_calls == 1

    async def test_the_end_of_the_token_is_judged_again_at_each_request(
        self, settings: Settings, serve: Serve, provider: RunningProvider, clock: Clock
    ) -> None:
        token = provider.mint(expires_in=100)
        async with serve(settings.model_copy(update={"token_cache_seconds": 3600})) as caller:
            assert (await get(caller, token)).status_code == 200
            clock.ahead = 131
            assert_refused(await get(caller, token))

    async def test_tokens_of_different_text_are_never_mixed_up(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        tokens = {name: provider.mint(username=name) for name in ("alice", "bob")}
        for name, token in (*tokens.items(), *tokens.items()):
            assert (await get(caller, token)).json()["username"] == name
        assert_refused(await get(caller, tokens["alice"] + "a"))

    @pytest.mark.parametrize(
        "change",
        [
            {"client_id": "another"},
            {"sso_issuer": "https://other.example.com"},
            {"sso_introspection_url": "https://other.example.com/introspect"},
            {"sso_mode": "both"},
        ],
        ids=str,
    )
    def test_what_another_client_or_provider_says_has_another_name(
        self, settings: Settings, change: dict[str, str]
    ) -> None:
        other = settings.model_copy(update=change)
        assert cache_key(settings, "some-token") != cache_key(other, "some-token")

    def test_no_two_clients_and_providers_run_into_one_name(self, settings: Settings) -> None:
        one = settings.model_copy(update={"sso_issuer": "https://a.example/b", "client_id": "c"})
        other = settings.model_copy(update={"sso_issuer": "https://a.example/", "client_id": "bc"})
        assert cache_key(one, "some-token") != cache_key(other, "some-token")

    async def test_no_token_stands_in_it(
        self, settings: Settings, open_service: Open, provider: RunningProvider
    ) -> None:
        token = provider.mint()
        async with open_service(settings) as app:
            introspector: Introspector = app.state.introspector
            await introspector.token_data(token, [])
            texts = texts_in(introspector)
        assert "dev" in texts, "the response is there"
        assert not [text for text in texts if token in text]

    async def test_no_token_stands_in_what_is_known_of_an_outage(
        self, settings: Settings, open_service: Open, provider: RunningProvider
    ) -> None:
        """An error that is kept and raised again would keep the frames of its callers."""
        token = provider.mint(format="jwt")
        provider.faults = Faults(endpoints=frozenset({"jwks"}), status=500)
        async with open_service(settings.model_copy(update={"sso_mode": "jwt"})) as app:
            introspector: Introspector = app.state.introspector
            for _ in range(2):
                with pytest.raises(ProviderError):
                    await introspector.token_data(token, [])
            texts = texts_in(introspector)
        assert not [text for text in texts if token in text]

    async def test_nothing_of_an_inactive_one_stands_in_it(
        self, settings: Settings, open_service: Open, network: Network
    ) -> None:
        """Anybody can have that kept, and some providers repeat the token."""

        async def echo(request: httpx2.Request) -> httpx2.Response:
            if request.method == "GET":
                return await network.forward(request)
            said = {"active": False, "token": request.content.decode(), "iss": "canary"}
            return httpx2.Response(200, json=said)

        network.handler = echo
        async with open_service(settings) as app:
            introspector: Introspector = app.state.introspector
            with pytest.raises(TokenInvalid):
                await introspector.token_data("unknown-token", [])
            texts = texts_in(introspector)
        assert not [text for text in texts if "unknown-token" in text or "canary" in text]


class TestItsSize:
    """These test the cache alone, because filling it with requests takes long."""

    @pytest.fixture
    def cache(self, settings: Settings) -> TokenCache:
        return TokenCache(settings, time)

    @pytest.fixture
    def active(self, settings: Settings) -> Token:
        return TokenValidator(settings, time).read({"active": True}, None, time.time())

    @pytest.fixture
    def inactive(self, settings: Settings) -> Token:
        return TokenValidator(settings, time).read({"active": False}, None, time.time())

    def test_garbage_cannot_push_out_a_good_token(
        self, cache: TokenCache, active: Token, inactive: Token
    ) -> None:
        cache.put(b"good", active)
        for number in range(10_001):
            cache.put(b"%d" % number, inactive)
            cache.mark_failing(b"%d" % number)

        assert cache.get(b"good") is active
        assert cache.get(b"0") is None, "the oldest garbage is forgotten"
        assert cache.get(b"10000") is inactive

    def test_it_is_bounded(self, cache: TokenCache, active: Token) -> None:
        for number in range(10_001):
            cache.put(b"%d" % number, active)
        assert cache.get(b"0") is None
        assert cache.get(b"10000") is active


class Held:
    """Holds calls to the introspection endpoint until the test releases them."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.asked, self.answer = asyncio.Event(), asyncio.Event()

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        """Forward a request; an introspection waits for ``answer``."""
        if request.method == "POST":
            self.asked.set()
            await self.answer.wait()
        return await self._network.forward(request)


@pytest.fixture
def held(network: Network) -> Held:
    """What stands between the service and the introspection endpoint."""
    network.handler = held = Held(network)
    return held


class TestConcurrentRequests:
    async def test_two_hundred_with_one_token_are_one_call(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        token = provider.mint()
        responses = await asyncio.gather(*(get(caller, token) for _ in range(200)))
        assert {response.status_code for response in responses} == {200}
        assert provider.introspection_calls == 1

    async def test_they_share_a_failure_too(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        provider.faults = Faults(body="html")
        token = provider.mint()
        for response in await asyncio.gather(*(get(caller, token) for _ in range(50))):
            assert_unavailable(response)
        assert provider.introspection_calls == 1

    async def test_one_who_leaves_does_not_fail_the_others(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, held: Held
    ) -> None:
        token = provider.mint()
        leader = asyncio.create_task(get(caller, token))
        others = [asyncio.create_task(get(caller, token)) for _ in range(5)]
        await held.asked.wait()

        leader.cancel()
        held.answer.set()

        assert {response.status_code for response in await asyncio.gather(*others)} == {200}
        assert leader.cancelled()
        assert provider.introspection_calls == 1

    async def test_a_failure_that_nobody_waits_for_any_more_is_not_reported_to_the_event_loop(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, held: Held
    ) -> None:
        """Asyncio would log a traceback for each caller who leaves during an outage."""
        loop = asyncio.get_running_loop()
        before, reported = loop.get_exception_handler(), list[object]()
        loop.set_exception_handler(lambda _loop, context: reported.append(context))
        try:
            provider.faults = Faults(body="html")
            waiting = [asyncio.create_task(get(caller, provider.mint())) for _ in range(2)]
            await held.asked.wait()
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
            held.answer.set()
            await asyncio.sleep(0.2)
        finally:
            loop.set_exception_handler(before)
        assert provider.introspection_calls
        assert reported == []

    async def test_an_answer_that_nobody_waits_for_any_more_is_remembered(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, held: Held
    ) -> None:
        token = provider.mint()
        leader = asyncio.create_task(get(caller, token))
        await held.asked.wait()
        leader.cancel()
        held.answer.set()

        assert (await get(caller, token)).status_code == 200
        assert provider.introspection_calls == 1

    async def test_its_minute_begins_when_the_provider_is_asked(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, clock: Clock, held: Held
    ) -> None:
        """The answer may be as old as the call, and the token may be revoked since."""
        token = provider.mint()
        request = asyncio.create_task(get(caller, token))
        await held.asked.wait()
        clock.ahead = 30
        held.answer.set()
        assert (await request).status_code == 200
        for ahead, calls in ((58, 1), (61, 2)):
            clock.ahead = ahead
            assert (await get(caller, token)).status_code == 200
            assert provider.introspection_calls == calls

    @pytest.mark.parametrize("about", ["a token", "its health"])
    async def test_nobody_asks_any_more_when_the_service_has_stopped(
        self,
        settings: Settings,
        open_service: Open,
        provider: RunningProvider,
        held: Held,
        about: str,
    ) -> None:
        """Nor does stopping wait for the provider."""
        before, patient = asyncio.all_tasks(), Timeouts(provider=600, health=600)
        async with asyncio.timeout(20), open_service(settings, timeouts=patient) as app:
            introspector: Introspector = app.state.introspector
            question = (
                introspector.health()
                if about == "its health"
                else introspector.token_data(provider.mint(), [])
            )
            asking = asyncio.ensure_future(question)
            await held.asked.wait()
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            assert not asyncio.all_tasks() <= before, "the question itself goes on"
        assert asyncio.all_tasks() <= before


class TestAnOutage:
    """Serving stale responses while the provider is down is opt-in."""

    @pytest.fixture
    def lenient(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"token_cache_stale_seconds": 300})

    @pytest.mark.parametrize("faults", [{"status": 503}, {"body": "html"}], ids=str)
    async def test_an_older_response_serves_on(
        self,
        lenient: Settings,
        serve: Serve,
        provider: RunningProvider,
        clock: Clock,
        log: Log,
        faults: dict[str, object],
    ) -> None:
        token = provider.mint()
        async with serve(lenient) as caller:
            assert (await get(caller, token)).status_code == 200
            provider.faults = Faults.model_validate(faults)
            clock.ahead = 61
            for _ in range(8):
                assert (await get(caller, token)).status_code == 200
            assert (
                "WARNING",
                "The identity provider is down; using stale cached responses",
            ) in log.lines()

            clock.ahead = 361
            assert_unavailable(await get(caller, token))

    async def test_it_does_not_by_default(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, clock: Clock
    ) -> None:
        token = provider.mint()
        assert (await get(caller, token)).status_code == 200
        provider.faults = Faults(status=503)
        clock.ahead = 61
        assert_unavailable(await get(caller, token))

    @pytest.mark.parametrize("status", [401, 403, 404, 429])
    async def test_not_while_the_provider_refuses_to_answer(
        self,
        lenient: Settings,
        serve: Serve,
        provider: RunningProvider,
        clock: Clock,
        status: int,
    ) -> None:
        """Anybody may have caused that with invented tokens, to keep a revoked one alive."""
        token = provider.mint()
        async with serve(lenient) as caller:
            assert (await get(caller, token)).status_code == 200
            provider.revoke(token)
            provider.faults = Faults(status=status)
            clock.ahead = 61
            for _ in range(60):
                await get(caller, provider.mint())
            assert (await get(caller, token)).status_code == 503

    async def test_not_for_a_token_that_the_provider_cannot_bear(
        self, lenient: Settings, serve: Serve, provider: RunningProvider, clock: Clock
    ) -> None:
        token = provider.mint()
        async with serve(lenient) as caller:
            assert (await get(caller, token)).status_code == 200
            provider.faults = Faults(status=500, only_token=token)
            clock.ahead = 61
            for _ in range(3):
                assert_unavailable(await get(caller, token))
        assert provider.introspection_calls == 3, "one at first, one that fails, and the canary"

    async def test_never_beyond_the_end_of_the_token(
        self, lenient: Settings, serve: Serve, provider: RunningProvider, clock: Clock
    ) -> None:
        token = provider.mint(expires_in=90)
        async with serve(lenient) as caller:
            assert (await get(caller, token)).status_code == 200
            provider.faults = Faults(status=503)
            clock.ahead = 88
            assert (await get(caller, token)).status_code == 200
            clock.ahead = 91
            assert_unavailable(await get(caller, token))

    async def test_not_one_from_before_the_clock_was_set_back(
        self, lenient: Settings, serve: Serve, provider: RunningProvider, clock: Clock
    ) -> None:
        """Its age is unknown."""
        token = provider.mint(expires_in=86400)
        async with serve(lenient) as caller:
            clock.ahead = 7200
            assert (await get(caller, token)).status_code == 200
            provider.faults = Faults(status=503)
            clock.ahead = 0
            assert_unavailable(await get(caller, token))

    async def test_not_where_the_provider_refuses_us(
        self,
        lenient: Settings,
        serve: Serve,
        provider: RunningProvider,
        clock: Clock,
    ) -> None:
        token = provider.mint()
        async with serve(lenient) as caller:
            assert (await get(caller, token)).status_code == 200
            provider.faults = Faults(status=401)
            clock.ahead = 61
            assert_unavailable(await get(caller, token), "sso-misconfigured")

    async def test_not_for_a_token_that_was_revoked_before(
        self, lenient: Settings, serve: Serve, provider: RunningProvider, clock: Clock
    ) -> None:
        token = provider.mint()
        async with serve(lenient) as caller:
            assert (await get(caller, token)).status_code == 200
            provider.revoke(token)
            clock.ahead = 61
            assert_refused(await get(caller, token))
            provider.faults = Faults(status=503)
            clock.ahead = 80
            assert_unavailable(await get(caller, token))

    async def test_audience_and_scope_are_judged_again_then_too(
        self, lenient: Settings, serve: Serve, provider: RunningProvider, clock: Clock
    ) -> None:
        token = provider.mint(scope="report:read")
        async with serve(lenient) as caller:
            assert (await get(caller, token)).status_code == 200
            provider.faults = Faults(status=503)
            clock.ahead = 61
            assert (await get(caller, token, "/writers")).status_code == 403
