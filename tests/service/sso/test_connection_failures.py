"""What an operator reads when the provider cannot be reached: each cause has its own words."""

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.settings import Settings
from app.utils.sso.resource_server.connection_failures import describe_failure
from app.utils.sso.resource_server.introspector import Timeouts, open_introspector
from app.utils.sso.resource_server.provider_errors import ProviderUnreachable
from template_tools.processes import free_port

type Failure = Callable[..., Awaitable[str]]
type Listen = Callable[..., AbstractAsyncContextManager[int]]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the proxies of this machine."""
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)


@pytest.fixture
def failure(settings: Settings) -> Failure:
    """Return why a token could not be looked up with these settings."""

    async def why(seconds: float = 20, **changes: object) -> str:
        changed = settings.model_copy(update=changes)
        timeouts = Timeouts(provider=seconds)
        async with open_introspector(changed, timeouts=timeouts) as introspector:
            with pytest.raises(ProviderUnreachable) as caught:
                await introspector.token_data("some-token", [])
            return str(caught.value)

    return why


@asynccontextmanager
async def listen(
    reply: bytes | None = b"",
    context: ssl.SSLContext | None = None,
    asked: asyncio.Event | None = None,
) -> AsyncIterator[int]:
    """Serve the same reply to every connection, or none; return the port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if asked is not None:
            asked.set()
        await reader.read(1)
        if reply is None:
            # Until the client gives up.
            await reader.read()
        else:
            writer.write(reply)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def certificate(folder: Path, host: str, *, expired: bool = False) -> ssl.SSLContext:
    """Return the TLS of a server with a certificate of its own, kept as ``server.pem``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the provider")])
    begin = datetime.now(UTC) - timedelta(days=9)
    try:
        alternative: x509.GeneralName = x509.IPAddress(ip_address(host))
    except ValueError:
        alternative = x509.DNSName(host)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=1 if expired else 99))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    (folder / "server.pem").write_bytes(pem)
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "key.pem")
    return context


async def test_a_refused_connection(failure: Failure) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    assert await failure(sso_issuer=url) == f"ConnectError at {url} (the connection is refused)"


async def test_a_name_that_does_not_resolve(failure: Failure) -> None:
    url = "https://sso.invalid"
    text = await failure(sso_issuer=url)
    assert text == f"ConnectError at {url} (the host's name does not resolve)"


@pytest.mark.parametrize(
    ("host", "expired", "trusted", "reason"),
    [
        ("127.0.0.1", False, False, "of no trusted authority; SSO_CA_FILE names those to trust"),
        ("sso.example.com", False, True, "for another host name"),
        ("192.0.2.1", False, True, "for another host name"),
        ("127.0.0.1", True, True, "expired or is not valid yet"),
    ],
    ids=["untrusted", "another name", "another address", "expired"],
)
async def test_a_certificate(
    failure: Failure, tmp_path: Path, host: str, expired: bool, trusted: bool, reason: str
) -> None:
    async with listen(context=certificate(tmp_path, host, expired=expired)) as port:
        url = f"https://127.0.0.1:{port}"
        text = await failure(
            sso_issuer=url, sso_ca_file=tmp_path / "server.pem" if trusted else None
        )
    assert text.startswith(f"ConnectError at {url} (the certificate ")
    assert text.endswith(f"{reason})")


async def test_a_server_without_tls(failure: Failure) -> None:
    async with listen(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        url = f"https://127.0.0.1:{port}"
        text = await failure(sso_issuer=url)
    reason = "no TLS connection could be made; is it an http:// address?"
    assert text == f"ConnectError at {url} ({reason})"


async def test_a_server_that_is_no_web_server(failure: Failure) -> None:
    async with listen(b"220 mail.example.com ESMTP\r\n") as port:
        url = f"http://127.0.0.1:{port}"
        text = await failure(sso_issuer=url)
    assert text == f"RemoteProtocolError at {url} (the reply is cut off, or is not HTTP)"


@pytest.mark.parametrize("known", [False, True], ids=["discovery", "introspection"])
async def test_a_server_that_does_not_answer(failure: Failure, known: bool) -> None:
    async with listen(None) as port:
        url = f"http://127.0.0.1:{port}"
        endpoint = f"{url}/introspect" if known else None
        text = await failure(0.3, sso_issuer=url, sso_introspection_url=endpoint)
    where = url if known else "the URLs that SSO_ISSUER leads to"
    assert text == f"TimeoutError at {where} (no complete answer within 0.3 s)"


async def test_a_host_that_drops_packets(failure: Failure) -> None:
    with socket.socket() as full:
        # A listener whose queue is full answers nobody.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        text = await failure(sso_introspection_url=f"{url}/introspect")
        for each in waiting:
            each.close()
    assert text == f"ConnectTimeout at {url} (no connection within 1 s)"


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_a_proxy_that_is_down(
    failure: Failure, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, f"http://canary:canary@127.0.0.1:{free_port()}")
    url = "http://sso.example.com"
    text = await failure(sso_issuer=url)
    through = f"through the proxy of {variable.upper()}"
    reason = "the connection is refused; if the proxy is not meant, set NO_PROXY"
    assert text == f"ConnectError at {url} {through} ({reason})"


async def test_a_proxy_that_refuses(failure: Failure, monkeypatch: pytest.MonkeyPatch) -> None:
    async with listen(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n") as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        text = await failure(sso_issuer="https://sso.example.com")
    assert text.startswith("ProxyError at https://sso.example.com through the proxy of HTTPS_PROXY")
    assert "the proxy refuses to connect" in text


async def test_a_proxy_that_is_not_used_is_not_named(
    failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    text = await failure(sso_issuer=f"http://127.0.0.1:{free_port()}")
    assert text.endswith("(the connection is refused)")
    assert "proxy" not in text


@pytest.mark.parametrize(
    "exceptions",
    [
        "idp.example.com",
        ".example.com",
        "*.example.com",
        "example.com",
        "http://idp.example.com",
        "idp.example.com:80",
        "idp.example.com:8443",
        "10.0.0.0/8",
        "*",
        " idp.example.com , other.example.com",
        "",
    ],
)
async def test_the_proxy_is_named_if_and_only_if_it_is_used(
    failure: Failure, monkeypatch: pytest.MonkeyPatch, exceptions: str
) -> None:
    asked = asyncio.Event()
    async with listen(b"HTTP/1.1 502 Bad Gateway\r\n\r\n", asked=asked) as port:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("NO_PROXY", exceptions)
        text = await failure(sso_issuer="http://idp.example.com", seconds=5)
    assert ("HTTP_PROXY" in text) == (asked.is_set() and "502" not in text)
    # Where there is no name server, it may not resolve in time.
    other = ("does not resolve", "TimeoutError", "no connection within")
    assert asked.is_set() or any(it in text for it in other)


async def test_a_proxy_that_does_not_answer(
    failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listen(None) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        text = await failure(sso_issuer="https://sso.example.com", seconds=2)
    assert "HTTPS_PROXY" in text or "within 2 s" in text


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_whatever_the_system_says_is_said(number: int) -> None:
    error = httpx2.ConnectError("All connection attempts failed")
    error.__cause__ = ExceptionGroup("several", [OSError(number, "what it says")])
    url = httpx2.URL("https://sso.example.com")
    text = describe_failure(error, url, httpx2.AsyncClient(trust_env=False))
    reason = text.removeprefix("ConnectError at https://sso.example.com (").removesuffix(")")
    assert len(reason) > 5
    assert reason != text


async def test_an_issuer_without_a_metadata_document(failure: Failure) -> None:
    async with listen(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n") as port:
        url = f"http://127.0.0.1:{port}"
        text = await failure(sso_issuer=f"{url}/realms/main")
    assert text.startswith("SSO_ISSUER has no metadata document: ")
    assert f"{url}/realms/main/.well-known/openid-configuration answers 404; " in text
    assert f"{url}/.well-known/oauth-authorization-server/realms/main answers 404" in text
