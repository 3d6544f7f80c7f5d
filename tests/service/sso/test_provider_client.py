"""How the provider is called, and which of its replies are accepted."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from app.settings import Settings
from app.utils.sso.resource_server.provider_client import create_client
from template_tools.processes import free_port
from tests.service.sso.assertions import Log, assert_unavailable, get
from tests.service.sso.conftest import Network, Serve


@pytest.fixture
async def caller(settings: Settings, serve: Serve) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a service that need not discover the endpoint."""
    known = settings.model_copy(update={"sso_introspection_url": "http://127.0.0.1:9/introspect"})
    async with serve(known) as caller:
        yield caller


class Provider:
    """A provider that gives every request the same answer or failure, and records them."""

    def __init__(self, answer: httpx2.Response | type[httpx2.TransportError]) -> None:
        self.requests: list[httpx2.Request] = []
        self._answer = answer

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request."""
        self.requests.append(request)
        if isinstance(self._answer, httpx2.Response):
            return self._answer
        raise self._answer("a canary", request=request)


@pytest.mark.parametrize(
    "body",
    [
        b'{"active": true, "aud": "app", "n": {"a": [1, 2.5, null]}}',
        b'\xef\xbb\xbf{"active": true, "aud": "app"}',
    ],
    ids=["deep", "with a byte order mark"],
)
async def test_an_object_is_read_whatever_is_in_it(
    caller: httpx2.AsyncClient, network: Network, body: bytes
) -> None:
    network.handler = Provider(httpx2.Response(200, content=body))
    assert (await get(caller, "some-token")).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"active"',
        b"{",
        b"\xff\xfe",
        b'{"active": false, "active": true}',
        b'{"active": true, "n": {"a": 1, "a": 2}}',
        b'{"active": true, "exp": NaN}',
        b'{"active": true, "n": -Infinity}',
        b'{"active": true, "n": 1e400}',
        b'{"active": true, "n": ' + b"1" * 5000 + b"}",
        b'{"active": true, "scope": "a \\ud800"}',
        b'{"active": true, "sub": "a\\u0000b"}',
        b'{"active": true, "n": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        b'{"active": true, "n": ' + b'[{"n": ' * 60 + b"1" + b"}]" * 60 + b"}",
        '{"active": true}'.encode("utf-16"),
        '{"active": true}'.encode("utf-32"),
    ],
    ids=range(18),
)
async def test_what_parsers_disagree_about_is_refused(
    caller: httpx2.AsyncClient, network: Network, log: Log, body: bytes
) -> None:
    good = b', "aud": "app"}'
    network.handler = Provider(httpx2.Response(200, content=body.removesuffix(b"}") + good))
    assert_unavailable(await get(caller, "some-token"))
    assert log.levels() == ["ERROR"]


async def test_a_reply_of_many_lists_is_not_nested_deeply(
    caller: httpx2.AsyncClient, network: Network
) -> None:
    lists = ",".join(["[[]]"] * 500)
    body = f'{{"active": true, "aud": "app", "n": [{lists}]}}'.encode()
    network.handler = Provider(httpx2.Response(200, content=body))
    assert (await get(caller, "some-token")).status_code == 200


@pytest.mark.parametrize(
    ("failure", "requests"),
    [
        (httpx2.ConnectError, 2),
        (httpx2.ReadError, 2),
        (httpx2.WriteError, 2),
        (httpx2.RemoteProtocolError, 2),
        (httpx2.ConnectTimeout, 1),
        (httpx2.ReadTimeout, 1),
        (httpx2.PoolTimeout, 1),
        (httpx2.LocalProtocolError, 1),
    ],
)
async def test_only_a_connection_that_fails_is_tried_again_and_once(
    caller: httpx2.AsyncClient,
    network: Network,
    log: Log,
    failure: type[httpx2.TransportError],
    requests: int,
) -> None:
    """A restart explains a broken connection; a slow provider is not given twice the work."""
    network.handler = provider = Provider(failure)
    assert_unavailable(await get(caller, "some-token"))
    assert len(provider.requests) == requests
    assert failure.__name__ in log.text
    assert "canary" not in log.text, "what it says may hold anything"


async def test_a_host_that_does_not_answer_is_given_up_before_the_deadline(
    caller: httpx2.AsyncClient, network: Network
) -> None:
    """Otherwise no time is left for its next address, or for a retry."""
    network.handler = provider = Provider(httpx2.ConnectTimeout)
    assert_unavailable(await get(caller, "some-token"))
    timeout = provider.requests[0].extensions["timeout"]
    assert (timeout["connect"], timeout["read"]) == (1, 5)


async def test_a_cookie_of_the_provider_is_not_kept(
    caller: httpx2.AsyncClient, network: Network
) -> None:
    """It would tie all calls together, and a malformed one would make later calls fail."""
    cookies = [(b"set-cookie", b"plain=1"), (b"set-cookie", b"odd=\xff\xfe; Path=/")]
    content = b'{"active": true, "aud": "app"}'
    network.handler = provider = Provider(httpx2.Response(200, headers=cookies, content=content))
    for token in ("some-token", "other-token"):
        assert (await get(caller, token)).status_code == 200
    assert len(provider.requests) == 2
    assert not [request for request in provider.requests if "cookie" in request.headers]


async def test_a_redirect_is_not_followed(caller: httpx2.AsyncClient, network: Network) -> None:
    """It would carry the client's secret and the caller's token elsewhere."""
    redirect = httpx2.Response(307, headers={"location": "/elsewhere"})
    network.handler = provider = Provider(redirect)
    assert_unavailable(await get(caller, "some-token"))
    [request] = provider.requests
    assert request.headers["accept-encoding"] == "identity"


async def test_a_failure_names_where_it_was_and_nothing_that_may_be_secret(
    settings: Settings, serve: Serve, log: Log
) -> None:
    port = free_port()
    url = f"http://canary:canary@127.0.0.1:{port}/canary?key=canary"
    async with serve(settings.model_copy(update={"sso_introspection_url": url})) as caller:
        assert_unavailable(await get(caller, "some-token"))
    [(_, text)] = log.lines()
    where = f"http://127.0.0.1:{port}"
    assert text.endswith(f": ConnectError at {where} (the connection is refused)")
    assert "canary" not in text


class TestTheEnvironment:
    """The proxies and certificates of the environment are for a provider elsewhere."""

    WRONG = (
        ("HTTP_PROXY", "ftp://user:canary@proxy:1"),
        ("HTTPS_PROXY", "socks5://user:canary@127.0.0.1:1"),
        ("all_proxy", "socks5h://127.0.0.1:1"),
        ("https_proxy", "http://[::1"),
        ("SSL_CERT_FILE", "/nowhere"),
        ("SSL_CERT_FILE", "/etc/passwd"),
    )

    @pytest.mark.parametrize(("name", "value"), WRONG)
    def test_one_that_cannot_work_is_named(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        monkeypatch.setenv(name, value)
        elsewhere = settings.model_copy(update={"sso_issuer": "https://sso.example.com"})
        with pytest.raises(SystemExit, match=f"The service cannot start: {name} ") as caught:
            create_client(elsewhere)
        assert "canary" not in str(caught.value)

    @pytest.mark.parametrize("host", ["127.0.0.1:9", "127.1.2.3", "localhost:9", "[::1]:9"])
    def test_none_of_them_matters_beside_the_service(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch, host: str
    ) -> None:
        for name, value in self.WRONG:
            monkeypatch.setenv(name, value)
        create_client(settings.model_copy(update={"sso_issuer": f"http://{host}/realms/main"}))

    async def test_a_provider_elsewhere_is_called_through_the_proxy(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = list[bytes]()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await reader.readline())
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            writer.close()

        proxy = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with proxy:
            port = proxy.sockets[0].getsockname()[1]
            monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
            elsewhere = settings.model_copy(update={"sso_issuer": "http://sso.example.com"})
            async with create_client(elsewhere) as client:
                await client.get("http://sso.example.com/jwks")
        assert asked == [b"GET http://sso.example.com/jwks HTTP/1.1\r\n"]
