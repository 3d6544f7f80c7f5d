"""Every case has one answer: status, challenge, log and what is remembered, row by row."""

import secrets
import time

import httpx2
import pytest
from pydantic import SecretStr

from app.settings import Settings
from app.utils.sso.resource_server.introspector import Introspector, ProviderHealth, Timeouts
from template_tools.processes import free_port
from tests.service.provider import Faults, RunningProvider
from tests.service.sso.assertions import (
    Log,
    assert_problem,
    assert_refused,
    assert_unavailable,
    get,
)
from tests.service.sso.conftest import Clock, Network, Open, Serve

type Headers = list[tuple[str, str]]
type Members = dict[str, object]


def override(provider: RunningProvider, **claims: object) -> None:
    """Make the provider return these claims for every token."""
    provider.faults = Faults.model_validate({"override_claims": claims})


class TestNoToken:
    """Row: no token, another scheme."""

    @pytest.mark.parametrize("header", [None, "Basic YTpi", "Negotiate abc", "DPoP abc", "abc"])
    async def test_it_is_a_401_without_an_error_code(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        log: Log,
        header: str | None,
    ) -> None:
        """RFC 6750 §3.1: an error code is for a token that was sent."""
        headers = {} if header is None else {"Authorization": header}
        response = await caller.get("/anyone", headers=headers)

        assert_problem(response, 401, "about:blank", "Unauthorized")
        assert response.headers["www-authenticate"] == 'Bearer realm="api"'
        assert log.levels() == ["DEBUG"]
        assert provider.introspection_calls == 0

    async def test_the_challenge_names_the_scope_to_ask_for(
        self, caller: httpx2.AsyncClient
    ) -> None:
        response = await get(caller, None, "/writers")
        assert response.headers["www-authenticate"] == 'Bearer realm="api", scope="report:write"'


class TestMalformedHeader:
    """Row: two Authorization headers, or an empty one."""

    @pytest.mark.parametrize(
        "headers",
        [
            [("Authorization", "")],
            [("Authorization", "  ")],
            [("Authorization", "Bearer")],
            [("Authorization", "Bearer ")],
            [("Authorization", "Bearer a"), ("Authorization", "Bearer b")],
            [("Authorization", "Bearer a"), ("Authorization", "Basic YTpi")],
        ],
    )
    async def test_it_is_a_400(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        log: Log,
        headers: Headers,
    ) -> None:
        response = await caller.get("/anyone", headers=headers)

        assert_problem(response, 400, "about:blank", "Bad Request")
        assert response.headers["www-authenticate"] == 'Bearer realm="api", error="invalid_request"'
        assert log.levels() == ["INFO"]
        assert provider.introspection_calls == 0


class TestMalformedToken:
    """Row: bad characters, more than 8 KiB."""

    @pytest.mark.parametrize(
        "token", ["a b", "a,b", 'a"b', "a\x00b", "a\\b", "=a", "a=b", "\xe4bc", "a" * 8193]
    )
    async def test_it_is_refused_without_asking(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        log: Log,
        token: str,
    ) -> None:
        headers = [(b"Authorization", b"Bearer " + token.encode("latin-1"))]
        response = await caller.get("/anyone", headers=headers)

        assert_refused(response)
        assert log.levels() == ["INFO"]
        assert provider.introspection_calls == 0

    async def test_the_longest_that_is_accepted_is_asked_about(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        assert_refused(await get(caller, "a" * 8192))
        assert provider.introspection_calls == 1


class TestInactiveToken:
    """Row: inactive."""

    async def test_it_is_refused_and_remembered(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        log: Log,
    ) -> None:
        for _ in range(2):
            assert_refused(await get(caller, "unknown-token"))
            assert log.levels() == ["INFO"]
        assert provider.introspection_calls == 1

    async def test_an_unexpired_jwt_of_our_issuer_is_worth_a_warning(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        log: Log,
    ) -> None:
        token = provider.mint(format="jwt", audience="app")
        provider.revoke(token)

        assert_refused(await get(caller, token))

        [(level, text)] = log.lines()
        assert level == "WARNING"
        assert "revoked" in text
        assert "host name" in text

    @pytest.mark.parametrize(
        ("audience", "cause"),
        [("https://api.example.com", "CLIENT_ID is not in its aud"), ("app", "host name")],
    )
    async def test_what_counts_for_the_warning_is_our_client_and_not_our_audience(
        self,
        settings: Settings,
        serve: Serve,
        provider: RunningProvider,
        log: Log,
        audience: str,
        cause: str,
    ) -> None:
        other = settings.model_copy(update={"sso_audience": "https://api.example.com"})
        token = provider.mint(format="jwt", audience=audience)
        provider.revoke(token)
        async with serve(other) as caller:
            assert_refused(await get(caller, token))
        [(level, text)] = log.lines()
        assert level == "WARNING"
        assert cause in text

    async def test_the_warning_tells_of_an_audience_without_our_client(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        log: Log,
    ) -> None:
        """Keycloak since 26.4.12 calls such a token inactive, and says nowhere why."""
        token = provider.mint(format="jwt", audience=["another"])
        provider.revoke(token)

        for _ in range(2):
            assert_refused(await get(caller, token))

        [(level, text)] = log.lines()
        assert level == "WARNING"
        assert "CLIENT_ID is not in its aud" in text

    @pytest.mark.parametrize("claims", [{"iss": "https://other.example.com"}, {"exp": 1}], ids=str)
    async def test_another_jwt_is_not(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        log: Log,
        claims: dict[str, object],
    ) -> None:
        token = provider.mint(format="jwt", **claims)
        provider.revoke(token)
        assert_refused(await get(caller, token))
        assert log.levels() == ["INFO"]


class TestTokenForAnother:
    """Rows: wrong or missing audience; wrong issuer; a refresh or ID token; a bound token."""

    @pytest.mark.parametrize(
        "claims",
        [
            {"aud": "another"},
            {"aud": ["another", "apps"]},
            {"aud": "app another"},
            {"aud": []},
            {"aud": None},
            {"iss": "https://other.example.com"},
            {"iss": ""},
            {"token_type": "refresh_token"},
            {"token_type": "N_A"},
            {"token_type": "id_token"},
            {"token_use": "id", "token_type": None},
            {"token_use": "refresh"},
            {"typ": "Refresh"},
            {"typ": "ID"},
            {"typ": "Offline"},
            {"at_hash": "MTIzNDU2Nzg5MDEyMzQ1Ng"},
            {"cnf": {"jkt": "thumbprint"}},
            {"cnf": {"x5t#S256": "thumbprint"}},
            {"cnf": {}},
            {"token_type": "DPoP"},
            {"typ": "DPoP"},
            {"token_use": "dpop"},
        ],
        ids=str,
    )
    async def test_it_is_refused_with_one_warning_and_the_response_is_kept(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        log: Log,
        claims: dict[str, object],
    ) -> None:
        override(provider, **claims)
        token = provider.mint()

        assert_refused(await get(caller, token))
        assert log.levels() == ["WARNING"]

        assert_refused(await get(caller, token))
        assert log.levels() == []
        assert provider.introspection_calls == 1

    async def test_the_warning_comes_again_after_a_minute_with_their_number(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        log: Log,
        clock: Clock,
    ) -> None:
        for wait in (0, 0, 0, 61):
            clock.ahead += wait
            assert_refused(await get(caller, provider.mint(audience="another")))

        [first, second] = log.lines()
        assert second == ("WARNING", f"{first[1]} (and 2 times before)")

    @pytest.mark.parametrize(
        "claims",
        [{"typ": "Refresh"}, {"token_use": "id"}, {"at_hash": "x"}, {"cnf": {"jkt": "x"}}],
        ids=str,
    )
    async def test_what_a_jwt_says_of_itself_counts_where_the_response_does_not_say_it(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, claims: dict[str, object]
    ) -> None:
        provider.faults = Faults(drop_claims=frozenset(claims))
        assert_refused(await get(caller, provider.mint(format="jwt", **claims)))

    async def test_the_name_of_our_client_is_no_audience(
        self, settings: Settings, serve: Serve, provider: RunningProvider
    ) -> None:
        """It is the audience of ID tokens, and of whatever else is issued to this client."""
        other = settings.model_copy(update={"sso_audience": "https://api.example.com"})
        async with serve(other) as caller:
            assert_refused(await get(caller, provider.mint(audience=settings.client_id)))
            token = provider.mint(audience="https://api.example.com")
            assert (await get(caller, token)).status_code == 200

    async def test_a_missing_issuer_is_refused_where_the_settings_want_one(
        self, settings: Settings, serve: Serve, provider: RunningProvider
    ) -> None:
        provider.faults = Faults(drop_claims=frozenset({"iss"}))
        async with serve(settings) as caller:
            assert (await get(caller, provider.mint())).status_code == 200
        async with serve(settings.model_copy(update={"sso_require_issuer": True})) as caller:
            assert_refused(await get(caller, provider.mint()))


class TestTokenOutOfTime:
    """Row: ``exp`` or ``nbf`` by our clock."""

    @pytest.mark.parametrize(
        "claims", [{"exp": 1}, {"exp": 0}, {"exp": -1.5}, {"nbf": 32_503_680_000}], ids=str
    )
    async def test_it_is_refused_and_forgotten(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        log: Log,
        claims: dict[str, object],
    ) -> None:
        override(provider, **claims)
        token = provider.mint()
        for _ in range(2):
            assert_refused(await get(caller, token))
            assert log.levels() == ["INFO"]
        assert provider.introspection_calls == 2

    @pytest.mark.parametrize(("member", "seconds"), [("exp", -20), ("nbf", 20)])
    async def test_clocks_may_differ_by_half_a_minute(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, member: str, seconds: int
    ) -> None:
        override(provider, **{member: time.time() + seconds})
        assert (await get(caller, provider.mint())).status_code == 200

    @pytest.mark.parametrize(("member", "seconds"), [("exp", -40), ("nbf", 40)])
    async def test_and_not_by_more(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, member: str, seconds: int
    ) -> None:
        override(provider, **{member: time.time() + seconds})
        assert_refused(await get(caller, provider.mint()))

    async def test_the_difference_never_extends_the_cache(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        override(provider, exp=time.time() - 20)
        token = provider.mint()
        for _ in range(2):
            assert (await get(caller, token)).status_code == 200
        assert provider.introspection_calls == 2


class TestMissingScope:
    """Row: scope missing."""

    @pytest.mark.parametrize("scope", ["report:read", "report:write2", "report:writ", ""])
    async def test_it_is_a_403_that_names_the_scope(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        log: Log,
        scope: str,
    ) -> None:
        token = provider.mint(scope=scope)
        for _ in range(2):
            response = await get(caller, token, "/writers")

            assert_problem(response, 403, "insufficient-scope", "Insufficient scope")
            assert response.json()["scopes"] == ["report:write"]
            assert response.headers["www-authenticate"] == (
                'Bearer realm="api", error="insufficient_scope", scope="report:write"'
            )
            assert log.levels() == ["INFO"]
        assert provider.introspection_calls == 1

    @pytest.mark.parametrize("scope", ["report:read", "report:write", "other", ""])
    async def test_of_several_each_is_required(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, scope: str
    ) -> None:
        response = await get(caller, provider.mint(scope=scope), "/editors")
        assert response.status_code == 403
        assert response.json()["scopes"] == ["report:read", "report:write"]
        assert 'scope="report:read report:write"' in response.headers["www-authenticate"]

        token = provider.mint(scope="report:write other report:read")
        assert (await get(caller, token, "/editors")).status_code == 200


class TestInsufficientAuthentication:
    """Row: acr or age too low (RFC 9470)."""

    @pytest.mark.parametrize(
        ("path", "wanted"), [("/strong", 'acr_values="gold mfa"'), ("/recent", 'max_age="300"')]
    )
    async def test_it_is_a_401_that_says_what_to_ask_the_provider_for(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        log: Log,
        path: str,
        wanted: str,
    ) -> None:
        token = provider.mint(acr="silver", auth_time=1)
        for _ in range(2):
            response = await get(caller, token, path)

            assert_problem(
                response,
                401,
                "insufficient-user-authentication",
                "Insufficient user authentication",
            )
            assert response.headers["www-authenticate"] == (
                f'Bearer realm="api", error="insufficient_user_authentication", {wanted}'
            )
            assert log.levels() == ["INFO"]
        assert provider.introspection_calls == 1


class TestProviderUnreachable:
    """Row: provider unreachable, timeout, breaker open."""

    async def test_it_is_a_503_and_an_error_once(
        self, settings: Settings, serve: Serve, log: Log
    ) -> None:
        down = settings.model_copy(update={"sso_issuer": f"http://127.0.0.1:{free_port()}"})
        async with serve(down) as caller:
            for number in range(8):
                assert_unavailable(await get(caller, f"some-token-{number}"))
        [(level, text)] = log.lines()
        assert level == "ERROR"
        assert f"ConnectError at {down.sso_issuer}" in text

    @pytest.mark.parametrize("faults", [{"latency": 30}, {"trickle": 0.05}], ids=str)
    async def test_a_slow_provider_is_a_503_within_the_deadline(
        self,
        settings: Settings,
        serve: Serve,
        provider: RunningProvider,
        log: Log,
        faults: dict[str, float],
    ) -> None:
        known = settings.model_copy(
            update={"sso_introspection_url": f"{provider.issuer}/introspect"}
        )
        provider.faults = Faults.model_validate(faults)
        async with serve(known, timeouts=Timeouts(provider=0.1)) as caller:
            begin = time.monotonic()
            assert_unavailable(await get(caller, provider.mint()))
            assert time.monotonic() - begin < 4, "the client's own timeout is 5 s a chunk"
        [(level, text)] = log.lines()
        assert level == "ERROR"
        assert "TimeoutError" in text

    def test_a_request_waits_for_no_more_than_it_can_afford(self) -> None:
        """Together, the waits for provider and cache stay below the ten seconds of a request."""
        assert Timeouts() == Timeouts(provider=5, health=2, shared_cache=0.25)

    async def test_what_is_remembered_serves_through_it(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        good, other = provider.mint(), provider.mint()
        assert (await get(caller, good)).status_code == 200

        provider.faults = Faults(status=503)

        for _ in range(8):
            assert_unavailable(await get(caller, other))
            assert (await get(caller, good)).status_code == 200

    async def test_nothing_of_it_is_remembered(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        token = provider.mint()
        provider.faults = Faults(body="html")
        assert_unavailable(await get(caller, token))

        provider.faults = Faults()
        assert (await get(caller, token)).status_code == 200


class TestProviderLimitsTheRate:
    """Row: provider 429."""

    @pytest.mark.parametrize(
        ("retry_after", "seconds"),
        [
            ("17", 17),
            ("0", 1),
            ("86400", 60),
            ("9" * 90, 5),
            ("-1", 5),
            ("Wed, 21 Oct 2026 07:28:00 GMT", 5),
            (None, 5),
        ],
    )
    async def test_it_is_a_503_with_its_time_and_calls_are_held(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        log: Log,
        clock: Clock,
        retry_after: str | None,
        seconds: int,
    ) -> None:
        token, other = provider.mint(), provider.mint()
        provider.faults = Faults(status=429, retry_after=retry_after)

        response = await get(caller, token)
        assert_unavailable(response)
        assert int(response.headers["retry-after"]) == seconds
        assert log.levels() == ["WARNING"]
        assert provider.introspection_calls == 2, "a canary showed that it was not the token's"

        assert_unavailable(await get(caller, other))
        assert provider.introspection_calls == 2

        provider.faults = Faults()
        clock.ahead += seconds
        assert (await get(caller, other)).status_code == 200
        assert provider.introspection_calls == 3, "no canary: the provider has answered"

    async def test_a_429_for_some_tokens_is_not_held_against_the_others(
        self, caller: httpx2.AsyncClient, network: Network, provider: RunningProvider, clock: Clock
    ) -> None:
        """Anybody can draw one with invented tokens."""

        async def answer(request: httpx2.Request) -> httpx2.Response:
            if b"invented" in request.content:
                return httpx2.Response(429, headers={"retry-after": "60"})
            return await network.forward(request)

        network.handler = answer
        for number in range(20):
            response = await get(caller, f"invented-{number}")
            assert_unavailable(response)
            assert response.headers["retry-after"] == "60"
            assert (await get(caller, provider.mint())).status_code == 200
        assert provider.introspection_calls == 20 + 1, "one canary for a second"

        clock.ahead += 1
        assert_unavailable(await get(caller, "invented"))
        assert provider.introspection_calls == 20 + 2


class TestProviderRefusesUs:
    """Row: provider 401, 403, ``invalid_client``."""

    @pytest.mark.parametrize(
        "faults",
        [
            {"status": 401},
            {"status": 403},
            {"status": 403, "body": "html"},
            {"status": 400, "error": "invalid_client"},
            {"status": 400, "error": "unauthorized_client"},
        ],
        ids=str,
    )
    async def test_it_is_our_fault_and_held_for_half_a_minute(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        log: Log,
        clock: Clock,
        faults: dict[str, object],
    ) -> None:
        provider.faults = Faults.model_validate(faults)
        for _ in range(5):
            response = await get(caller, provider.mint())
            assert_unavailable(response, "sso-misconfigured")
            assert response.headers["retry-after"] == "30"

        [(level, text)] = log.lines()
        assert level == "ERROR"
        assert "check CLIENT_ID and CLIENT_SECRET" in text
        assert provider.introspection_calls == 2, "one for the token and one for the canary"

        provider.faults = Faults()
        clock.ahead += 29
        response = await get(caller, provider.mint())
        assert_unavailable(response, "sso-misconfigured")
        assert response.headers["retry-after"] == "1"
        clock.ahead += 2
        assert (await get(caller, provider.mint())).status_code == 200

    async def test_a_wrong_secret_is_not_the_callers_fault(
        self,
        settings: Settings,
        serve: Serve,
        provider: RunningProvider,
        log: Log,
    ) -> None:
        wrong = settings.model_copy(update={"client_secret": SecretStr("canary-secret")})
        async with serve(wrong) as caller:
            assert_unavailable(await get(caller, provider.mint()), "sso-misconfigured")
        assert "canary-secret" not in log.text

    async def test_a_provider_that_calls_every_token_inactive_is_doubted(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, log: Log
    ) -> None:
        """Some answer so to a wrong secret, and nothing else would say that it is wrong."""
        provider.faults = Faults(override_claims={"active": False})
        for number in range(11):
            assert (await get(caller, provider.mint())).status_code == 401
            assert ("CLIENT_SECRET" in log.text) == (number >= 9)
        assert log.text.count("CLIENT_SECRET") == 1, "it is not said again for each token"

    async def test_a_provider_that_has_called_one_active_is_not_doubted(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, log: Log
    ) -> None:
        assert (await get(caller, provider.mint())).status_code == 200
        for _ in range(11):
            assert (await get(caller, secrets.token_urlsafe())).status_code == 401
        assert "CLIENT_SECRET" not in log.text

    async def test_unless_it_calls_those_inactive_that_were_active(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, log: Log, clock: Clock
    ) -> None:
        """The secret may have been changed while the service runs."""
        tokens = [provider.mint() for _ in range(11)]
        for token in tokens:
            assert (await get(caller, token)).status_code == 200
        clock.ahead += 61
        provider.faults = Faults(override_claims={"active": False})
        for number, token in enumerate(tokens):
            assert (await get(caller, token)).status_code == 401
            assert ("CLIENT_SECRET" in log.text) == (number >= 9)

    @pytest.mark.parametrize("status", [404, 405])
    async def test_a_wrong_address_of_the_endpoint_is_our_fault_too(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, log: Log, status: int
    ) -> None:
        provider.faults = Faults(status=status)
        assert_unavailable(await get(caller, provider.mint()), "sso-misconfigured")
        assert log.levels() == ["ERROR"]

    async def test_the_service_is_not_ready(
        self, settings: Settings, open_service: Open, provider: RunningProvider
    ) -> None:
        provider.faults = Faults(status=401)
        async with open_service(settings) as app:
            introspector: Introspector = app.state.introspector
            assert await introspector.health() is ProviderHealth.MISCONFIGURED

    async def test_the_error_is_logged_once_a_minute(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        log: Log,
        clock: Clock,
    ) -> None:
        provider.faults = Faults(status=401)
        for _ in range(7):
            assert_unavailable(await get(caller, provider.mint()), "sso-misconfigured")
            clock.ahead += 30
        assert log.levels() == ["ERROR"] * 4


class TestPoisonToken:
    """Rows: another 400, or a 5xx, while the canary is healthy."""

    @pytest.mark.parametrize("body", [None, "html"])
    async def test_a_token_that_the_provider_cannot_read_is_refused_and_remembered(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        log: Log,
        body: str | None,
    ) -> None:
        """Some answer 400 where RFC 7662 §2.2 wants an inactive token."""
        provider.faults = Faults.model_validate(
            {"status": 400, "body": body, "only_token": "poison-token"}
        )
        assert_refused(await get(caller, "poison-token"))
        assert log.levels() == ["WARNING", "INFO"]

        assert_refused(await get(caller, "poison-token"))
        assert provider.introspection_calls == 2, "one for the token and one for the canary"

    @pytest.mark.parametrize("status", [500, 502, 401, 403])
    async def test_a_token_at_which_the_provider_fails_is_a_503_for_this_caller_only(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        log: Log,
        clock: Clock,
        status: int,
    ) -> None:
        provider.faults = Faults(status=status, only_token="poison-token")
        for _ in range(10):
            assert_unavailable(await get(caller, "poison-token"))
        assert log.levels() == ["WARNING"]
        assert provider.introspection_calls == 2, "it is not asked again for five seconds"

        assert (await get(caller, provider.mint())).status_code == 200
        assert provider.introspection_calls == 3, "the breaker is not concerned"

        for wait, calls in ((4.5, 3), (0.5, 5)):
            clock.ahead += wait
            assert_unavailable(await get(caller, "poison-token"))
            assert provider.introspection_calls == calls


class TestPoisonedProvider:
    """Row: 400 or 5xx, and the canary fails too."""

    async def test_a_5xx_is_an_outage(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        log: Log,
    ) -> None:
        token = provider.mint()
        provider.faults = Faults(status=500)
        assert_unavailable(await get(caller, token))
        assert log.levels() == ["ERROR"]

        provider.faults = Faults()
        assert (await get(caller, token)).status_code == 200, "nothing is remembered"

    async def test_a_400_about_a_random_text_is_our_fault(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        log: Log,
    ) -> None:
        provider.faults = Faults(status=400)
        assert_unavailable(await get(caller, provider.mint()), "sso-misconfigured")
        assert log.levels() == ["ERROR"]


class TestUntrustworthyReply:
    """Row: not JSON, oversized, encoded, redirected, ``active`` not a boolean."""

    @pytest.mark.parametrize(
        "faults",
        [
            {"body": "html"},
            {"body": "gzip_bomb"},
            {"body": "oversized"},
            {"body": "nan"},
            {"body": "duplicate_active"},
            {"body": "string_active"},
            {"cut_body": True},
            {"redirect_to": "http://127.0.0.1:1/elsewhere"},
            {"redirect_to": "http://["},
            {"status": 418},
            {"drop_claims": ["active"]},
            {"override_claims": {"active": 1}},
            {"override_claims": {"active": None}},
            {"override_claims": {"sub": "a\x00b"}},
        ],
        ids=str,
    )
    async def test_it_is_a_503_and_the_log_tells_no_more_than_its_kind(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        log: Log,
        faults: dict[str, object],
    ) -> None:
        token = provider.mint(username="canary-name")
        provider.faults = Faults.model_validate(faults)

        assert_unavailable(await get(caller, token))
        assert log.levels() == ["ERROR"]
        assert "canary-name" not in log.text

        provider.faults = Faults()
        assert (await get(caller, token)).status_code == 200, "nothing is remembered"

    @pytest.mark.parametrize("status", [200, 204, 302, 400, 401, 404, 418, 429, 500])
    @pytest.mark.parametrize("form", ["{}", '{{"active": "{}", "error": "{}"}}'])
    async def test_a_reply_that_repeats_the_request_is_repeated_nowhere(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        log: Log,
        network: Network,
        status: int,
        form: str,
    ) -> None:
        async def echo(request: httpx2.Request) -> httpx2.Response:
            if request.method == "GET":
                return await network.forward(request)
            said = f"canary {request.content.decode()} {request.headers['authorization']}"
            return httpx2.Response(
                status, headers={"retry-after": said}, text=form.format(said, said)
            )

        assert (await get(caller, provider.mint())).status_code == 200
        network.handler = echo
        response = await get(caller, "token-of-a-caller")
        assert response.status_code == 503
        assert "canary" not in response.text + str(response.headers)
        assert log.lines(), "it is worth a line"
        assert "canary" not in log.text

    @pytest.mark.parametrize(
        ("body", "what"), [("gzip_bomb", "a compressed body"), ("oversized", "an oversized body")]
    )
    async def test_the_log_tells_a_body_that_is_not_read_to_its_end(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        log: Log,
        body: str,
        what: str,
    ) -> None:
        provider.faults = Faults.model_validate({"body": body})
        assert_unavailable(await get(caller, provider.mint()))
        [(_, said)] = log.lines()
        assert what in said


class TestUnreadableClaims:
    """Row: a claim of the wrong type in a response that says active."""

    @pytest.mark.parametrize(
        "claims",
        [
            {"exp": "tomorrow"},
            {"exp": True},
            {"exp": 10**400},
            {"iat": {}},
            {"sub": ["canary"]},
            {"sub": 1.5},
            {"aud": {"a": 1}},
            {"aud": ["app", None]},
            {"scope": {"report:write": True}},
            {"scope": ["report:write", 7]},
        ],
        ids=lambda claims: str(claims)[:40],
    )
    async def test_it_is_refused_with_a_warning_that_names_the_claim(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, log: Log, claims: Members
    ) -> None:
        override(provider, **claims)
        token = provider.mint()
        for _ in range(2):
            assert_refused(await get(caller, token))
        [(level, text)] = log.lines()
        assert level == "WARNING"
        assert next(iter(claims)) in text or 10**400 in claims.values()
        assert "canary" not in text
        assert provider.introspection_calls == 1

    async def test_the_log_names_all_of_them(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, log: Log
    ) -> None:
        override(provider, username=5.5, exp="tomorrow", aud=["app", None])
        assert_refused(await get(caller, provider.mint()))
        said = "A token was refused because RFC 7662 does not allow its username, aud, exp"
        assert log.lines() == [("WARNING", said)]
