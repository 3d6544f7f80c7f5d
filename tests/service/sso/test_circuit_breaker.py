"""When the provider is called at all, who is blamed for a failure, and what is logged."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import parse_qs

import httpx2
import pytest

from app.settings import Settings
from app.utils.sso.resource_server.introspector import Introspector, ProviderHealth, Timeouts
from app.utils.sso.resource_server.provider_errors import ProviderError
from tests.service.provider import Endpoint, Faults, RunningProvider
from tests.service.sso.assertions import Log, assert_refused, assert_unavailable, get
from tests.service.sso.conftest import Clock, Network, Open, Serve
from tests.service.sso.metrics import Recorder


async def fail(caller: httpx2.AsyncClient, provider: RunningProvider, times: int) -> None:
    """Call this many times, each with a new token, and expect the answer of an outage."""
    for _ in range(times):
        assert_unavailable(await get(caller, provider.mint()))


def token_of(request: httpx2.Request) -> str:
    """Return the token that the provider is asked about."""
    return parse_qs(request.content.decode())["token"][0]


class Replies(dict[str, "asyncio.Future[httpx2.Response]"]):
    """The provider's replies about these tokens, which a test gives one by one.

    ``canary`` is the status and the headers of the reply about any other.
    """

    def __init__(self, *tokens: str) -> None:
        super().__init__((token, asyncio.get_running_loop().create_future()) for token in tokens)
        self.all_asked = asyncio.Event()
        self.canary: tuple[int, dict[str, str]] | None = None
        self._asked: set[str] = set()

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        """Wait for the reply about a token."""
        token = token_of(request)
        if token not in self and self.canary is not None:
            status, headers = self.canary
            return httpx2.Response(status, headers=headers)
        self._asked.add(token)
        if self._asked == self.keys():
            self.all_asked.set()
        return await self[token]


class TestTheBreaker:
    @pytest.mark.parametrize(
        ("faults", "calls"),
        [
            # Each failure is checked by a canary.
            ({"status": 500}, 10),
            # A reply that cannot be trusted is a failure by itself; the next call is a canary.
            ({"body": "html"}, 6),
        ],
        ids=str,
    )
    async def test_five_failures_open_it(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        log: Log,
        faults: dict[str, object],
        calls: int,
    ) -> None:
        provider.faults = Faults.model_validate(faults)
        await fail(caller, provider, 6)
        assert provider.introspection_calls == calls

        for _ in range(20):
            response = await get(caller, provider.mint())
            assert_unavailable(response)
            assert int(response.headers["retry-after"]) <= 5
        assert provider.introspection_calls == calls
        assert log.levels() == ["ERROR"]

    async def test_it_stays_open_for_five_seconds(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, clock: Clock
    ) -> None:
        provider.faults = Faults(status=500)
        await fail(caller, provider, 5)
        provider.faults = Faults()
        calls = provider.introspection_calls
        for wait, seconds in ((0, 5), (3.5, 2), (1, 1)):
            clock.ahead += wait
            response = await get(caller, provider.mint())
            assert_unavailable(response)
            assert int(response.headers["retry-after"]) == seconds
        assert provider.introspection_calls == calls

        clock.ahead += 1
        assert (await get(caller, provider.mint())).status_code == 200

    async def test_four_do_not(self, caller: httpx2.AsyncClient, provider: RunningProvider) -> None:
        provider.faults = Faults(body="html", times=4)
        await fail(caller, provider, 4)
        assert (await get(caller, provider.mint())).status_code == 200

    async def test_failures_with_answers_in_between_do_not(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        for _ in range(4):
            provider.faults = Faults(body="html", times=3)
            await fail(caller, provider, 3)
            assert (await get(caller, provider.mint())).status_code == 200

    async def test_tokens_that_the_provider_cannot_bear_do_not(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        """Otherwise one bad token could lock everybody out."""
        for number in range(10):
            provider.faults = Faults(body="html", only_token=f"poison-token-{number}")
            assert_unavailable(await get(caller, f"poison-token-{number}"))
        provider.faults = Faults()
        assert (await get(caller, provider.mint())).status_code == 200

    async def test_one_canary_closes_it_for_many_requests(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, clock: Clock, log: Log
    ) -> None:
        provider.faults = Faults(status=500)
        await fail(caller, provider, 6)
        provider.faults = Faults()
        clock.ahead += 6
        before = provider.introspection_calls

        responses = await asyncio.gather(*(get(caller, provider.mint()) for _ in range(30)))

        assert {response.status_code for response in responses} == {200}
        assert provider.introspection_calls - before == 31
        assert log.levels() == ["ERROR", "WARNING"], "down, and up again"

        assert (await get(caller, provider.mint())).status_code == 200
        assert provider.introspection_calls - before == 32

    async def test_one_canary_keeps_it_open_for_many_requests(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, clock: Clock
    ) -> None:
        provider.faults = Faults(status=500)
        await fail(caller, provider, 6)
        for _ in range(3):
            clock.ahead += 6
            before = provider.introspection_calls
            for response in await asyncio.gather(
                *(get(caller, provider.mint()) for _ in range(30))
            ):
                assert_unavailable(response)
            assert provider.introspection_calls - before == 1

    async def test_a_limited_rate_does_not_close_it(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, clock: Clock
    ) -> None:
        """The next call is a canary again, instead of all requests at once."""
        provider.faults = Faults(status=500)
        await fail(caller, provider, 6)
        clock.ahead += 6
        provider.faults = Faults(status=429, retry_after="1")
        await fail(caller, provider, 1)

        clock.ahead += 2
        provider.faults = Faults(status=500)
        before = provider.introspection_calls
        await asyncio.gather(*(get(caller, provider.mint()) for _ in range(30)))
        assert provider.introspection_calls - before == 1


class TestCallsAtOnce:
    """The test decides when each reply arrives, so that their order is certain."""

    @pytest.fixture
    async def caller(
        self, settings: Settings, serve: Serve, provider: RunningProvider
    ) -> AsyncIterator[httpx2.AsyncClient]:
        """A client of a service that need not discover the endpoint."""
        url = f"{provider.issuer}/introspect"
        async with serve(settings.model_copy(update={"sso_introspection_url": url})) as caller:
            yield caller

    async def test_who_has_waited_for_the_deadline_does_not_wait_for_a_canary_too(
        self, caller: httpx2.AsyncClient, network: Network
    ) -> None:
        """Two deadlines would exceed the time of a request."""
        asked: list[str] = []
        deadline = asyncio.Event()

        async def answer(request: httpx2.Request) -> httpx2.Response:
            asked.append(token_of(request))
            if len(asked) == 20:
                deadline.set()
            await deadline.wait()
            raise httpx2.ReadTimeout("the end of all patience", request=request)

        network.handler = answer
        tokens = [f"some-token-{number}" for number in range(20)]
        for response in await asyncio.gather(*(get(caller, token) for token in tokens)):
            assert_unavailable(response)
        assert sorted(asked) == sorted(tokens)

    async def test_a_late_reply_does_not_shorten_a_hold(
        self, caller: httpx2.AsyncClient, network: Network
    ) -> None:
        replies = Replies("early-token", "later-token")
        network.handler = replies
        calls = {token: asyncio.create_task(get(caller, token)) for token in replies}
        await replies.all_asked.wait()
        for token, seconds in (("early-token", 60), ("later-token", 1)):
            headers = {"retry-after": str(seconds)}
            replies.canary = (429, headers)
            replies[token].set_result(httpx2.Response(429, headers=headers))
            assert int((await calls[token]).headers["retry-after"]) > 50
        response = await get(caller, "third-token")
        assert_unavailable(response)
        assert int(response.headers["retry-after"]) > 50

    async def test_a_late_answer_does_not_end_a_hold(
        self, caller: httpx2.AsyncClient, network: Network, recorder: Recorder
    ) -> None:
        replies = Replies("limited-token", "answered-token")
        network.handler = replies
        calls = {token: asyncio.create_task(get(caller, token)) for token in replies}
        await replies.all_asked.wait()
        replies.canary = (429, {"retry-after": "60"})
        limit = httpx2.Response(429, headers={"retry-after": "60"})
        replies["limited-token"].set_result(limit)
        assert_unavailable(await calls["limited-token"])
        answer = httpx2.Response(200, json={"active": True, "aud": "app"})
        replies["answered-token"].set_result(answer)
        assert (await calls["answered-token"]).status_code == 200
        assert_unavailable(await get(caller, "third-token"))
        assert recorder["sso.breaker.state"].amounts[-1] == 1

    async def test_a_late_answer_does_not_give_a_canary_that_fails_four_more_tries(
        self, caller: httpx2.AsyncClient, network: Network, clock: Clock
    ) -> None:
        late = Replies("late-token")
        calls = 0

        async def answer(request: httpx2.Request) -> httpx2.Response:
            nonlocal calls
            calls += 1
            return await late(request) if token_of(request) in late else httpx2.Response(500)

        network.handler = answer
        early = asyncio.create_task(get(caller, "late-token"))
        await late.all_asked.wait()
        for number in range(5):
            assert_unavailable(await get(caller, f"some-token-{number}"))
        response = httpx2.Response(200, json={"active": True, "aud": "app"})
        late["late-token"].set_result(response)
        assert (await early).status_code == 200

        clock.ahead += 6
        calls = 0
        for number in range(5):
            assert_unavailable(await get(caller, f"other-token-{number}"))
        assert calls == 1


class TestTheLog:
    async def test_an_outage_is_one_line_and_its_end_another(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, clock: Clock, log: Log
    ) -> None:
        provider.faults = Faults(status=500)
        for _ in range(20):
            await fail(caller, provider, 2)
            clock.ahead += 6
        provider.faults = Faults()
        for _ in range(5):
            await get(caller, provider.mint())

        assert log.lines() == [
            (
                "ERROR",
                f"The identity provider does not answer as it should: 500 at {provider.issuer}",
            ),
            ("WARNING", "The identity provider has recovered"),
        ]

    async def test_each_outage_has_its_beginning_and_its_end(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, log: Log
    ) -> None:
        for faults in (Faults(status=500), Faults()) * 3:
            provider.faults = faults
            await get(caller, provider.mint())
        assert log.levels() == ["ERROR", "WARNING"] * 3

    async def test_its_last_line_is_how_the_provider_is(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, clock: Clock, log: Log
    ) -> None:
        """Of many outages in a minute the last line is delayed, but not lost."""
        for faults in (Faults(status=500), Faults()) * 10:
            provider.faults = faults
            await get(caller, provider.mint())
        provider.faults = Faults(status=500)
        await get(caller, provider.mint())
        assert log.levels() == ["ERROR", "WARNING"] * 10

        clock.ahead += 61
        await fail(caller, provider, 1)

        [(level, text)] = log.lines()
        assert level == "ERROR"
        assert "does not answer" in text


class TestTheDeadline:
    async def test_a_provider_that_hangs_at_the_start_keeps_nobody_waiting_for_the_others(
        self,
        settings: Settings,
        serve: Serve,
        provider: RunningProvider,
    ) -> None:
        """All of them share one look-up, instead of waiting for one each in turn."""
        provider.faults = Faults(endpoints=frozenset({"discovery"}), latency=30)
        async with serve(settings, timeouts=Timeouts(provider=0.1)) as caller:
            for response in await asyncio.gather(
                *(get(caller, provider.mint()) for _ in range(20))
            ):
                assert_unavailable(response)
        assert provider.discovery_calls <= 1

    async def test_it_is_one_for_discovery_and_the_call_together(
        self, settings: Settings, serve: Serve, provider: RunningProvider
    ) -> None:
        """Each of them would be in time, but not both."""
        slow: frozenset[Endpoint] = frozenset({"discovery", "introspection"})
        provider.faults = Faults(endpoints=slow, latency=0.7)
        async with serve(settings, timeouts=Timeouts(provider=1)) as caller:
            assert_unavailable(await get(caller, provider.mint()))


class TestHealth:
    @pytest.mark.parametrize(
        ("faults", "health"),
        [
            ({}, ProviderHealth.OK),
            ({"status": 500}, ProviderHealth.UNAVAILABLE),
            ({"body": "html"}, ProviderHealth.UNAVAILABLE),
            ({"status": 429}, ProviderHealth.UNAVAILABLE),
            ({"status": 401}, ProviderHealth.MISCONFIGURED),
            ({"status": 400}, ProviderHealth.MISCONFIGURED),
        ],
        ids=str,
    )
    async def test_a_canary_tells(
        self,
        settings: Settings,
        open_service: Open,
        provider: RunningProvider,
        faults: dict[str, object],
        health: ProviderHealth,
    ) -> None:
        provider.faults = Faults.model_validate(faults)
        async with open_service(settings) as app:
            introspector: Introspector = app.state.introspector
            assert await introspector.health() is health
        assert provider.introspection_calls == 1

    async def test_an_answer_of_the_last_seconds_is_enough(
        self, settings: Settings, open_service: Open, provider: RunningProvider, clock: Clock
    ) -> None:
        async with open_service(settings) as app:
            introspector: Introspector = app.state.introspector
            await introspector.token_data(provider.mint(), [])
            for ahead, calls in ((0, 1), (29, 1), (31, 2)):
                clock.ahead = ahead
                assert await introspector.health() is ProviderHealth.OK
                assert provider.introspection_calls == calls

    async def test_its_own_answer_is_enough_too(
        self, settings: Settings, open_service: Open, provider: RunningProvider, clock: Clock
    ) -> None:
        async with open_service(settings) as app:
            introspector: Introspector = app.state.introspector
            for ahead, calls in ((0, 1), (29, 1), (31, 2)):
                clock.ahead = ahead
                assert await introspector.health() is ProviderHealth.OK
                assert provider.introspection_calls == calls

    @pytest.mark.parametrize(
        ("mode", "endpoint", "health"),
        [
            ("jwt", "introspection", ProviderHealth.OK),
            ("jwt", "jwks", ProviderHealth.UNAVAILABLE),
            ("both", "introspection", ProviderHealth.UNAVAILABLE),
            ("both", "jwks", ProviderHealth.UNAVAILABLE),
            ("introspect", "jwks", ProviderHealth.OK),
        ],
    )
    async def test_only_what_the_mode_needs_is_asked(
        self,
        settings: Settings,
        open_service: Open,
        provider: RunningProvider,
        mode: str,
        endpoint: str,
        health: ProviderHealth,
    ) -> None:
        provider.faults = Faults.model_validate({"endpoints": [endpoint], "status": 500})
        async with open_service(settings.model_copy(update={"sso_mode": mode})) as app:
            introspector: Introspector = app.state.introspector
            assert await introspector.health() is health
        if mode == "jwt":
            assert provider.introspection_calls == 0
        if mode == "introspect":
            assert provider.jwks_calls == 0

    async def test_an_open_breaker_is_news_that_is_later(
        self, settings: Settings, open_service: Open, provider: RunningProvider
    ) -> None:
        async with open_service(settings) as app:
            introspector: Introspector = app.state.introspector
            await introspector.token_data(provider.mint(), [])
            provider.faults = Faults(status=500)
            for _ in range(5):
                with pytest.raises(ProviderError):
                    await introspector.token_data(provider.mint(), [])
            assert await introspector.health() is ProviderHealth.UNAVAILABLE

    async def test_one_that_gives_up_does_not_spoil_the_keys_for_the_requests(
        self,
        settings: Settings,
        open_service: Open,
        provider: RunningProvider,
    ) -> None:
        """Otherwise a valid token would be refused as if it were forged."""
        provider.faults = Faults(endpoints=frozenset({"jwks"}), latency=0.1)
        local = settings.model_copy(update={"sso_mode": "jwt"})
        async with open_service(local, timeouts=Timeouts(health=0.02)) as app:
            introspector: Introspector = app.state.introspector
            assert await introspector.health() is ProviderHealth.UNAVAILABLE
            assert (await introspector.token_data(provider.mint(format="jwt"), [])).active
        assert provider.jwks_calls == 1


class TestProduction:
    """The endpoint is configured, because the provider of the tests has no TLS."""

    @pytest.fixture
    def production(self, settings: Settings, provider: RunningProvider) -> Settings:
        return settings.model_copy(
            update={
                "environment": "production",
                "sso_introspection_url": f"{provider.issuer}/introspect",
            }
        )

    async def test_a_provider_that_calls_every_text_active_is_refused(
        self, production: Settings, serve: Serve, provider: RunningProvider, log: Log
    ) -> None:
        provider.faults = Faults(always_active=True)
        async with serve(production) as caller:
            for _ in range(5):
                response = await get(caller, "invented-token")
                assert_unavailable(response, "sso-misconfigured")
        assert provider.introspection_calls == 1
        [(level, text)] = log.lines()
        assert level == "ERROR"
        assert "active" in text

    async def test_it_is_found_out_after_a_limited_rate_too(
        self, production: Settings, serve: Serve, provider: RunningProvider, clock: Clock
    ) -> None:
        async with serve(production) as caller:
            provider.faults = Faults(status=429, retry_after="1")
            assert_unavailable(await get(caller, "invented-token"))
            provider.faults = Faults(always_active=True)
            clock.ahead += 2
            assert_unavailable(await get(caller, "invented-token"), "sso-misconfigured")

    async def test_a_real_provider_is_asked_about_one_canary(
        self, production: Settings, serve: Serve, provider: RunningProvider
    ) -> None:
        async with serve(production) as caller:
            for calls in (2, 3):
                assert (await get(caller, provider.mint())).status_code == 200
                assert provider.introspection_calls == calls
            assert_refused(await get(caller, "invented-token"))

    async def test_nobody_can_know_the_canary(
        self,
        production: Settings,
        open_service: Open,
        network: Network,
        clock: Clock,
    ) -> None:
        """Each is a new random text, so that no cache of the provider's can answer it either."""
        canaries: list[str] = []

        async def answer(request: httpx2.Request) -> httpx2.Response:
            canaries.append(token_of(request))
            return httpx2.Response(200, json={"active": False})

        network.handler = answer
        async with open_service(production) as app:
            introspector: Introspector = app.state.introspector
            for _ in range(3):
                assert await introspector.health() is ProviderHealth.OK
                clock.ahead += 31
        assert len(set(canaries)) == 3
        assert all(len(canary) >= 32 for canary in canaries)

    async def test_elsewhere_a_mock_is_welcome(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        provider.faults = Faults(always_active=True)
        assert (await get(caller, "invented-token")).status_code == 200

    async def test_and_healthy(
        self, settings: Settings, open_service: Open, provider: RunningProvider
    ) -> None:
        provider.faults = Faults(always_active=True)
        async with open_service(settings) as app:
            introspector: Introspector = app.state.introspector
            assert await introspector.health() is ProviderHealth.OK
