"""The development page and `poe token`: who one can be, what became of tokens, and who may look."""

import json
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from fastapi import FastAPI, Response, Security
from fastapi.security import OpenIdConnect

from template_tools import token_command
from template_tools.configuration import PROJECT_ROOT
from template_tools.provider import Faults, ProviderConfig, ProviderError, RunningProvider
from template_tools.provider.serve import (
    listening,
    published_provider,
    running_provider,
    server_config,
    serving,
)

SECRET = "the-secret-of-the-registered-client"
CLIENT = ("app", SECRET)
LOGIN = "openid profile email"
EVERY = f"{LOGIN} order:read order:write"
SCRIPT = "<script>alert(1)</script>"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

sso = OpenIdConnect(openIdConnectUrl="/", scheme_name="SSO", auto_error=False)


class Service:
    """A service of two scopes, whose description a test can replace."""

    def __init__(self) -> None:
        self.description: bytes | None = None
        self.app = FastAPI(title=f"Orders {SCRIPT}", openapi_url=None)
        self.app.add_api_route("/openapi.json", self._describe, include_in_schema=False)
        self.app.add_api_route("/api/v1/orders", self._read)
        self.app.add_api_route("/api/v1/orders", self._write, methods=["POST"])

    def _describe(self) -> Response:
        return Response(self.description or json.dumps(self.app.openapi()))

    @staticmethod
    def _read(_: Annotated[str | None, Security(sso, scopes=["order:read"])]) -> None: ...

    @staticmethod
    def _write(_: Annotated[str | None, Security(sso, scopes=["order:write"])]) -> None: ...


class Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def attributes(self, *names: str) -> list[str | None]:
        """Return the values of attributes, of every tag."""
        return [it[name] for _, it in self.tags for name in names if name in it]


@pytest.fixture(scope="module")
def running_service() -> Iterator[tuple[Service, str]]:
    service = Service()
    with listening(0) as listener, serving(server_config(service.app), listener):
        yield service, f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def service(running_service: tuple[Service, str]) -> Service:
    running_service[0].description = None
    return running_service[0]


@pytest.fixture(scope="module")
def state_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state") / "provider.json"


@pytest.fixture(scope="module")
def running(running_service: tuple[Service, str], state_file: Path) -> Iterator[RunningProvider]:
    config = ProviderConfig(client_secret=SECRET, service_url=running_service[1])
    with published_provider(config, 0, state_file) as provider:
        yield provider


@pytest.fixture
def provider(running: RunningProvider, service: Service) -> RunningProvider:
    running.reset()
    return running


@pytest.fixture
def browser(provider: RunningProvider) -> Iterator[httpx2.Client]:
    """A client that has the page open."""
    headers = {"Origin": provider.issuer}
    with httpx2.Client(base_url=provider.issuer, headers=headers, trust_env=False) as client:
        yield client


def press(browser: httpx2.Client, action: str, **fields: str) -> httpx2.Response:
    return browser.post("/", data={"action": action, **fields})


def claims_of(browser: httpx2.Client, token: str) -> dict[str, object]:
    answer = browser.post("/introspect", data={"token": token}, auth=CLIENT)
    claims: dict[str, object] = answer.json()
    return claims


def shown_token(response: httpx2.Response) -> str:
    """The token of a page, which stands there in a command too."""
    assert response.status_code == 200, response.text
    _, _, rest = response.text.partition("Authorization: Bearer ")
    token = rest.partition("&quot;")[0]
    assert f"<pre>{token}</pre>" in response.text
    return token


def authorization(hint: str) -> dict[str, str]:
    """The query of the docs page, which asks for every scope."""
    return {
        "response_type": "code",
        "client_id": "docs",
        "redirect_uri": "http://127.0.0.1:8000/docs/oauth2-redirect",
        "scope": EVERY,
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        "login_hint": hint,
    }


def redeemed(browser: httpx2.Client, back: httpx2.Response) -> dict[str, object]:
    """The claims of the access token for the code of a redirect."""
    assert back.status_code == 303, back.text
    form = {
        "grant_type": "authorization_code",
        "code": parse_qs(urlsplit(back.headers["location"]).query)["code"][0],
        "client_id": "docs",
        "redirect_uri": "http://127.0.0.1:8000/docs/oauth2-redirect",
        "code_verifier": VERIFIER,
    }
    return claims_of(browser, browser.post("/token", data=form).json()["access_token"])


class TestWhoOneCanBe:
    @pytest.mark.parametrize(
        ("name", "scope", "roles"),
        [
            ("dev", EVERY, None),
            ("ana", EVERY, ["admin"]),
            ("luis", f"{LOGIN} order:read", None),
            ("eva", LOGIN, None),
        ],
    )
    def test_one_click_gives_a_person_s_token(
        self, browser: httpx2.Client, name: str, scope: str, roles: list[str] | None
    ) -> None:
        answer = press(browser, "token", **{"as": name})
        assert "/api/v1/orders</pre>" in answer.text
        claims = claims_of(browser, shown_token(answer))
        assert (claims["username"], claims["scope"], claims.get("roles")) == (name, scope, roles)

    @pytest.mark.parametrize(
        ("name", "scope"), [("nightly-job", "order:read order:write"), ("dashboard", "order:read")]
    )
    def test_a_machine_speaks_for_itself(
        self, browser: httpx2.Client, name: str, scope: str
    ) -> None:
        claims = claims_of(browser, shown_token(press(browser, "token", **{"as": name})))
        assert claims["sub"] == claims["client_id"] == name
        assert claims["scope"] == scope
        assert "username" not in claims

    def test_somebody_else_has_the_scopes_and_roles_that_are_typed(
        self, browser: httpx2.Client
    ) -> None:
        typed = {"as": " zoë ", "scope": "a:b", "role": "owner clerk"}
        claims = claims_of(browser, shown_token(press(browser, "token", **typed)))
        assert (claims["username"], claims["scope"]) == ("zoë", "a:b")
        assert claims["roles"] == ["owner", "clerk"]

    def test_roles_are_where_the_service_looks_for_them(
        self, browser: httpx2.Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSO_ROLES_CLAIM", "groups")
        claims = claims_of(browser, shown_token(press(browser, "token", **{"as": "ana"})))
        assert claims["groups"] == ["admin"]

    def test_the_docs_page_signs_in_as_the_chosen_person_once(
        self, browser: httpx2.Client, provider: RunningProvider
    ) -> None:
        away = press(browser, "docs", **{"as": "luis", "role": "clerk"})
        assert away.status_code == 303
        docs, _, hint = away.headers["location"].partition("?login_hint=")
        assert docs == f"{provider.config.service_url}/docs"
        claims = redeemed(browser, browser.get("/authorize", params=authorization(hint)))
        assert (claims["username"], claims["roles"]) == ("luis", ["clerk"])
        assert claims["scope"] == f"{LOGIN} order:read"
        again = browser.get("/authorize", params=authorization(hint))
        assert (again.status_code, "<form" in again.text) == (200, True)

    def test_the_login_page_offers_the_same_people(self, browser: httpx2.Client) -> None:
        page = Page(browser.get("/authorize", params=authorization("")).text)
        people = [it["value"] for tag, it in page.tags if it.get("name") == "person"]
        assert people == ["dev", "ana", "luis", "eva"]
        login = next(it["value"] for _, it in page.tags if it.get("name") == "login")
        back = browser.post("/login", data={"login": login, "person": "eva"})
        assert redeemed(browser, back)["scope"] == LOGIN

    def test_who_may_have_nothing_of_what_is_asked_for_is_denied(
        self, browser: httpx2.Client
    ) -> None:
        asked = authorization("") | {"scope": "order:write"}
        page = Page(browser.get("/authorize", params=asked).text)
        login = next(it["value"] for _, it in page.tags if it.get("name") == "login")
        back = browser.post("/login", data={"login": login, "person": "eva"})
        assert "error=access_denied" in back.headers["location"]

    @pytest.mark.parametrize(
        "fields",
        [
            {"action": "token"},
            {"action": "token", "as": "x" * 101},
            {"action": "token", "as": "a\x07b"},
            {"action": "token", "as": "ana", "scope": 'a"b'},
            {"action": "docs", "as": "ana", "scope": "a  b"},
            {"action": "fault", "fault": "fire"},
            {"action": "unknown"},
            {},
        ],
    )
    def test_a_form_that_cannot_be_met_is_an_error_page(
        self, browser: httpx2.Client, fields: dict[str, str]
    ) -> None:
        answer = browser.post("/", data=fields)
        assert answer.status_code == 400
        assert "That did not work" in Page(answer.text).text


class TestWhatBecameOfTokens:
    def test_each_answer_has_its_reason(
        self, browser: httpx2.Client, provider: RunningProvider
    ) -> None:
        revoked = provider.mint(username="ada")
        provider.revoke(revoked)
        tokens = [
            provider.mint(username="ada", scope="order:read", client_id="shop"),
            provider.mint(username="ada", expires_in=-60),
            provider.mint(username="ada", audience=["billing"]),
            revoked,
            "unknown-text",
        ]
        browser.get("/")
        for token in tokens:
            claims_of(browser, token)
        browser.post("/introspect", data={"token": tokens[0]}, auth=("app", "wrong"))
        text = Page(browser.get("/dev/introspections").text).text
        reasons = [
            "The client is unknown or its secret is wrong.",
            "Unknown:",
            "it was revoked",
            "made for ['billing'], while the service is app",
            "it expired at",
            "Routes that require order:write answer it with 403.",
        ]
        # The latest comes first.
        places = [text.index(reason) for reason in reasons]
        assert places == sorted(places)
        assert "shop" in text
        assert not [token for token in tokens if token in text]

    def test_the_last_twenty_are_kept(self, browser: httpx2.Client) -> None:
        for number in range(25):
            browser.post("/introspect", data={"token": f"{number}"}, auth=CLIENT)
        rows = browser.get("/dev/introspections").text.count("Unknown:")
        assert rows == 20

    @pytest.mark.parametrize(("fault", "status"), [("outage", 503), ("limit", 429)])
    def test_a_button_has_the_provider_fail_and_another_mends_it(
        self, browser: httpx2.Client, provider: RunningProvider, fault: str, status: int
    ) -> None:
        def ask() -> int:
            form = {"token": provider.mint()}
            return browser.post("/introspect", data=form, auth=CLIENT).status_code

        assert press(browser, "fault", fault=fault).status_code == 303
        assert ask() == status
        assert f"status {status} instead" in browser.get("/").text
        assert "fails on purpose" in browser.get("/").text
        press(browser, "fault", fault="none")
        assert ask() == 200
        assert "fails on purpose" not in browser.get("/").text


class TestWhoMayLook:
    @pytest.mark.parametrize(
        "origin",
        [None, "null", "https://evil.example", "http://localhost:5173", "http://127.0.0.1"],
    )
    @pytest.mark.parametrize("action", ["token", "docs", "fault"])
    def test_a_form_of_another_page_does_nothing(
        self, provider: RunningProvider, origin: str | None, action: str
    ) -> None:
        headers = {} if origin is None else {"Origin": origin}
        form = {"action": action, "as": "ana", "fault": "outage"}
        answer = httpx2.post(f"{provider.issuer}/", data=form, headers=headers)
        assert answer.status_code == 403
        assert "Bearer" not in answer.text
        assert "location" not in answer.headers
        assert provider.faults == Faults()

    def test_a_link_does_nothing(self, browser: httpx2.Client, provider: RunningProvider) -> None:
        query = {"action": "token", "as": "ana", "fault": "outage"}
        assert "Bearer" not in browser.get("/", params=query).text
        assert browser.get("/", params=query | {"action": "docs"}).status_code == 200
        browser.get("/", params=query | {"action": "fault"})
        assert provider.faults == Faults()

    @pytest.mark.parametrize("path", ["/", "/dev/introspections"])
    def test_a_name_that_leads_to_this_machine_is_not_its_name(
        self, browser: httpx2.Client, path: str
    ) -> None:
        for host in ("evil.example", "127.0.0.1.evil.example", ""):
            assert browser.get(path, headers={"Host": host}).status_code == 400

    @pytest.mark.parametrize("path", ["/", "/dev/introspections", "/authorize"])
    def test_no_other_page_of_this_machine_can_read_it(
        self, browser: httpx2.Client, path: str
    ) -> None:
        headers = {"Origin": "http://localhost:5173"}
        answer = browser.get(path, params=authorization(""), headers=headers)
        assert "access-control-allow-origin" not in answer.headers
        asked = headers | {"Access-Control-Request-Method": "POST"}
        assert "access-control-allow-origin" not in browser.options(path, headers=asked).headers
        keys = browser.get("/jwks", headers=headers)
        assert keys.headers["access-control-allow-origin"] == headers["Origin"]

    def test_it_loads_nothing_from_elsewhere_and_runs_no_text_of_others(
        self, browser: httpx2.Client, provider: RunningProvider
    ) -> None:
        # Whoever holds the client's secret can give tokens any claim.
        hostile = f"\"'><img src=x onerror=alert(1)>{SCRIPT}"
        claims_of(browser, provider.mint(username=hostile, client_id=hostile, scope=hostile))
        claims_of(browser, provider.mint(username=hostile, audience=hostile))
        answer = press(browser, "token", **{"as": hostile, "role": hostile})
        page = Page(answer.text)
        assert page.text.count("onerror=alert(1)") >= 4
        assert [it for tag, it in page.tags if tag == "script"] == [{"src": "/dev/page.js"}]
        assert {tag for tag, _ in page.tags}.isdisjoint({"img", "iframe", "style", "b"})
        assert not [name for _, it in page.tags for name in it if name.startswith(("on", "style"))]
        loaded = page.attributes("src") + [it["href"] for tag, it in page.tags if tag == "link"]
        assert loaded == ["/dev/page.js", "data:,", "/dev/page.css"]
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self';")
        assert "unsafe" not in policy
        assert policy.endswith(f"form-action 'self' {provider.config.service_url}")
        assert answer.headers["cache-control"] == "no-store"
        for path in ("/dev/page.js", "/dev/page.css"):
            assert browser.get(path).status_code == 200
        assert browser.get("/dev/page.html").status_code == 404

    def test_it_shows_no_secret(
        self, browser: httpx2.Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = "postgresql://ada:hunter2@127.0.0.1:5433/orders?passfile=/hunter2&password=hunter2"
        monkeypatch.setenv("DATABASE_URL", url)
        monkeypatch.setenv("METRICS_PORT", "9464")
        page = browser.get("/").text
        assert "postgresql://ada:***@127.0.0.1:5433/orders" in page
        assert "http://127.0.0.1:9464/metrics" in page
        monkeypatch.setenv("DATABASE_URL", "hunter2")
        for text in (page, browser.get("/").text):
            assert "hunter2" not in text
            assert SECRET not in text


class TestTheService:
    @pytest.mark.parametrize(
        "description",
        [
            b"no JSON",
            b"[]",
            b"{}",
            b'{"paths": [], "info": 1}',
            b'{"paths": {"/a": [], "/b": {"get": 1, "post": {"security": [1, {"SSO": 2}]}}}}',
            b'{"paths": {"/a": {"get": {"security": [{"SSO": ["a b", "\\"", 3, "\\u0000"]}]}}}}',
            b"\xff",
        ],
    )
    def test_an_odd_description_has_no_scopes(
        self, browser: httpx2.Client, service: Service, description: bytes
    ) -> None:
        service.description = description
        token = shown_token(press(browser, "token", **{"as": "dev"}))
        assert claims_of(browser, token)["scope"] == LOGIN

    def test_one_that_does_not_answer_is_named(self) -> None:
        with listening(0) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with running_provider(ProviderConfig(service_url=url)) as provider:
            page = httpx2.get(f"{provider.issuer}/")
        assert f"The service does not answer at {url}" in page.text

    def test_without_one_there_are_tokens_and_no_docs_page(self) -> None:
        with running_provider(ProviderConfig(issuer="http://127.0.0.1:1/realm")) as provider:
            root = provider.issuer.removesuffix("/realm")
            headers = {"Origin": root}
            page = Page(httpx2.get(root).text)
            docs = {"action": "docs", "as": "ana"}
            refused = httpx2.post(f"{root}/", data=docs, headers=headers)
            token = shown_token(
                httpx2.post(f"{root}/", data=docs | {"action": "token"}, headers=headers)
            )
        buttons = [it for _, it in page.tags if it.get("value") == "docs"]
        assert all("disabled" in it for it in buttons)
        assert refused.status_code == 400
        assert token

    @pytest.mark.parametrize(
        "url",
        ["https://example.com", "http://127.0.0.1:8000; script-src *", "http://127.0.0.1:1/x"],
    )
    def test_one_of_another_machine_is_refused(self, url: str) -> None:
        with pytest.raises(ProviderError, match="service_url must be of this machine"):
            ProviderConfig(service_url=url)


class TestTheTokenCommand:
    @pytest.fixture(autouse=True)
    def _ready(self, provider: RunningProvider) -> None: ...

    def claims(
        self,
        capsys: pytest.CaptureFixture[str],
        browser: httpx2.Client,
        state_file: Path,
        *words: str,
    ) -> tuple[dict[str, object], str]:
        """The claims of the printed token, and what was said beside it."""
        assert token_command.main([*words, "--state-file", str(state_file)]) == 0
        printed = capsys.readouterr()
        assert printed.out.count("\n") == 1
        return claims_of(browser, printed.out.strip()), printed.err

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            ([], {"username": "dev", "scope": EVERY, "roles": None}),
            (["--as", "ana"], {"username": "ana", "scope": EVERY, "roles": ["admin"]}),
            (
                ["--as", "ana", "--scope", "order:read", "--role", "clerk", "--role", "owner"],
                {"username": "ana", "scope": "order:read", "roles": ["clerk", "owner"]},
            ),
            (["--as", "dashboard"], {"sub": "dashboard", "scope": "order:read"}),
            (["--scope", "order:write"], {"username": "dev", "scope": "order:write"}),
            (["--username", "zoe"], {"username": "zoe", "scope": EVERY}),
            (["--audience", "a", "--audience", "b"], {"aud": ["a", "b"], "scope": EVERY}),
        ],
    )
    def test_it_prints_a_token_with_every_scope_unless_told_otherwise(
        self,
        capsys: pytest.CaptureFixture[str],
        browser: httpx2.Client,
        state_file: Path,
        words: list[str],
        expected: dict[str, object],
    ) -> None:
        claims, said = self.claims(capsys, browser, state_file, *words)
        assert {name: claims.get(name) for name in expected} == expected
        assert said == ""

    def test_an_unknown_name_gets_a_token_and_hears_who_there_is(
        self, capsys: pytest.CaptureFixture[str], browser: httpx2.Client, state_file: Path
    ) -> None:
        claims, said = self.claims(capsys, browser, state_file, "--as", "anna & co")
        assert (claims["username"], claims["scope"]) == ("anna & co", EVERY)
        assert said.startswith("Nobody here is called anna & co, ")
        assert "dev, ana, luis, eva, nightly-job, dashboard." in said

    def test_a_service_that_does_not_answer_is_named_beside_a_token_with_the_usual_scopes(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        with listening(0) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        file = tmp_path / "provider.json"
        config = ProviderConfig(client_secret=SECRET, service_url=url)
        with (
            published_provider(config, 0, file) as provider,
            httpx2.Client(base_url=provider.issuer) as browser,
        ):
            claims, said = self.claims(capsys, browser, file)
            narrowed, silent = self.claims(capsys, browser, file, "--scope", "order:read")
        assert (claims["scope"], narrowed["scope"]) == (LOGIN, "order:read")
        assert said.startswith(f"The service does not answer at {url}")
        assert f"The token has: {LOGIN}." in said
        assert silent == ""

    @pytest.mark.parametrize("name", ["", "x" * 101, "a\x07b"])
    def test_what_is_no_name_is_an_error_sentence(
        self, capsys: pytest.CaptureFixture[str], state_file: Path, name: str
    ) -> None:
        assert token_command.main(["--as", name, "--state-file", str(state_file)]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "A name has 1 to 100 printable characters." in printed.err

    def test_it_imports_nothing_that_takes_long(self) -> None:
        code = (
            "import sys, template_tools.token_command\n"
            "print({'fastapi', 'httpx2', 'pydantic', 'uvicorn'} & sys.modules.keys())"
        )
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "set()"
