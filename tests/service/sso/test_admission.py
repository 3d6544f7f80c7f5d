"""What a flood of invented tokens may cost the provider, and the callers with good ones."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from urllib.parse import parse_qs

import httpx2
import pytest

from app.settings import Settings
from app.utils.sso.resource_server.introspector import Timeouts
from tests.service.provider import Faults, RunningProvider
from tests.service.sso.assertions import Log, assert_refused, assert_unavailable, get
from tests.service.sso.conftest import Clock, Network, Open

type From = Callable[..., httpx2.AsyncClient]


@pytest.fixture
def timeouts() -> Timeouts:
    """The usual time to wait for a turn; a busy machine may make the calls slowly."""
    return Timeouts(provider=20)


@pytest.fixture
def network(network: Network) -> Network:
    """The network, on which a busy machine may be slow to connect."""
    connections = network.forward

    async def forward(request: httpx2.Request) -> httpx2.Response:
        patience = httpx2.Timeout(20).as_dict()
        request.extensions = {**request.extensions, "timeout": patience}
        return await connections(request)

    network.forward = network.handler = forward
    return network


@pytest.fixture
async def come_from(
    settings: Settings, open_service: Open, timeouts: Timeouts
) -> AsyncIterator[From]:
    """Return a client of the same service at an address: ``come_from("192.0.2.1")``."""
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(open_service(settings, timeouts=timeouts))

        def come(address: str, port: int = 4711) -> httpx2.AsyncClient:
            transport = httpx2.ASGITransport(app, client=(address, port))
            client = httpx2.AsyncClient(transport=transport, base_url="http://test")
            stack.push_async_callback(client.aclose)
            return client

        yield come


class Slow:
    """A provider that takes half a second for each call, and counts those that run at once."""

    def __init__(self, network: Network, seconds: float = 0.5) -> None:
        self._seconds = seconds
        self.running = self.most = self.calls = 0
        self._network = network

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        """Forward a request, late."""
        self.calls += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self._seconds)
            return await self._network.forward(request)
        finally:
            self.running -= 1


async def flood(client: httpx2.AsyncClient, size: int, name: str = "invented") -> Counter[int]:
    """Present so many invented tokens at once, and count the answers by their status."""
    answers = await asyncio.gather(*(get(client, f"{name}-{i}") for i in range(size)))
    return Counter(answer.status_code for answer in answers)


class TestAtOnce:
    async def test_a_token_that_was_good_before_does_not_wait_behind_invented_ones(
        self, come_from: From, network: Network, provider: RunningProvider, clock: Clock
    ) -> None:
        user, token = come_from("192.0.2.1"), provider.mint()
        assert (await get(user, token)).status_code == 200
        clock.ahead += 61
        network.handler = slow = Slow(network)

        junk = asyncio.create_task(flood(user, 1000))
        await asyncio.sleep(0.1)
        assert (await get(user, token)).status_code == 200
        assert not junk.done()
        answers = await junk
        assert set(answers) == {401, 503}
        assert slow.most <= 51

    async def test_nor_does_a_new_one_of_another_client(
        self, come_from: From, network: Network, provider: RunningProvider
    ) -> None:
        network.handler = Slow(network)
        junk = asyncio.create_task(flood(come_from("192.0.2.66"), 1000))
        await asyncio.sleep(0.1)
        assert (await get(come_from("192.0.2.1"), provider.mint())).status_code == 200
        assert not junk.done()
        await junk

    async def test_nor_is_there_a_flood_that_takes_the_last_calls_and_places(
        self, come_from: From, network: Network, provider: RunningProvider
    ) -> None:
        other = come_from("192.0.2.1")
        assert (await get(other, provider.mint())).status_code == 200
        network.handler = slow = Slow(network, seconds=1.8)
        junk = asyncio.create_task(flood(come_from("192.0.2.66"), 700))
        await asyncio.sleep(0.2)
        assert slow.running == 40
        answers = await asyncio.gather(*(get(other, provider.mint()) for _ in range(10)))
        assert {answer.status_code for answer in answers} == {200}
        await junk

    @pytest.mark.parametrize("timeouts", [Timeouts(provider=20, admission=20)], ids=["patient"])
    async def test_tokens_that_were_good_before_may_use_all_calls(
        self, come_from: From, network: Network, provider: RunningProvider, clock: Clock
    ) -> None:
        users = [come_from(f"192.0.2.{number}") for number in range(10)]
        known = [(user, provider.mint()) for user in users for _ in range(12)]
        for user, token in known:
            assert (await get(user, token)).status_code == 200
        clock.ahead += 61
        network.handler = slow = Slow(network)
        answers = await asyncio.gather(*(get(user, token) for user, token in known))
        assert {answer.status_code for answer in answers} == {200}
        assert slow.most == 100

    async def test_what_waits_for_its_turn_in_vain_is_a_503_and_no_call(
        self, come_from: From, network: Network, log: Log
    ) -> None:
        network.handler = slow = Slow(network)
        answers = await flood(come_from("192.0.2.66"), 1000)
        assert answers[401] == slow.calls - 1, "the other was discovery"
        assert answers[401] + answers[503] == 1000
        why = "A token was not looked up: for seconds others were before it"
        assert ("WARNING", why) in log.lines()

    async def test_those_who_leave_give_their_turn_back(
        self, come_from: From, network: Network, provider: RunningProvider
    ) -> None:
        """What a look-up has begun goes on, and its turn ends with it."""
        network.handler = Slow(network)
        client = come_from("192.0.2.66")
        for _ in range(3):
            junk = [asyncio.create_task(get(client, f"left-{i}")) for i in range(150)]
            await asyncio.sleep(0.05)
            for task in junk:
                task.cancel()
            await asyncio.gather(*junk, return_exceptions=True)
        await asyncio.sleep(Timeouts().admission + 0.5)
        network.handler = network.forward
        answers = await asyncio.gather(*(get(client, provider.mint()) for _ in range(100)))
        assert {answer.status_code for answer in answers} == {200}


class _Overloaded:
    """A provider that answers about some tokens; what is asked about others waits for relief."""

    def __init__(self, network: Network, good: set[str]) -> None:
        self.good, self.running, self.relief = good, 0, asyncio.Event()
        self._network = network

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        """Forward a request, sooner or later."""
        form = parse_qs(request.content.decode())
        if request.method == "GET" or form["token"][0] in self.good:
            return await self._network.forward(request)
        self.running += 1
        try:
            await self.relief.wait()
        finally:
            self.running -= 1
        return await self._network.forward(request)


class TestAProviderThatIsSlow:
    async def test_good_tokens_have_the_time_that_it_takes(
        self, come_from: From, network: Network, provider: RunningProvider
    ) -> None:
        """Beside a flood, they wait for one turn and for their own answer."""
        user, tokens = come_from("192.0.2.1"), [provider.mint() for _ in range(24)]
        assert (await get(user, provider.mint())).status_code == 200
        network.handler = Slow(network, seconds=2)
        junk = asyncio.create_task(flood(come_from("192.0.2.66"), 300))
        await asyncio.sleep(0.1)
        answers = await asyncio.gather(*(get(user, token) for token in tokens))
        assert Counter(answer.status_code for answer in answers) == {200: 24}
        await junk

    def test_a_turn_and_an_answer_take_less_than_a_request_may(self, settings: Settings) -> None:
        assert Timeouts().admission + Timeouts().provider < settings.request_timeout

    @pytest.fixture
    def timeouts(self, request: pytest.FixtureRequest) -> Timeouts:
        """The usual ones, or a short time for an answer."""
        return getattr(request, "param", Timeouts())

    @pytest.mark.parametrize("timeouts", [Timeouts(provider=1)], indirect=True)
    async def test_it_is_not_down_while_it_answers_some(
        self, come_from: From, network: Network, provider: RunningProvider, log: Log
    ) -> None:
        user, bad = come_from("192.0.2.1"), come_from("192.0.2.66")
        tokens = [provider.mint() for _ in range(3)]
        assert (await get(user, tokens[0])).status_code == 200
        network.handler = _Overloaded(network, set(tokens))
        junk = asyncio.create_task(flood(bad, 20))
        await asyncio.sleep(0.2)
        assert (await get(user, tokens[1])).status_code == 200
        assert await junk == {503: 20}
        assert (await get(user, tokens[2])).status_code == 200
        lines = log.lines()
        assert not [line for level, line in lines if level == "ERROR"]
        assert [line for _, line in lines if line.startswith("Fewer calls at once are made")]

    @pytest.mark.parametrize("timeouts", [Timeouts(provider=1)], indirect=True)
    async def test_it_gets_fewer_calls_at_once_until_it_answers_them(
        self, come_from: From, network: Network, provider: RunningProvider
    ) -> None:
        user, bad = come_from("192.0.2.1"), come_from("192.0.2.66")
        token = provider.mint()
        assert (await get(user, provider.mint())).status_code == 200
        network.handler = overloaded = _Overloaded(network, {token})

        junk = asyncio.create_task(flood(bad, 40, "first"))
        await asyncio.sleep(0.2)
        assert overloaded.running == 40
        assert (await get(user, token)).status_code == 200
        assert await junk == {503: 40}

        junk = asyncio.create_task(flood(bad, 40, "second"))
        await asyncio.sleep(0.2)
        assert overloaded.running == 8
        overloaded.relief.set()
        assert await junk == {401: 40}

        overloaded.relief.clear()
        junk = asyncio.create_task(flood(bad, 40, "third"))
        await asyncio.sleep(0.2)
        assert overloaded.running > 8
        overloaded.relief.set()
        assert await junk == {401: 40}


class _Inactive:
    """A provider to which every token is inactive, at once."""

    def __init__(self, network: Network) -> None:
        self._network = network

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request."""
        if request.method == "GET":
            return await self._network.forward(request)
        return httpx2.Response(200, json={"active": False})


class TestTheBudget:
    @pytest.fixture
    def timeouts(self) -> Timeouts:
        """Time for all to have their turn."""
        return Timeouts(provider=20, admission=20)

    async def test_a_client_may_present_two_hundred_bad_tokens_and_then_twenty_a_second(
        self, come_from: From, provider: RunningProvider, clock: Clock
    ) -> None:
        bad = come_from("192.0.2.66")
        for number in range(200):
            assert_refused(await get(bad, f"bad-{number}"))
        answer = await get(bad, "one-more")
        assert_unavailable(answer)
        assert answer.headers["retry-after"] == "1"
        assert provider.introspection_calls == 200

        clock.ahead += 1
        answers = await flood(bad, 100)
        assert answers == {401: 20, 503: 80}
        assert provider.introspection_calls == 220

    async def test_it_is_its_own(self, come_from: From, provider: RunningProvider) -> None:
        bad, good = come_from("192.0.2.66"), come_from("192.0.2.1")
        known = provider.mint()
        assert (await get(bad, known)).status_code == 200
        assert await flood(bad, 300) == {401: 200, 503: 100}
        assert (await get(good, provider.mint())).status_code == 200
        assert (await get(bad, known)).status_code == 200
        assert_unavailable(await get(bad, provider.mint()))

    async def test_good_tokens_cost_nothing_of_it(
        self, come_from: From, provider: RunningProvider
    ) -> None:
        """After a release, thousands of good tokens are new to each process."""
        gateway = come_from("192.0.2.1")
        tokens = [provider.mint() for _ in range(400)]
        answers = await asyncio.gather(*(get(gateway, token) for token in tokens))
        assert Counter(answer.status_code for answer in answers) == {200: 400}

    async def test_all_clients_together_have_one_too(
        self, come_from: From, network: Network
    ) -> None:
        network.handler = _Inactive(network)
        answers = Counter[int]()
        for number in range(6):
            answers += await flood(come_from(f"192.0.2.{number}"), 200, f"of-{number}")
        assert answers == {401: 1000, 503: 200}

    async def test_a_bad_token_that_is_presented_again_costs_nothing_more(
        self, come_from: From, network: Network
    ) -> None:
        network.handler = _Inactive(network)
        for number in range(5):
            assert await flood(come_from(f"192.0.2.{number}"), 200) == {401: 200}

    async def test_what_is_behind_a_proxy_is_not_one_client(
        self, come_from: From, provider: RunningProvider
    ) -> None:
        proxy = come_from("192.0.2.66")
        proxy.headers["X-Forwarded-For"] = "203.0.113.7"
        assert await flood(proxy, 300) == {401: 300}
        assert provider.introspection_calls == 300

    @pytest.mark.parametrize(
        "pretence", [("192.0.2.66", 4711), ("x" * 60_000, 0), ("", 0)], ids=lambda it: it[0][:9]
    )
    async def test_who_pretends_to_be_behind_a_proxy_leaves_some_to_others(
        self, come_from: From, network: Network, pretence: tuple[str, int]
    ) -> None:
        network.handler = _Inactive(network)
        bad = come_from(*pretence)
        bad.headers["X-Forwarded-For"] = "x"
        assert await flood(bad, 400) + await flood(bad, 500, "more") == {401: 800, 503: 100}
        assert await flood(come_from("192.0.2.1"), 200) == {401: 200}

    async def test_unless_the_server_trusts_the_proxy(
        self, come_from: From, network: Network
    ) -> None:
        """It puts the client's address in the place of the proxy's, with the port 0."""
        network.handler = _Inactive(network)
        client = come_from("203.0.113.7", 0)
        client.headers["X-Forwarded-For"] = "203.0.113.7"
        assert await flood(client, 300) == {401: 200, 503: 100}

    async def test_a_network_of_ipv6_is_one_client(self, come_from: From, network: Network) -> None:
        network.handler = _Inactive(network)
        answers = Counter[int]()
        for number in range(3):
            answers += await flood(come_from(f"2001:db8::{number}"), 100, f"of-{number}")
        assert answers == {401: 200, 503: 100}
        assert_refused(await get(come_from("2001:db8:0:1::1"), "invented"))

    async def test_a_site_of_ipv6_has_one_too(self, come_from: From, network: Network) -> None:
        network.handler = _Inactive(network)
        answers = Counter[int]()
        for number in range(8):
            answers += await flood(come_from(f"2001:db8:0:{number}::1"), 100, f"of-{number}")
        assert answers == {401: 600, 503: 200}
        assert await flood(come_from("2001:db8:1::1"), 100) == {401: 100}

    async def test_an_address_that_ipv6_maps_is_that_of_ipv4(
        self, come_from: From, network: Network
    ) -> None:
        network.handler = _Inactive(network)
        first = await flood(come_from("::ffff:192.0.2.66"), 150)
        assert first + await flood(come_from("192.0.2.66"), 150, "more") == {401: 200, 503: 100}

    async def test_a_provider_that_asks_for_fewer_calls_gets_few_about_new_tokens(
        self, come_from: From, provider: RunningProvider, clock: Clock
    ) -> None:
        user, bad = come_from("192.0.2.1"), come_from("192.0.2.66")
        known = provider.mint()
        assert (await get(user, known)).status_code == 200
        provider.faults = Faults(status=429, retry_after="30")
        assert_unavailable(await get(bad, "invented"))
        provider.faults = Faults()
        for minute, expected in [(0.55, 10), (1, 20), (1, 40)]:
            clock.ahead += minute * 60
            answers = await flood(bad, 100, f"after-{minute}-{expected}")
            assert answers == {401: expected, 503: 100 - expected}
            assert (await get(user, known)).status_code == 200
