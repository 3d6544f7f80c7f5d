"""Whether the provider is asked at all, whose fault a failure is, and what the log says of it."""

import asyncio

import httpx2
import pytest

from app.settings import Settings
from app.utils.sso.errors import ProviderUnavailable
from app.utils.sso.introspection_schema import TokenData
from app.utils.sso.resource_server.circuit_breaker import CircuitBreaker, State
from app.utils.sso.resource_server.introspector import Introspector, ProviderHealth
from app.utils.sso.resource_server.provider_errors import Throttled, Unreachable
from tests.service.provider import Endpoint, Faults, RunningProvider
from tests.service.sso.assertions import Log, assert_refused, assert_unavailable, get
from tests.service.sso.conftest import Clock, Open, Serve


async def fail(caller: httpx2.AsyncClient, provider: RunningProvider, times: int) -> None:
    """Call so often, each time with another token, and get the answer of an outage."""
    for _ in range(times):
        assert_unavailable(await get(caller, provider.mint()))


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
        for wait, seconds in ((0, 5), (4, 1)):
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
        """Else anybody could keep everybody out, with one bad token."""
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
        """The next one who asks is a canary again, and not everybody at once."""
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
    """By the breaker alone, because what comes first must be certain."""

    async def test_who_has_waited_for_the_deadline_does_not_wait_for_a_canary_too(self) -> None:
        """Two deadlines are as long as a request may take at all."""
        asked: list[str] = []
        deadline = asyncio.Event()

        async def ask(token: str) -> TokenData:
            asked.append(token)
            await deadline.wait()
            raise Unreachable("TimeoutError")

        breaker = CircuitBreaker(ask, distrustful=False)
        tokens = [f"token-{number}" for number in range(20)]
        calls = [asyncio.create_task(breaker.ask(token)) for token in tokens]
        await asyncio.sleep(0)
        deadline.set()
        for failure in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(failure, ProviderUnavailable)
        assert asked == tokens

    async def test_nobody_can_know_the_canary(self) -> None:
        """Nor can a cache of the provider's: each is another random text."""
        asked: list[str] = []

        async def ask(token: str) -> TokenData:
            asked.append(token)
            return TokenData(active=False)

        breaker = CircuitBreaker(ask, distrustful=True)
        for _ in range(3):
            await breaker.probe()
        assert len(set(asked)) == 3
        assert all(len(canary) >= 32 for canary in asked)

    async def test_a_late_reply_does_not_shorten_a_hold(self) -> None:
        loop = asyncio.get_running_loop()
        replies = {token: loop.create_future() for token in ("early", "late")}

        async def ask(token: str) -> TokenData:
            await replies[token]
            raise AssertionError("no reply is an answer")

        breaker = CircuitBreaker(ask, distrustful=False)
        calls = {token: asyncio.create_task(breaker.ask(token)) for token in replies}
        await asyncio.sleep(0)
        for token, seconds in (("early", 60), ("late", 1)):
            replies[token].set_exception(Throttled(seconds))
            with pytest.raises(ProviderUnavailable):
                await calls[token]
        with pytest.raises(ProviderUnavailable) as caught:
            await breaker.ask("next")
        assert int(caught.value.headers["Retry-After"]) > 50

    async def test_a_late_answer_does_not_end_a_hold(self) -> None:
        loop = asyncio.get_running_loop()
        replies: dict[str, asyncio.Future[TokenData]] = {
            token: loop.create_future() for token in ("limited", "answered")
        }

        async def ask(token: str) -> TokenData:
            return await replies[token]

        breaker = CircuitBreaker(ask, distrustful=False)
        calls = {token: asyncio.create_task(breaker.ask(token)) for token in replies}
        await asyncio.sleep(0)
        replies["limited"].set_exception(Throttled(60))
        with pytest.raises(ProviderUnavailable):
            await calls["limited"]
        replies["answered"].set_result(TokenData(active=True))
        assert (await calls["answered"]).active
        assert breaker.state is State.THROTTLED
        with pytest.raises(ProviderUnavailable):
            await breaker.ask("next")


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
            ("ERROR", "The identity provider does not answer as it should: 500"),
            ("WARNING", "The identity provider answers again"),
        ]

    async def test_its_last_line_is_how_the_provider_is(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, clock: Clock, log: Log
    ) -> None:
        """A second outage within the minute is held back, and then told all the same."""
        for faults in (Faults(status=500), Faults(), Faults(status=500)):
            provider.faults = faults
            await get(caller, provider.mint())
        assert log.levels() == ["ERROR", "WARNING"]

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
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Discovery is one look-up: those who wait for it do not queue up for one each."""
        monkeypatch.setattr("app.utils.sso.resource_server.provider_client._DEADLINE_SECONDS", 0.1)
        provider.faults = Faults(endpoints=frozenset({"discovery"}), latency=30)
        async with serve(settings) as caller:
            for response in await asyncio.gather(
                *(get(caller, provider.mint()) for _ in range(20))
            ):
                assert_unavailable(response)
        assert provider.discovery_calls <= 1

    async def test_it_is_one_for_discovery_and_the_call_together(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Each of them is within it, and both are not."""
        monkeypatch.setattr("app.utils.sso.resource_server.provider_client._DEADLINE_SECONDS", 1)
        slow: frozenset[Endpoint] = frozenset({"discovery", "introspection"})
        provider.faults = Faults(endpoints=slow, latency=0.7)
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
                with pytest.raises(ProviderUnavailable):
                    await introspector.token_data(provider.mint(), [])
            assert await introspector.health() is ProviderHealth.UNAVAILABLE

    async def test_one_that_gives_up_does_not_spoil_the_keys_for_the_requests(
        self,
        settings: Settings,
        open_service: Open,
        provider: RunningProvider,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A valid token would be refused, as if the provider had never signed it."""
        monkeypatch.setattr(
            "app.utils.sso.resource_server.introspector._HEALTH_DEADLINE_SECONDS", 0.02
        )
        provider.faults = Faults(endpoints=frozenset({"jwks"}), latency=0.1)
        async with open_service(settings.model_copy(update={"sso_mode": "jwt"})) as app:
            introspector: Introspector = app.state.introspector
            assert await introspector.health() is ProviderHealth.UNAVAILABLE
            assert (await introspector.token_data(provider.mint(format="jwt"), [])).active
        assert provider.jwks_calls == 1


class TestProduction:
    """There, the endpoint is configured: the provider of these tests has no TLS to discover."""

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
