"""How the service authenticates to the provider, against one that checks it."""

import base64
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import parse_qs

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from pydantic import SecretStr

from app.settings import Settings
from app.utils.sso.resource_server.introspector import open_introspector
from app.utils.sso.resource_server.provider_errors import (
    ProviderConfigurationError,
    ProviderUnreachable,
)
from tests.service.provider import ProviderConfig, ProviderTls, RunningProvider, running_provider
from tests.service.sso.conftest import Network
from tests.service.tools.certificates import Certificates, make_certificates

type Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
type Change = Callable[..., Settings]

_KEYS: dict[str, Callable[[], Key]] = {
    "RSA": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def pem(key: Key, encryption: KeySerializationEncryption | None = None) -> bytes:
    """Return a private key in PEM form."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def public_pem(key: Key) -> str:
    """Return its public key in PEM form."""
    public = key.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def trusting(provider: RunningProvider, settings: Settings, **changes: object) -> Settings:
    """Return the settings of the registered client of a provider."""
    registered = {
        "sso_issuer": provider.issuer,
        "client_id": provider.config.client_id,
        "client_secret": SecretStr(provider.config.client_secret),
    }
    return settings.model_copy(update=registered | changes)


async def introspect(settings: Settings, token: str) -> str | None:
    """Ask about a token with these settings, and return its subject."""
    async with open_introspector(settings) as introspector:
        return (await introspector.token_data(token, [])).sub


async def call_of(settings: Settings) -> httpx2.Request:
    """Return a call to the introspection endpoint with these settings."""
    calls: list[httpx2.Request] = []

    async def answer(request: httpx2.Request) -> httpx2.Response:
        calls.append(request)
        return httpx2.Response(200, json={"active": True, "aud": "app"})

    known = settings.model_copy(update={"sso_introspection_url": "http://127.0.0.1:9/introspect"})
    async with open_introspector(known, transport=Network(answer)) as introspector:
        await introspector.token_data("some-token", [])
    return calls[-1]


class TestASecret:
    @pytest.mark.parametrize(
        "method", ["client_secret_basic", "client_secret_basic_raw", "client_secret_post"]
    )
    async def test_the_provider_accepts_it_in_the_form_that_it_wants(
        self, settings: Settings, method: str
    ) -> None:
        """Identifier and secret contain the characters that some forms must encode."""
        # Without the encoding, a colon would end the identifier (RFC 7617 §2).
        colon = "" if method == "client_secret_basic_raw" else ":"
        config = ProviderConfig(
            client_id=f"a{colon} +%/b",
            client_secret="s:e +%25&=\N{LATIN SMALL LETTER E WITH ACUTE}",
            client_auth_method=method,  # type: ignore[arg-type]
        )
        with running_provider(config) as provider:
            chosen = trusting(provider, settings, client_auth_method=method)
            assert await introspect(chosen, provider.mint(sub="a-1")) == "a-1"

    async def test_each_is_encoded_as_a_form_is(self, settings: Settings) -> None:
        """RFC 6749 §2.3.1 and appendix B, with the space in the form that every decoder reads."""
        ours = {"client_id": "a/b c", "client_secret": SecretStr("d/e:f+g~")}
        header = (await call_of(settings.model_copy(update=ours))).headers["authorization"]
        assert base64.b64decode(header.removeprefix("Basic ")) == b"a%2Fb%20c:d%2Fe%3Af%2Bg~"

    async def test_the_forms_are_different(self, settings: Settings) -> None:
        config = ProviderConfig(client_secret="s %", client_auth_method="client_secret_basic_raw")
        with running_provider(config) as provider:
            encoded = trusting(provider, settings, client_auth_method="client_secret_basic")
            with pytest.raises(ProviderConfigurationError):
                await introspect(encoded, provider.mint())


class TestASignedAssertion:
    """RFC 7523 §3, with a key of each kind."""

    @pytest.mark.parametrize("kind", _KEYS)
    async def test_the_provider_accepts_it(
        self, settings: Settings, tmp_path: Path, kind: str
    ) -> None:
        key = _KEYS[kind]()
        file = tmp_path / "key.pem"
        file.write_bytes(pem(key))
        config = ProviderConfig(
            client_public_key=public_pem(key), client_auth_method="private_key_jwt"
        )
        with running_provider(config) as provider:
            chosen = trusting(
                provider,
                settings,
                client_auth_method="private_key_jwt",
                client_private_key_file=file,
                client_key_id="its-key",
                client_secret=SecretStr(""),
            )
            async with open_introspector(chosen) as introspector:
                # Each is used once: the provider refuses the same one again.
                for sub in ("a-1", "a-2"):
                    token = await introspector.token_data(provider.mint(sub=sub), [])
                    assert token.sub == sub

    @pytest.mark.parametrize(
        ("key", "algorithm"),
        [
            (_KEYS["RSA"](), "RS256"),
            (_KEYS["P-256"](), "ES256"),
            (ec.generate_private_key(ec.SECP384R1()), "ES384"),
            (ec.generate_private_key(ec.SECP521R1()), "ES512"),
            (_KEYS["Ed25519"](), "EdDSA"),
        ],
        ids=["RSA", "P-256", "P-384", "P-521", "Ed25519"],
    )
    async def test_it_says_who_we_are_for_a_minute_and_once(
        self, settings: Settings, tmp_path: Path, key: Key, algorithm: str
    ) -> None:
        """RFC 7523 §3, OpenID Connect §9: some providers require each of its claims."""
        file = tmp_path / "key.pem"
        file.write_bytes(pem(key))
        ours = {"client_auth_method": "private_key_jwt", "client_private_key_file": file}
        chosen = settings.model_copy(update=ours | {"client_key_id": "its-key"})
        before = int(time.time())
        forms = [parse_qs((await call_of(chosen)).content.decode()) for _ in range(2)]
        one, other = (form["client_assertion"][0] for form in forms)

        header = jwt.get_unverified_header(one)
        assert (header["alg"], header["kid"]) == (algorithm, "its-key")
        claims = jwt.decode(one, key.public_key(), [algorithm], audience=settings.sso_issuer)
        assert claims.keys() == {"iss", "sub", "aud", "jti", "iat", "exp"}
        assert claims["iss"] == claims["sub"] == settings.client_id
        assert claims["aud"] == settings.sso_issuer
        assert before <= claims["iat"] <= time.time()
        assert claims["exp"] == claims["iat"] + 60
        again = jwt.decode(other, options={"verify_signature": False})
        assert again["jti"] != claims["jti"]

    async def test_another_key_is_refused(self, settings: Settings, tmp_path: Path) -> None:
        file = tmp_path / "key.pem"
        file.write_bytes(pem(_KEYS["P-256"]()))
        config = ProviderConfig(client_public_key=public_pem(_KEYS["P-256"]()))
        with running_provider(config) as provider:
            chosen = trusting(
                provider,
                settings,
                client_auth_method="private_key_jwt",
                client_private_key_file=file,
            )
            with pytest.raises(ProviderConfigurationError):
                await introspect(chosen, provider.mint())

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"not a key",
            public_pem(_KEYS["P-256"]()).encode(),
            pem(_KEYS["P-256"](), BestAvailableEncryption(b"a passphrase")),
            pem(ec.generate_private_key(ec.SECP256K1())),
            pem(ec.generate_private_key(ec.BrainpoolP256R1())),
        ],
        ids=["empty", "text", "public", "passphrase", "secp256k1", "brainpool"],
    )
    async def test_a_file_that_cannot_sign_is_refused_at_the_start(
        self, settings: Settings, tmp_path: Path, content: bytes
    ) -> None:
        file = tmp_path / "key.pem"
        file.write_bytes(content)
        chosen = settings.model_copy(
            update={"client_auth_method": "private_key_jwt", "client_private_key_file": file}
        )
        with pytest.raises(SystemExit, match="CLIENT_PRIVATE_KEY_FILE"):
            await introspect(chosen, "some-token")


class TestACertificate:
    """RFC 8705 §2.1."""

    @pytest.fixture
    def tls_provider(
        self, certificates: Certificates
    ) -> Callable[[], AbstractContextManager[RunningProvider]]:
        @contextmanager
        def running() -> Iterator[RunningProvider]:
            tls = ProviderTls(certificates.server, certificates.server_key, certificates.ca)
            config = ProviderConfig(client_auth_method="tls_client_auth")
            with running_provider(config, tls=tls) as provider:
                yield provider

        return running

    def showing(
        self, provider: RunningProvider, settings: Settings, certificates: Certificates
    ) -> Settings:
        """Return the settings of a client that shows its certificate."""
        return trusting(
            provider,
            settings,
            client_auth_method="tls_client_auth",
            client_certificate_file=certificates.client,
            client_private_key_file=certificates.client_key,
            client_secret=SecretStr(""),
            sso_ca_file=certificates.ca,
        )

    async def test_the_provider_accepts_it(
        self,
        settings: Settings,
        certificates: Certificates,
        tls_provider: Callable[[], AbstractContextManager[RunningProvider]],
    ) -> None:
        with tls_provider() as provider:
            chosen = self.showing(provider, settings, certificates)
            assert await introspect(chosen, provider.mint(sub="a-1")) == "a-1"
            await self.refuses_others(provider, chosen, certificates)

    async def refuses_others(
        self, provider: RunningProvider, chosen: Settings, certificates: Certificates
    ) -> None:
        """The provider accepts no secret instead, and the service no other authority."""
        secret = chosen.model_copy(update={"client_auth_method": "client_secret_post"})
        with pytest.raises(ProviderConfigurationError):
            await introspect(secret, provider.mint())
        distrusting = chosen.model_copy(update={"sso_ca_file": certificates.client})
        with pytest.raises(ProviderUnreachable):
            await introspect(distrusting, provider.mint())

    @pytest.mark.parametrize("wrong", ["another key", "a passphrase", "no certificate"])
    async def test_files_that_do_not_fit_are_refused_at_the_start(
        self, settings: Settings, certificates: Certificates, tmp_path: Path, wrong: str
    ) -> None:
        """OpenSSL would otherwise ask for a passphrase at the terminal."""
        key = _KEYS["P-256"]()
        other = tmp_path / "other.pem"
        other.write_bytes(
            {
                "another key": pem(key),
                "a passphrase": pem(key, BestAvailableEncryption(b"a passphrase")),
                "no certificate": b"",
            }[wrong]
        )
        chosen = settings.model_copy(
            update={
                "client_auth_method": "tls_client_auth",
                "client_certificate_file": certificates.client,
                "client_private_key_file": other,
            }
        )
        if wrong == "no certificate":
            chosen = chosen.model_copy(update={"client_certificate_file": other})
        with pytest.raises(SystemExit, match="CLIENT_CERTIFICATE_FILE"):
            await introspect(chosen, "some-token")
