"""The development identity provider, over real HTTP on a real port."""

import base64
import gzip
import hashlib
import hmac
import os
import re
import secrets
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, quote_plus, urlsplit

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import JsonValue, ValidationError

from template_tools import provider as shipped
from template_tools.configuration import PROJECT_ROOT
from template_tools.provider.__main__ import main
from tests.service.provider import (
    ALGORITHMS,
    Algorithm,
    ClientAuthMethod,
    Faults,
    ProviderConfig,
    ProviderError,
    ProviderTls,
    RunningProvider,
    create_provider,
    running_provider,
    subject_of,
)
from tests.service.tools.certificates import Certificates, make_certificates

DOCS_PAGE = "http://127.0.0.1:8000/docs/oauth2-redirect"
VERIFIER = secrets.token_urlsafe(48)
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode()[:43]
CONFIG = ProviderConfig(client_id="app & co", client_secret="p:a%s+s wörd")
CLIENT_KEY = ec.generate_private_key(ec.SECP256R1())
CLIENT_PUBLIC_KEY = (
    CLIENT_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
)
JWT_ACCEPTED = {"Accept": "application/token-introspection+jwt, application/json;q=0.5"}

Keys = list[dict[str, JsonValue]]
Query = dict[str, str]
Processes = dict[str, tuple[subprocess.Popen[str], Path]]


@contextmanager
def own_process(state_file: Path) -> Iterator[subprocess.Popen[str]]:
    """A starting provider process on a free port."""
    options = ["--port", "0", "--state-file", str(state_file)]
    process = subprocess.Popen(
        [sys.executable, "-m", "template_tools.provider", *options],
        cwd=PROJECT_ROOT,
        env=os.environ | {"DEV_PROVIDER_AUDIENCE": "api"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert "is ready at http://127.0.0.1:" in process.stdout.readline()


def assert_ended_cleanly(process: subprocess.Popen[str], state_file: Path) -> None:
    assert process.wait(5) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert list(state_file.parent.iterdir()) == []


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """Providers in processes of their own, started together, because a start takes a second."""
    folder = tmp_path_factory.mktemp("processes")
    files = {name: folder / name / "provider.json" for name in ("terminated", "interrupted")}
    with ExitStack() as stack:
        yield {name: (stack.enter_context(own_process(file)), file) for name, file in files.items()}


@pytest.fixture(scope="module")
def provider() -> Iterator[RunningProvider]:
    with running_provider(CONFIG) as provider:
        yield provider


@pytest.fixture(scope="module")
def browser(provider: RunningProvider) -> Iterator[httpx2.Client]:
    """A client that sends no credentials of its own accord."""
    with httpx2.Client(base_url=provider.issuer, trust_env=False, timeout=5) as client:
        yield client


@pytest.fixture(scope="module")
def signing_client() -> Iterator[RunningProvider]:
    """A provider whose client may sign its assertions."""
    with running_provider(replace(CONFIG, client_public_key=CLIENT_PUBLIC_KEY)) as provider:
        yield provider


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"), CONFIG.client_id)


@pytest.fixture(autouse=True)
def fresh(provider: RunningProvider) -> None:
    """Each test starts with a healthy provider that remembers nothing."""
    provider.reset()


def basic(client_id: str, secret: str) -> dict[str, str]:
    """The header of client_secret_basic, with both parts form-urlencoded (RFC 6749 §2.3.1)."""
    return raw_basic(quote_plus(client_id), quote_plus(secret))


def raw_basic(client_id: str, secret: str) -> dict[str, str]:
    """The header as many clients send it, with both parts as they are."""
    pair = f"{client_id}:{secret}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


REGISTERED = basic(CONFIG.client_id, CONFIG.client_secret)


def introspect(browser: httpx2.Client, token: str) -> dict[str, object]:
    answer = browser.post("/introspect", data={"token": token}, headers=REGISTERED)
    assert answer.status_code == 200
    body: dict[str, object] = answer.json()
    return body


def published_keys(browser: httpx2.Client) -> Keys:
    keys: Keys = browser.get("/jwks").json()["keys"]
    return keys


def assertion(
    issuer: str, key: ec.EllipticCurvePrivateKey = CLIENT_KEY, **changes: object
) -> Query:
    """The parameters of private_key_jwt; None leaves a claim out."""
    claims = {
        "iss": CONFIG.client_id,
        "sub": CONFIG.client_id,
        "aud": issuer,
        "exp": int(time.time()) + 60,
        "jti": secrets.token_hex(8),
    } | changes
    present = {name: value for name, value in claims.items() if value is not None}
    return {
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": jwt.encode(present, key, "ES256"),
    }


def authorization(**changes: str) -> Query:
    """The query of the docs page's Authorize button; an empty value leaves a parameter out."""
    query = {
        "response_type": "code",
        "client_id": "docs",
        "redirect_uri": DOCS_PAGE,
        "state": "a state/+?",
        "scope": "openid",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    }
    return {name: value for name, value in (query | changes).items() if value}


def log_in(
    browser: httpx2.Client, query: Query, username: str = "ada", **typed: str
) -> httpx2.Response:
    """Open the login page and send its form."""
    page = browser.get("/authorize", params=query)
    assert page.status_code == 200, page.text
    found = re.search(r'name="login" value="([^"]+)"', page.text)
    assert found is not None
    form = {"login": found[1], "username": username, "action": "login", **typed}
    return browser.post("/login", data=form, headers={"Origin": str(browser.base_url).rstrip("/")})


def answer_of(response: httpx2.Response) -> Query:
    """The parameters that a redirect sends back to the docs page."""
    assert response.status_code == 303, response.text
    location = urlsplit(response.headers["location"])
    assert f"{location.scheme}://{location.netloc}{location.path}" == DOCS_PAGE
    return {name: values[0] for name, values in parse_qs(location.query).items()}


def redeem(browser: httpx2.Client, code: str, **changes: str) -> httpx2.Response:
    """Ask for tokens as the docs page does, with its empty client_secret."""
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "client_id": "docs",
        "client_secret": "",
        "redirect_uri": DOCS_PAGE,
        "code_verifier": VERIFIER,
    }
    return browser.post("/token", data=form | changes)


class TestDiscovery:
    def test_both_documents_name_the_issuer_and_its_endpoints(
        self, provider: RunningProvider, browser: httpx2.Client
    ) -> None:
        openid = browser.get("/.well-known/openid-configuration").json()
        assert openid == browser.get("/.well-known/oauth-authorization-server").json()
        assert openid["issuer"] == provider.issuer
        assert openid["introspection_endpoint"] == f"{provider.issuer}/introspect"
        assert provider.discovery_calls == 2

    def test_an_issuer_with_a_path_has_its_oauth_document_in_front_of_the_path(self) -> None:
        config = ProviderConfig(issuer="http://127.0.0.1:1/realms/dev")
        with running_provider(config) as provider:
            root = provider.issuer.removesuffix("/realms/dev")
            openid = httpx2.get(f"{provider.issuer}/.well-known/openid-configuration")
            oauth = httpx2.get(f"{root}/.well-known/oauth-authorization-server/realms/dev")
            keys = httpx2.get(openid.json()["jwks_uri"])
        assert openid.json() == oauth.json()
        assert len(keys.json()["keys"]) == 4


@pytest.fixture(scope="module")
def plain() -> Iterator[shipped.RunningProvider]:
    """The provider of `template_tools` by itself."""
    config = shipped.ProviderConfig(
        issuer="http://127.0.0.1:1/dev",
        client_id=CONFIG.client_id,
        client_secret=CONFIG.client_secret,
        token_format="jwt",
    )
    with shipped.running_provider(config) as provider:
        yield provider


class TestWhatProjectsReceive:
    """The provider of `template_tools` by itself; the other tests run it with extensions."""

    def test_a_jwt_verifies_with_the_one_published_key(
        self, plain: shipped.RunningProvider
    ) -> None:
        document = httpx2.get(f"{plain.issuer}/.well-known/openid-configuration").json()
        (key,) = jwt.PyJWKSet.from_dict(httpx2.get(document["jwks_uri"]).json()).keys
        token = plain.mint(username="ada", audience="api", groups=["a"])
        header = jwt.get_unverified_header(token)
        assert header == {"alg": "RS256", "typ": "at+jwt", "kid": key.key_id}
        claims = jwt.decode(token, key, ["RS256"], audience="api", issuer=plain.issuer)
        assert (claims["username"], claims["groups"]) == ("ada", ["a"])
        # RFC 9068 §2.2 requires these.
        assert {"iss", "exp", "aud", "sub", "client_id", "iat", "jti"} <= claims.keys()

    def test_a_token_is_introspected_until_it_is_revoked(
        self, plain: shipped.RunningProvider
    ) -> None:
        token = plain.mint(format="opaque")
        url, before = f"{plain.issuer}/introspect", plain.introspection_calls
        form = {"token": token}
        assert httpx2.post(url, data=form, headers=REGISTERED).json()["token_type"] == "Bearer"
        plain.revoke(token)
        plain.revoke("unknown")
        assert httpx2.post(url, data=form, headers=REGISTERED).json() == {"active": False}
        assert plain.introspection_calls == before + 2
        another = plain.mint()
        plain.reset()
        assert plain.introspection_calls == 0
        form = {"token": another}
        assert httpx2.post(url, data=form, headers=REGISTERED).json() == {"active": False}

    def test_exactly_these_claims_and_headers_are_signed(
        self, plain: shipped.RunningProvider
    ) -> None:
        (key,) = jwt.PyJWKSet.from_dict(httpx2.get(f"{plain.issuer}/jwks").json()).keys
        token = plain.sign({"iss": 1, "exp": "soon"}, typ=None, x=[1])
        assert jwt.get_unverified_header(token) == {"alg": "RS256", "kid": key.key_id, "x": [1]}
        assert jwt.PyJWS().decode(token, key, ["RS256"]) == b'{"iss": 1, "exp": "soon"}'
        assert jwt.get_unverified_header(plain.sign({}, kid=None)) == {
            "alg": "RS256",
            "typ": "at+jwt",
        }

    def test_it_fails_as_asked_for(self, plain: shipped.RunningProvider) -> None:
        def ask() -> httpx2.Response:
            form = {"token": "x"}
            return httpx2.post(f"{plain.issuer}/introspect", data=form, headers=REGISTERED)

        plain.faults = shipped.Faults(status=429, retry_after="7", times=1)
        answer = ask()
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
        assert ask().json() == {"active": False}
        plain.faults = shipped.Faults(override_claims={"active": True, "exp": 1.5})
        assert ask().json() == {"active": True, "exp": 1.5}
        plain.faults = shipped.Faults(cut_body=True)
        with pytest.raises(httpx2.RemoteProtocolError):
            ask()
        plain.faults = shipped.Faults(endpoints=frozenset({"discovery", "jwks"}), status=503)
        assert httpx2.get(f"{plain.issuer}/jwks").status_code == 503
        assert ask().json() == {"active": False}
        plain.reset()
        assert plain.faults == shipped.Faults()
        assert httpx2.get(f"{plain.issuer}/jwks").status_code == 200

    def test_its_metadata_names_no_more_than_it_can_do(
        self, plain: shipped.RunningProvider
    ) -> None:
        document = httpx2.get(f"{plain.issuer}/.well-known/openid-configuration").json()
        methods = ["client_secret_basic", "client_secret_post"]
        assert document["introspection_endpoint_auth_methods_supported"] == methods
        assert document["grant_types_supported"] == ["authorization_code", "client_credentials"]
        assert not [name for name in document if "signing_alg" in name and "id_token" not in name]


class TestClients:
    def test_credentials_in_the_form_are_as_good_as_basic_ones(
        self, browser: httpx2.Client
    ) -> None:
        form = {"client_id": CONFIG.client_id, "client_secret": CONFIG.client_secret, "token": "x"}
        assert browser.post("/introspect", data=form).json() == {"active": False}

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            basic(CONFIG.client_id, "wrong"),
            basic("unknown", CONFIG.client_secret),
            {"Authorization": "Basic ?"},
            {"Authorization": "Basic eA=="},
            {"Authorization": "Bearer token"},
        ],
    )
    @pytest.mark.parametrize("path", ["/introspect", "/token", "/revoke"])
    def test_a_client_that_cannot_be_believed_is_refused(
        self, browser: httpx2.Client, path: str, headers: dict[str, str]
    ) -> None:
        form = {"token": "x", "grant_type": "client_credentials"}
        answer = browser.post(path, data=form, headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"] == "invalid_client"
        assert answer.headers["www-authenticate"].startswith("Basic ")
        assert answer.headers["cache-control"] == "no-store"

    def test_the_docs_client_may_not_introspect(self, browser: httpx2.Client) -> None:
        answer = browser.post("/introspect", data={"token": "x", "client_id": "docs"})
        assert answer.status_code == 401

    def test_two_ways_to_authenticate_at_once_are_an_error(self, browser: httpx2.Client) -> None:
        form = {"token": "x", "client_secret": CONFIG.client_secret}
        answer = browser.post("/introspect", data=form, headers=REGISTERED)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")

    def test_the_development_endpoint_is_for_the_registered_client(
        self, browser: httpx2.Client
    ) -> None:
        assert browser.post("/dev/tokens", json={}).status_code == 401
        docs = {"client_id": "docs"}
        assert browser.post("/dev/tokens", json={}, params=docs).status_code == 401
        assert browser.post("/dev/tokens", json={}, headers=REGISTERED).is_success

    @pytest.mark.parametrize(
        ("method", "accepted"),
        [
            (None, {"client_secret_basic", "client_secret_post", "private_key_jwt"}),
            ("client_secret_basic", {"client_secret_basic"}),
            ("client_secret_basic_raw", {"client_secret_basic_raw"}),
            ("client_secret_post", {"client_secret_post"}),
            ("private_key_jwt", {"private_key_jwt"}),
        ],
    )
    def test_a_configured_method_is_the_only_one(
        self, method: ClientAuthMethod | None, accepted: set[str]
    ) -> None:
        client_id, secret = CONFIG.client_id, CONFIG.client_secret
        config = replace(CONFIG, client_public_key=CLIENT_PUBLIC_KEY, client_auth_method=method)
        with running_provider(config) as provider:
            ways: dict[str, tuple[Query, Query]] = {
                "client_secret_basic": ({}, REGISTERED),
                "client_secret_basic_raw": ({}, raw_basic(client_id, secret)),
                "client_secret_post": ({"client_id": client_id, "client_secret": secret}, {}),
                "private_key_jwt": (assertion(provider.issuer), {}),
            }
            statuses = {
                name: httpx2.post(
                    f"{provider.issuer}/introspect", data=form | {"token": "x"}, headers=headers
                ).status_code
                for name, (form, headers) in ways.items()
            }
            document = httpx2.get(f"{provider.issuer}/.well-known/openid-configuration").json()
            minted = httpx2.post(f"{provider.issuer}/dev/tokens", json={}, headers=REGISTERED)
        assert statuses == {name: 200 if name in accepted else 401 for name in ways}
        named = {name.removesuffix("_raw") for name in accepted}
        for endpoint in ("token", "introspection", "revocation"):
            methods = document[f"{endpoint}_endpoint_auth_methods_supported"]
            assert set(methods) - {"none"} == named
            algorithms = document.get(f"{endpoint}_endpoint_auth_signing_alg_values_supported")
            assert algorithms == (list(ALGORITHMS) if "private_key_jwt" in named else None)
        # The token command goes on working, whatever the client's method is.
        assert minted.status_code == 200

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"client_auth_method": "private_key_jwt"}, "needs a client_public_key"),
            ({"client_auth_method": "tls_client_auth"}, "needs TLS"),
            ({"client_auth_method": "client_secret_jwt"}, "must be one of"),
            ({"client_public_key": "nonsense"}, "BEGIN PUBLIC KEY"),
        ],
    )
    def test_a_client_without_the_means_for_its_method_is_an_error_sentence(
        self, changes: Query, sentence: str
    ) -> None:
        with pytest.raises(ProviderError, match=sentence):
            create_provider(replace(CONFIG, **changes))  # type: ignore[arg-type]


class TestClientAssertions:
    def test_an_assertion_works_once_until_the_reset(self, signing_client: RunningProvider) -> None:
        issuer = signing_client.issuer
        form = assertion(issuer, aud=[issuer]) | {"grant_type": "client_credentials"}
        assert httpx2.post(f"{issuer}/token", data=form).status_code == 200
        assert httpx2.post(f"{issuer}/token", data=form).status_code == 401
        signing_client.reset()
        assert httpx2.post(f"{issuer}/token", data=form).status_code == 200

    @pytest.mark.parametrize("path", ["/introspect", "/revoke"])
    def test_the_endpoint_may_be_the_audience(
        self, signing_client: RunningProvider, path: str
    ) -> None:
        url = signing_client.issuer + path
        assert httpx2.post(url, data=assertion(url) | {"token": "x"}).status_code == 200

    @pytest.mark.parametrize(
        "changes",
        [
            {"iss": "another"},
            {"sub": None},
            {"sub": "another"},
            {"aud": "http://127.0.0.1:1"},
            {"aud": None},
            {"exp": None},
            {"exp": 1},
            {"exp": int(time.time()) + 3600},
            {"jti": None},
            {"jti": 1},
        ],
    )
    def test_an_assertion_that_proves_nothing_is_refused(
        self, signing_client: RunningProvider, changes: dict[str, object]
    ) -> None:
        url = f"{signing_client.issuer}/introspect"
        form = assertion(signing_client.issuer, CLIENT_KEY, **changes) | {"token": "x"}
        answer = httpx2.post(url, data=form)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")

    def test_strangers_and_assertions_for_two_audiences_are_refused(
        self, signing_client: RunningProvider
    ) -> None:
        issuer = signing_client.issuer
        stranger = assertion(issuer, ec.generate_private_key(ec.SECP256R1()))
        for form in (stranger, assertion(issuer, aud=[issuer, "http://127.0.0.1:1"])):
            answer = httpx2.post(f"{issuer}/introspect", data=form | {"token": "x"})
            assert answer.status_code == 401


class TestCertificates:
    def test_a_certificate_in_the_name_of_the_client_is_enough(
        self, certificates: Certificates
    ) -> None:
        config = replace(CONFIG, client_auth_method="tls_client_auth")
        tls = ProviderTls(certificates.server, certificates.server_key, certificates.ca)
        anonymous = ssl.create_default_context(cafile=certificates.ca)
        certified = ssl.create_default_context(cafile=certificates.ca)
        certified.load_cert_chain(certificates.client, certificates.client_key)
        form = {"token": "x", "client_id": CONFIG.client_id}
        with running_provider(config, tls=tls) as provider:
            url = f"{provider.issuer}/introspect"
            document = httpx2.get(
                f"{provider.issuer}/.well-known/openid-configuration", verify=anonymous
            ).json()
            accepted = httpx2.post(url, data=form, verify=certified)
            without_certificate = httpx2.post(url, data=form, verify=anonymous)
            in_another_name = httpx2.post(url, data=form | {"client_id": "b"}, verify=certified)
            by_secret = httpx2.post(url, data=form, headers=REGISTERED, verify=certified)
        assert provider.issuer.startswith("https://127.0.0.1:")
        assert document["introspection_endpoint"] == url
        assert document["introspection_endpoint_auth_methods_supported"] == ["tls_client_auth"]
        assert accepted.json() == {"active": False}
        for refused in (without_certificate, in_another_name, by_secret):
            assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")

    def test_a_certificate_in_another_name_is_refused(
        self, certificates: Certificates, tmp_path: Path
    ) -> None:
        other = make_certificates(tmp_path, "another")
        tls = ProviderTls(certificates.server, certificates.server_key, other.ca)
        context = ssl.create_default_context(cafile=certificates.ca)
        context.load_cert_chain(other.client, other.client_key)
        form = {"token": "x", "client_id": CONFIG.client_id}
        with running_provider(CONFIG, tls=tls) as provider:
            answer = httpx2.post(f"{provider.issuer}/introspect", data=form, verify=context)
        assert answer.status_code == 401

    def test_any_method_is_good_over_tls_too(self, certificates: Certificates) -> None:
        tls = ProviderTls(certificates.server, certificates.server_key, certificates.ca)
        context = ssl.create_default_context(cafile=certificates.ca)
        with (
            running_provider(CONFIG, tls=tls) as provider,
            httpx2.Client(base_url=provider.issuer, verify=context) as browser,
        ):
            assert introspect(browser, provider.mint())["iss"] == provider.issuer

    def test_stopping_does_not_wait_for_open_connections(self, certificates: Certificates) -> None:
        tls = ProviderTls(certificates.server, certificates.server_key, certificates.ca)
        context = ssl.create_default_context(cafile=certificates.ca)
        with httpx2.Client(verify=context, trust_env=False) as browser:
            with running_provider(CONFIG, tls=tls) as provider:
                assert browser.get(f"{provider.issuer}/jwks").status_code == 200
                started = time.perf_counter()
            # It would wait for half a minute.
            assert time.perf_counter() - started < 15

    def test_a_certificate_of_another_authority_does_not_pass_the_handshake(
        self, certificates: Certificates, tmp_path: Path
    ) -> None:
        stranger = make_certificates(tmp_path, CONFIG.client_id)
        tls = ProviderTls(certificates.server, certificates.server_key, certificates.ca)
        context = ssl.create_default_context(cafile=certificates.ca)
        context.load_cert_chain(stranger.client, stranger.client_key)
        with running_provider(CONFIG, tls=tls) as provider, pytest.raises(httpx2.TransportError):
            httpx2.get(f"{provider.issuer}/jwks", verify=context)

    def test_files_that_cannot_be_used_are_an_error_sentence(
        self, certificates: Certificates, tmp_path: Path
    ) -> None:
        missing = ProviderTls(tmp_path / "x.pem", certificates.server_key, certificates.ca)
        with pytest.raises(ProviderError, match=r"x\.pem"), running_provider(CONFIG, tls=missing):
            pass


class TestClientCredentials:
    def test_the_token_speaks_for_the_client_itself(self, browser: httpx2.Client) -> None:
        form = {"grant_type": "client_credentials", "scope": "read write"}
        answer = browser.post("/token", data=form, headers=REGISTERED)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.json()["token_type"] == "Bearer"
        token = introspect(browser, answer.json()["access_token"])
        assert token["sub"] == token["client_id"] == CONFIG.client_id
        assert (token["scope"], token["aud"]) == ("read write", "app")
        assert "username" not in token

    @pytest.mark.parametrize(
        ("form", "error"),
        [
            ("grant_type=password", "unsupported_grant_type"),
            ("scope=read", "invalid_request"),
            ("grant_type=client_credentials&grant_type=client_credentials", "invalid_request"),
            ("grant_type=client_credentials&scope=a%22b", "invalid_scope"),
            ("grant_type=client_credentials&scope=%ff", "invalid_request"),
            ("grant_type=authorization_code&code=unknown", "invalid_grant"),
            ("grant_type=refresh_token&refresh_token=unknown", "unsupported_grant_type"),
        ],
    )
    def test_each_mistake_has_its_error_code(
        self, browser: httpx2.Client, form: str, error: str
    ) -> None:
        headers = REGISTERED | {"Content-Type": "application/x-www-form-urlencoded"}
        answer = browser.post("/token", content=form, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (400, error)


class TestLogin:
    def test_the_docs_page_gets_tokens_for_whoever_logged_in(
        self, provider: RunningProvider, browser: httpx2.Client
    ) -> None:
        query = authorization(nonce="n-1", scope="openid profile email")
        back = answer_of(log_in(browser, query, "ada", extra_scopes="users:read"))
        assert (back["state"], back["iss"]) == ("a state/+?", provider.issuer)
        tokens = redeem(browser, back["code"]).json()
        access = introspect(browser, tokens["access_token"])
        assert access["username"] == "ada"
        assert access["sub"] == subject_of("ada") != "ada"
        assert access["scope"] == "openid profile email users:read"
        keys = jwt.PyJWKSet.from_dict(browser.get("/jwks").json())
        kid = jwt.get_unverified_header(tokens["id_token"])["kid"]
        claims = jwt.decode(
            tokens["id_token"], keys[kid], ["RS256"], audience="docs", issuer=provider.issuer
        )
        assert (claims["sub"], claims["nonce"]) == (access["sub"], "n-1")
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        user = browser.get("/userinfo", headers=headers).json()
        assert (user["sub"], user["email"]) == (access["sub"], "ada@example.com")

    def test_a_code_works_once(self, browser: httpx2.Client) -> None:
        code = answer_of(log_in(browser, authorization()))["code"]
        tokens = redeem(browser, code).json()
        assert introspect(browser, tokens["access_token"])["active"]
        assert redeem(browser, code).json()["error"] == "invalid_grant"

    @pytest.mark.parametrize(
        "changes",
        [
            {"code_verifier": "x" * 43},
            {"code_verifier": ""},
            {"redirect_uri": DOCS_PAGE.replace("8000", "8001")},
            {"client_id": CONFIG.client_id, "client_secret": CONFIG.client_secret},
        ],
    )
    def test_a_code_is_worth_nothing_to_others(
        self, browser: httpx2.Client, changes: Query
    ) -> None:
        code = answer_of(log_in(browser, authorization()))["code"]
        answer = redeem(browser, code, **changes)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")

    @pytest.mark.parametrize(
        "redirect_uri",
        [
            "https://evil.example/docs/oauth2-redirect",
            "http://127.0.0.1.evil.example/docs/oauth2-redirect",
            "http://127.0.0.1:8000@evil.example/docs/oauth2-redirect",
            "http://127.0.0.1:8000/docs/oauth2-redirect/",
            "http://127.0.0.1:8000/docs/oauth2-redirect?x=1",
            "http://127.0.0.1:8000/docs/oauth2-redirect\n",
            "",
        ],
    )
    def test_nothing_is_sent_to_a_foreign_redirect_uri(
        self, browser: httpx2.Client, redirect_uri: str
    ) -> None:
        page = browser.get("/authorize", params=authorization(redirect_uri=redirect_uri))
        assert page.status_code == 400
        assert "location" not in page.headers

    @pytest.mark.parametrize(
        ("changes", "error"),
        [
            ({"response_type": "token"}, "unsupported_response_type"),
            ({"code_challenge": ""}, "invalid_request"),
            ({"code_challenge": "short"}, "invalid_request"),
            ({"code_challenge": "", "client_id": CONFIG.client_id}, "invalid_request"),
            ({"response_mode": "fragment"}, "invalid_request"),
            ({"code_challenge_method": "plain"}, "invalid_request"),
            ({"prompt": "none"}, "login_required"),
            ({"scope": "a\\b"}, "invalid_scope"),
        ],
    )
    def test_the_client_is_told_what_is_wrong_with_its_request(
        self, browser: httpx2.Client, changes: Query, error: str
    ) -> None:
        back = answer_of(browser.get("/authorize", params=authorization(**changes)))
        assert (back["error"], back["state"]) == (error, "a state/+?")

    def test_cancelling_sends_access_denied_back(self, browser: httpx2.Client) -> None:
        back = answer_of(log_in(browser, authorization(), "", action="cancel"))
        assert back["error"] == "access_denied"

    @pytest.mark.parametrize(
        ("typed", "error"),
        [
            ({"username": " "}, "access_denied"),
            ({"username": "a\x07b"}, "access_denied"),
            ({"username": "x" * 101}, "access_denied"),
            ({"extra_scopes": 'a"b'}, "invalid_scope"),
        ],
    )
    def test_a_login_that_cannot_be_granted_is_told_to_the_client(
        self, browser: httpx2.Client, typed: Query, error: str
    ) -> None:
        back = answer_of(log_in(browser, authorization(), **typed))
        assert (back["error"], back["state"]) == (error, "a state/+?")

    def test_the_page_proposes_the_username_of_the_client(self, browser: httpx2.Client) -> None:
        page = browser.get("/authorize", params=authorization(login_hint="ada"))
        assert 'name="username" value="ada"' in page.text

    def test_the_form_works_once(self, browser: httpx2.Client) -> None:
        page = browser.get("/authorize", params=authorization())
        found = re.search(r'name="login" value="([^"]+)"', page.text)
        assert found is not None
        form = {"login": found[1], "username": "ada"}
        assert browser.post("/login", data=form).status_code == 303
        assert browser.post("/login", data=form).status_code == 400

    def test_the_page_escapes_what_it_shows_and_loads_nothing(self, browser: httpx2.Client) -> None:
        query = authorization(scope="<script>", login_hint='"><script>alert(1)</script>')
        page = browser.get("/authorize", params=query)
        assert "<script" not in page.text
        assert "anyone can log in as anyone" in page.text
        assert page.headers["content-security-policy"].startswith("default-src 'none';")

    def test_a_form_from_another_website_is_refused(self, browser: httpx2.Client) -> None:
        """It cannot know the random name of a login."""
        browser.get("/authorize", params=authorization())
        answer = browser.post("/login", data={"login": "x", "username": "x"})
        assert answer.status_code == 400
        assert "location" not in answer.headers

    def test_a_name_that_is_not_loopback_is_refused(self, browser: httpx2.Client) -> None:
        """A website that resolves its own name to 127.0.0.1 must not read the login page."""
        assert browser.get("/authorize", headers={"Host": "evil.example"}).status_code == 400

    @pytest.mark.parametrize(
        ("origin", "path", "allowed"),
        [
            ("http://localhost:8000", "/token", True),
            ("http://127.0.0.1:5173", "/token", True),
            ("http://evil.example", "/token", False),
            ("http://127.0.0.1.evil.example", "/token", False),
            ("http://evil.example", "/authorize", False),
        ],
    )
    def test_only_pages_of_this_machine_may_call_the_token_endpoint(
        self, browser: httpx2.Client, origin: str, path: str, allowed: bool
    ) -> None:
        headers = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "x-requested-with",
        }
        answer = browser.options(path, headers=headers)
        assert (answer.headers.get("access-control-allow-origin") == origin) is allowed


class TestTokens:
    def test_a_minted_token_is_active_with_the_default_claims(
        self, provider: RunningProvider, browser: httpx2.Client
    ) -> None:
        token = introspect(browser, provider.mint())
        assert token["active"] is True
        assert (token["username"], token["sub"]) == ("dev", subject_of("dev"))
        assert (token["scope"], token["aud"]) == ("openid profile email", "app")
        assert (token["iss"], token["token_type"]) == (provider.issuer, "Bearer")
        assert {"client_id", "exp", "iat", "nbf", "jti"} <= token.keys()

    def test_null_leaves_a_claim_out_and_other_keys_become_claims(
        self, provider: RunningProvider, browser: httpx2.Client
    ) -> None:
        minted = provider.mint(audience=None, sub=None, iss=None, exp=1.5, groups=["a"])
        token = introspect(browser, minted)
        assert not {"aud", "sub", "iss"} & token.keys()
        assert (token["exp"], token["groups"]) == (1.5, ["a"])

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_a_jwt_verifies_with_the_published_keys(
        self, provider: RunningProvider, browser: httpx2.Client, algorithm: str
    ) -> None:
        token = provider.mint(format="jwt", algorithm=algorithm, audience=["app", "other"])
        header = jwt.get_unverified_header(token)
        assert header["typ"] == "at+jwt"
        key = jwt.PyJWKSet.from_dict(browser.get("/jwks").json())[header["kid"]]
        claims = jwt.decode(token, key, [algorithm], audience="app", issuer=provider.issuer)
        assert introspect(browser, token)["jti"] == claims["jti"]
        # RFC 9068 §2.2 requires these.
        assert {"iss", "exp", "aud", "sub", "client_id", "iat", "jti"} <= claims.keys()
        assert provider.jwks_calls == 1

    @pytest.mark.parametrize("typ", ["JWT", None])
    def test_the_typ_of_the_header_is_chosen_apart_from_the_claims(
        self, provider: RunningProvider, browser: httpx2.Client, typ: str | None
    ) -> None:
        token = provider.mint(format="jwt", header_typ=typ, typ="Bearer")
        assert jwt.get_unverified_header(token).get("typ") == typ
        described = introspect(browser, token)
        assert described["typ"] == "Bearer"
        assert "header_typ" not in described

    def test_expired_revoked_and_unknown_tokens_are_inactive(
        self, provider: RunningProvider, browser: httpx2.Client
    ) -> None:
        revoked = provider.mint(format="jwt")
        form = {"token": revoked}
        assert browser.post("/revoke", data=form, headers=REGISTERED).status_code == 200
        for token in (provider.mint(expires_in=-1), revoked, "unknown"):
            assert introspect(browser, token) == {"active": False}
        assert provider.introspection_calls == 3

    def test_a_token_of_another_client_cannot_be_revoked(
        self, provider: RunningProvider, browser: httpx2.Client
    ) -> None:
        form = {"token": provider.mint(client_id="other")}
        assert browser.post("/revoke", data=form, headers=REGISTERED).status_code == 400

    def test_tokens_are_minted_over_http_too(self, browser: httpx2.Client) -> None:
        wish = {"username": "ada", "expires_in": 60, "format": "jwt", "acr": "gold"}
        answer = browser.post("/dev/tokens", json=wish, headers=REGISTERED).json()
        assert answer["expires_in"] in (59, 60)
        assert introspect(browser, answer["access_token"])["acr"] == "gold"

    @pytest.mark.parametrize(
        "body", ["", "[]", '{"expires_in": "soon"}', '{"x": NaN}', '{"x": 1e999}']
    )
    def test_a_wish_that_cannot_be_met_is_an_error_sentence(
        self, browser: httpx2.Client, body: str
    ) -> None:
        answer = browser.post("/dev/tokens", content=body, headers=REGISTERED)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


class TestSigning:
    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_any_claims_are_signed_as_they_are(
        self, provider: RunningProvider, browser: httpx2.Client, algorithm: Algorithm
    ) -> None:
        token = provider.sign({"iss": 1, "exp": "soon"}, algorithm=algorithm, typ=None, x=[1])
        header = jwt.get_unverified_header(token)
        assert header == {"alg": algorithm, "kid": header["kid"], "x": [1]}
        key = jwt.PyJWKSet.from_dict({"keys": published_keys(browser)})[header["kid"]]
        signed = jwt.PyJWS().decode(token, key, [algorithm])
        assert signed == b'{"iss": 1, "exp": "soon"}'
        assert introspect(browser, token) == {"active": False}

    def test_headers_can_be_replaced_and_left_out(self, provider: RunningProvider) -> None:
        assert jwt.get_unverified_header(provider.sign({}, kid="x"))["kid"] == "x"
        assert jwt.get_unverified_header(provider.sign({}, kid=None)).keys() == {"alg", "typ"}

    def test_signatures_are_forged_on_demand(
        self, provider: RunningProvider, browser: httpx2.Client
    ) -> None:
        unsigned = provider.sign({"sub": "x"}, algorithm="none")
        assert unsigned.endswith(".")
        forged = provider.sign({"sub": "x"}, algorithm="HS256")
        header = jwt.get_unverified_header(forged)
        key = jwt.PyJWKSet.from_dict({"keys": published_keys(browser)})[header["kid"]].key
        pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        content, _, signature = forged.rpartition(".")
        digest = base64.urlsafe_b64decode(signature + "=")
        assert digest == hmac.digest(pem, content.encode(), "sha256")


class TestKeys:
    def test_new_keys_replace_the_old_ones(
        self, provider: RunningProvider, browser: httpx2.Client
    ) -> None:
        before = published_keys(browser)
        provider.rotate_keys()
        after = published_keys(browser)
        assert not {key["kid"] for key in before} & {key["kid"] for key in after}

    def test_old_keys_stay_published_on_demand_until_the_reset(
        self, provider: RunningProvider, browser: httpx2.Client
    ) -> None:
        before = published_keys(browser)
        provider.rotate_keys(keep_old=True)
        both = published_keys(browser)
        assert (both[4:], len(both)) == (before, 8)
        provider.reset()
        assert published_keys(browser) == both[:4]

    def test_members_are_missing_and_odd_keys_come_first(
        self, provider: RunningProvider, browser: httpx2.Client
    ) -> None:
        odd: Keys = [{"kty": "oct", "k": "AA", "kid": "a"}, {"kty": "RSA", "n": "!"}]
        provider.faults = Faults(
            endpoints=frozenset({"jwks"}),
            without_key_members=frozenset({"alg", "kid"}),
            extra_keys=odd,
        )
        keys = published_keys(browser)
        assert keys[:2] == odd
        assert [key["kty"] for key in keys[2:]] == ["RSA", "RSA", "EC", "OKP"]
        assert not any({"alg", "kid"} & key.keys() for key in keys[2:])


class TestFaults:
    @pytest.mark.parametrize(
        ("faults", "expected"),
        [
            (Faults(body="nan"), '"exp": NaN'),
            (Faults(body="string_active"), '"active": "true"'),
            (Faults(body="duplicate_active"), '{"active": false, "active": true'),
            (Faults(body="html"), "<!doctype html>"),
            (Faults(override_claims={"exp": 1e9}), '"exp":1000000000.0'),
        ],
    )
    def test_the_body_is_wrong_in_the_way_asked_for(
        self, provider: RunningProvider, browser: httpx2.Client, faults: Faults, expected: str
    ) -> None:
        provider.faults = faults
        token = provider.mint()
        answer = browser.post("/introspect", data={"token": token}, headers=REGISTERED)
        assert expected in answer.text

    def test_a_status_comes_with_its_headers(
        self, provider: RunningProvider, browser: httpx2.Client
    ) -> None:
        provider.faults = Faults(status=429, retry_after="7", times=1)
        answer = browser.post("/introspect", data={"token": "x"}, headers=REGISTERED)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
        assert provider.faults == shipped.Faults()
        assert introspect(browser, "x") == {"active": False}

    def test_a_redirect_says_where_to(
        self, provider: RunningProvider, browser: httpx2.Client
    ) -> None:
        provider.faults = Faults(redirect_to="http://127.0.0.1:1/elsewhere")
        answer = browser.post("/introspect", data={"token": "x"}, headers=REGISTERED)
        assert (answer.status_code, answer.headers["location"]) == (
            307,
            "http://127.0.0.1:1/elsewhere",
        )

    @pytest.mark.parametrize(
        ("status", "error"),
        [(400, "invalid_request"), (401, "invalid_client"), (500, "server_error")],
    )
    def test_a_poison_token_leaves_the_others_alone(
        self, provider: RunningProvider, browser: httpx2.Client, status: int, error: str
    ) -> None:
        provider.faults = Faults(status=status, only_token="poison", times=2)
        for _ in range(2):
            assert introspect(browser, secrets.token_hex()) == {"active": False}
            answer = browser.post("/introspect", data={"token": "poison"}, headers=REGISTERED)
            assert (answer.status_code, answer.json()) == (status, {"error": error})
        # Only the poison has used up the two times.
        assert introspect(browser, "poison") == {"active": False}

    def test_dropped_claims_are_missing_and_garbage_can_be_active(
        self, provider: RunningProvider, browser: httpx2.Client
    ) -> None:
        provider.faults = Faults(always_active=True, drop_claims=frozenset({"aud", "iss"}))
        token = introspect(browser, "garbage")
        assert token["active"] is True
        assert not {"aud", "iss"} & token.keys()

    def test_bodies_can_be_bombs_or_oversized(
        self, provider: RunningProvider, browser: httpx2.Client
    ) -> None:
        provider.faults = Faults(body="gzip_bomb")
        post = browser.stream("POST", "/introspect", data={"token": "x"}, headers=REGISTERED)
        with post as answer:
            raw = b"".join(answer.iter_raw())
        assert answer.headers["content-encoding"] == "gzip"
        assert len(raw) < 70_000
        assert gzip.decompress(raw).startswith(b'{"active": true')
        provider.faults = Faults(body="oversized")
        body = browser.post("/introspect", data={"token": "x"}, headers=REGISTERED).content
        assert len(body) > 1024 * 1024

    def test_a_reply_can_be_late_slow_or_cut_off(
        self, provider: RunningProvider, browser: httpx2.Client
    ) -> None:
        def post() -> tuple[float, int]:
            started = time.perf_counter()
            form = {"token": "x"}
            answer = browser.post("/introspect", data=form, headers=REGISTERED)
            return time.perf_counter() - started, len(answer.content)

        provider.faults = Faults(latency=0.2)
        seconds, _ = post()
        assert seconds >= 0.2
        provider.faults = Faults(trickle=0.01)
        seconds, length = post()
        assert seconds >= 0.01 * (length - 1)
        provider.faults = Faults(cut_body=True)
        with pytest.raises(httpx2.RemoteProtocolError):
            post()

    def test_discovery_and_keys_can_fail_too(
        self, provider: RunningProvider, browser: httpx2.Client
    ) -> None:
        provider.faults = Faults(endpoints=frozenset({"discovery", "jwks"}), status=503)
        assert browser.get("/.well-known/openid-configuration").status_code == 503
        assert browser.get("/jwks").status_code == 503
        assert introspect(browser, "x") == {"active": False}

    @pytest.mark.parametrize(
        "faults",
        [
            {"stauts": 500},
            {"status": 200},
            {"latency": -1},
            {"override_claims": {"sub": "\ud800"}},
            {"override_claims": {"exp": float("nan")}},
            {"retry_after": "1\r\nX: y"},
        ],
    )
    def test_a_fault_that_cannot_be_met_is_refused(self, faults: dict[str, object]) -> None:
        with pytest.raises(ValidationError):
            shipped.Faults.model_validate(faults)

    @pytest.mark.parametrize(
        "faults",
        [
            {"extra_keys": [{}]},
            {"without_key_members": ["alg"]},
            {"introspection_jwt": "unsigned", "endpoints": ["jwks"]},
        ],
    )
    def test_a_fault_without_effect_is_refused(self, faults: dict[str, object]) -> None:
        with pytest.raises(ValidationError, match="only when the endpoints include"):
            Faults.model_validate(faults)


class TestSignedIntrospection:
    def ask(self, browser: httpx2.Client, token: str) -> httpx2.Response:
        headers = REGISTERED | JWT_ACCEPTED
        return browser.post("/introspect", data={"token": token}, headers=headers)

    def test_the_document_is_inside_a_jwt_for_the_client(
        self, provider: RunningProvider, browser: httpx2.Client
    ) -> None:
        provider.faults = Faults(drop_claims=frozenset({"iss"}), override_claims={"exp": 1.5})
        answer = self.ask(browser, provider.mint(username="ada"))
        assert answer.headers["content-type"] == "application/token-introspection+jwt"
        header = jwt.get_unverified_header(answer.text)
        assert header["typ"] == "token-introspection+jwt"
        key = jwt.PyJWKSet.from_dict({"keys": published_keys(browser)})[header["kid"]]
        claims = jwt.decode(answer.text, key, audience=CONFIG.client_id, issuer=provider.issuer)
        assert claims.keys() == {"iss", "aud", "iat", "token_introspection"}
        document = claims["token_introspection"]
        assert (document["active"], document["username"], document["exp"]) == (True, "ada", 1.5)
        assert "iss" not in document

    @pytest.mark.parametrize(
        ("flaw", "error"),
        [
            ("wrong_audience", jwt.InvalidAudienceError),
            ("wrong_issuer", jwt.InvalidIssuerError),
            ("wrong_signature", jwt.InvalidSignatureError),
            ("unsigned", jwt.InvalidAlgorithmError),
            ("plain_json", jwt.DecodeError),
        ],
    )
    def test_the_jwt_is_wrong_in_the_way_asked_for(
        self,
        provider: RunningProvider,
        browser: httpx2.Client,
        flaw: str,
        error: type[jwt.PyJWTError],
    ) -> None:
        key = jwt.PyJWK(published_keys(browser)[0])
        provider.faults = Faults.model_validate({"introspection_jwt": flaw})
        answer = self.ask(browser, "x").text
        with pytest.raises(error):
            jwt.decode(answer, key, ["RS256"], audience=CONFIG.client_id, issuer=provider.issuer)

    def test_other_faults_reach_the_jwt_or_replace_it(
        self, provider: RunningProvider, browser: httpx2.Client
    ) -> None:
        provider.faults = Faults(introspection_jwt="wrong_typ", body="duplicate_active")
        token = self.ask(browser, "x").text
        assert jwt.get_unverified_header(token)["typ"] == "JWT"
        payload = base64.urlsafe_b64decode(token.split(".")[1] + "==")
        assert b'{"active": false, "active": true' in payload
        provider.faults = Faults(status=500)
        assert self.ask(browser, "x").json() == {"error": "server_error"}


class TestSafety:
    def test_it_runs_on_this_machine_only(self) -> None:
        config = ProviderConfig(issuer="http://0.0.0.0:9000/realm")
        with running_provider(config) as provider:
            port = urlsplit(provider.issuer).port
            assert provider.issuer == f"http://127.0.0.1:{port}/realm"
            # Another address of the loopback network stands for those of other networks.
            with pytest.raises(httpx2.ConnectError):
                httpx2.get(f"http://127.0.0.2:{port}/realm/jwks")

    def test_production_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ENVIRONMENT", "Production")
        with pytest.raises(ProviderError, match="ENVIRONMENT is production"):
            create_provider(CONFIG)

    def test_the_secret_is_not_shown(self) -> None:
        assert CONFIG.client_secret not in repr(CONFIG)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"\xff\x00",
            b"%ff=%ed%a0%80&token=%00",
            b"a=1&" * 60,
            b"[" * 5000,
            b'{"sub": "\\ud800"}',
            b'{"iss": 1, "exp": "x", "format": "jwt"}',
            b"x" * 70_000,
        ],
    )
    def test_garbage_is_never_a_server_error(self, browser: httpx2.Client, body: bytes) -> None:
        form = REGISTERED | {"Content-Type": "application/x-www-form-urlencoded"}
        paths = ["/token", "/introspect", "/revoke", "/authorize", "/login", "/userinfo"]
        for path in [*paths, "/dev/tokens"]:
            for method in ("GET", "POST", "PUT"):
                answer = browser.request(method, path, content=body, headers=form)
                assert answer.status_code < 500, (method, path)

    def test_stopping_does_not_wait_for_a_hanging_client(self) -> None:
        with running_provider(CONFIG) as provider:
            provider.faults = Faults(latency=60)
            form = {"token": "x"}
            impatient = httpx2.Timeout(5, read=0.05)
            with pytest.raises(httpx2.ReadTimeout):
                httpx2.post(
                    f"{provider.issuer}/introspect",
                    data=form,
                    headers=REGISTERED,
                    timeout=impatient,
                )
            started = time.perf_counter()
        assert time.perf_counter() - started < 15


class TestOwnProcess:
    def test_it_serves_the_token_command_until_it_is_terminated(
        self,
        processes: Processes,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        process, state_file = processes["terminated"]
        wait_until_ready(process)
        assert state_file.stat().st_mode & 0o777 == 0o600
        assert state_file.parent.stat().st_mode & 0o777 == 0o700
        token = ["token", "--state-file", str(state_file)]
        assert main([*token, "--jwt", "--username", "ada"]) == 0
        printed = capsys.readouterr().out.strip()
        claims = jwt.decode(printed, options={"verify_signature": False})
        assert (claims["username"], claims["aud"]) == ("ada", "api")
        assert "roles" not in claims
        for variable, claim in (("", "roles"), ("realm_access.roles", "realm_access.roles")):
            monkeypatch.setenv("SSO_ROLES_CLAIM", variable)
            assert main([*token, "--jwt", "--role", "admin", "--role", "owner"]) == 0
            printed = capsys.readouterr().out.strip()
            claims = jwt.decode(printed, options={"verify_signature": False})
            assert claims[claim] == ["admin", "owner"]
        assert main([*token, "--expires-in", "99999999999"]) == 1
        assert "expires_in" in capsys.readouterr().err
        process.terminate()
        assert_ended_cleanly(process, state_file)

    def test_a_signal_ends_it_cleanly_and_quietly(self, processes: Processes) -> None:
        process, state_file = processes["interrupted"]
        wait_until_ready(process)
        process.send_signal(signal.SIGINT)
        assert_ended_cleanly(process, state_file)

    @pytest.mark.parametrize(
        "state",
        [
            None,
            "not JSON",
            '{"issuer":"http://127.0.0.1:1","client_id":"a","client_secret":"b"}',
            '{"issuer":"nonsense","client_id":"a","client_secret":"b"}',
        ],
    )
    def test_the_token_command_says_when_nothing_runs(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], state: str | None
    ) -> None:
        state_file = tmp_path / "provider.json"
        if state is not None:
            state_file.write_text(state)
        assert main(["token", "--state-file", str(state_file)]) == 1
        output = capsys.readouterr()
        assert output.out == ""
        assert "uv run poe dev" in output.err
        assert output.err.count("\n") == 1

    def test_a_taken_port_is_an_error_sentence(self, provider: RunningProvider) -> None:
        port = urlsplit(provider.issuer).port
        assert port is not None
        with pytest.raises(ProviderError, match="choose another port"), running_provider(port=port):
            pass
