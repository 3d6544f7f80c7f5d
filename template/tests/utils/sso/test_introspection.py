"""What a token is worth, case by case."""

import logging
import time

import httpx2
import pytest
from pydantic import SecretStr

from app.settings import Settings
from devtools.processes import free_port
from devtools.provider import Faults, RunningProvider
from devtools.pytest_plugin import Bearer
from tests.utils.sso.conftest import Serve


def assert_challenged(response: httpx2.Response, status: int, error: str) -> None:
    """Check the answer that RFC 6750 §3 asks for."""
    assert response.status_code == status
    assert f'error="{error}"' in response.headers["www-authenticate"]
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"


def assert_unavailable(response: httpx2.Response, kind: str = "sso-unavailable") -> None:
    """Check that the outage is not blamed on the caller: a 401 would log their user out."""
    assert response.status_code == 503
    assert response.json()["type"] == f"urn:problem:{kind}"
    assert "www-authenticate" not in response.headers
    assert int(response.headers["retry-after"]) > 0


class TestTheRequest:
    async def test_a_good_token_is_accepted_with_its_claims(
        self, caller: httpx2.AsyncClient, bearer: Bearer
    ) -> None:
        response = await caller.get("/anyone", headers=bearer(username="alice", sub="a-1"))

        assert response.status_code == 200
        assert response.json() == {"sub": "a-1", "username": "alice"}

    async def test_a_jwt_is_introspected_like_any_other_token(
        self, caller: httpx2.AsyncClient, bearer: Bearer
    ) -> None:
        assert (await caller.get("/anyone", headers=bearer(format="jwt"))).status_code == 200

    @pytest.mark.parametrize("header", [None, "Basic YTpi", "Negotiate abc"])
    async def test_no_token_is_a_401_without_an_error_code(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, header: str | None
    ) -> None:
        response = await caller.get(
            "/anyone", headers={} if header is None else {"Authorization": header}
        )

        assert response.status_code == 401
        assert response.headers["www-authenticate"] == 'Bearer realm="api"'
        assert provider.introspection_calls == 0

    @pytest.mark.parametrize(
        "headers",
        [
            [("Authorization", "")],
            [("Authorization", "Bearer ")],
            [("Authorization", "Bearer a"), ("Authorization", "Bearer b")],
        ],
    )
    async def test_a_malformed_header_is_a_400(
        self, caller: httpx2.AsyncClient, headers: list[tuple[str, str]]
    ) -> None:
        assert_challenged(await caller.get("/anyone", headers=headers), 400, "invalid_request")

    @pytest.mark.parametrize("token", ["a b", 'a"b', "a\x00b", "=a", "a" * 8193])
    async def test_what_cannot_be_a_token_is_refused_without_asking(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, token: str
    ) -> None:
        response = await caller.get("/anyone", headers={"Authorization": f"Bearer {token}"})

        assert_challenged(response, 401, "invalid_token")
        assert provider.introspection_calls == 0

    async def test_the_scheme_is_written_in_any_case(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        headers = {"Authorization": f"bEARER   {provider.mint()}"}
        assert (await caller.get("/anyone", headers=headers)).status_code == 200


class TestTheToken:
    async def test_an_unknown_token_is_refused(self, caller: httpx2.AsyncClient) -> None:
        response = await caller.get("/anyone", headers={"Authorization": "Bearer unknown"})
        assert_challenged(response, 401, "invalid_token")

    async def test_an_expired_token_is_refused(
        self, caller: httpx2.AsyncClient, bearer: Bearer
    ) -> None:
        response = await caller.get("/anyone", headers=bearer(expires_in=-60))
        assert_challenged(response, 401, "invalid_token")

    async def test_a_revoked_token_is_refused(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        token = provider.mint()
        provider.revoke(token)

        response = await caller.get("/anyone", headers={"Authorization": f"Bearer {token}"})

        assert_challenged(response, 401, "invalid_token")

    @pytest.mark.parametrize("audience", ["another", ["another", "third"], None, []])
    async def test_a_token_for_another_service_is_refused(
        self, caller: httpx2.AsyncClient, bearer: Bearer, audience: object
    ) -> None:
        response = await caller.get("/anyone", headers=bearer(audience=audience))
        assert_challenged(response, 401, "invalid_token")

    async def test_a_token_for_several_services_is_accepted(
        self, caller: httpx2.AsyncClient, bearer: Bearer
    ) -> None:
        response = await caller.get("/anyone", headers=bearer(audience=["another", "app"]))
        assert response.status_code == 200

    @pytest.mark.parametrize(
        "claims",
        [
            {"iss": "https://other.example.com"},
            {"exp": 1},
            {"nbf": 32_503_680_000},
            {"token_type": "refresh_token"},
            {"token_type": "N_A"},
            {"token_use": "id", "token_type": None},
            {"token_use": "refresh"},
            {"typ": "Refresh"},
            {"typ": "ID"},
            {"cnf": {"jkt": "thumbprint"}},
            {"token_type": "DPoP"},
        ],
        ids=str,
    )
    async def test_a_token_that_is_active_and_not_meant_for_this_is_refused(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        bearer: Bearer,
        claims: dict[str, object],
    ) -> None:
        provider.faults = Faults.model_validate({"override_claims": claims})
        assert_challenged(await caller.get("/anyone", headers=bearer()), 401, "invalid_token")

    @pytest.mark.parametrize(
        "claims",
        [
            {"typ": "at+jwt"},
            {"typ": "JWT"},
            {"token_use": "access"},
            {"iss": None},
            {"exp": None},
            {"exp": 32_503_680_000.5},
            {"token_type": None},
        ],
        ids=str,
    )
    async def test_what_providers_leave_out_or_write_otherwise_is_accepted(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        bearer: Bearer,
        claims: dict[str, object],
    ) -> None:
        provider.faults = Faults.model_validate({"override_claims": claims})
        assert (await caller.get("/anyone", headers=bearer())).status_code == 200

    async def test_a_missing_scope_is_a_403_that_names_it(
        self, caller: httpx2.AsyncClient, bearer: Bearer
    ) -> None:
        response = await caller.get("/writers", headers=bearer(scope="report:read"))

        assert_challenged(response, 403, "insufficient_scope")
        assert 'scope="report:write"' in response.headers["www-authenticate"]
        assert response.json()["scopes"] == ["report:write"]

    @pytest.mark.parametrize("scope", ["report:write", ["report:read", "report:write"]])
    async def test_a_scope_is_found_whichever_way_it_is_written(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        bearer: Bearer,
        scope: str | list[str],
    ) -> None:
        provider.faults = Faults.model_validate({"override_claims": {"scope": scope}})
        assert (await caller.get("/writers", headers=bearer())).status_code == 200


class TestTheProvider:
    @pytest.mark.parametrize(
        "faults",
        [
            Faults(status=500),
            Faults(status=502, body="html"),
            Faults(body="html"),
            Faults(body="gzip_bomb"),
            Faults(body="oversized"),
            Faults(body="nan"),
            Faults(body="duplicate_active"),
            Faults(body="string_active"),
            Faults(cut_body=True),
            Faults(redirect_to="http://127.0.0.1:1/elsewhere"),
            Faults(override_claims={"exp": "tomorrow"}),
            Faults(override_claims={"exp": 10**400}),
            Faults(override_claims={"sub": "a\x00b"}),
            Faults(override_claims={"active": 1}),
            Faults(override_claims={"aud": {"a": 1}}),
        ],
        ids=str,
    )
    async def test_a_provider_that_misbehaves_is_a_503(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        bearer: Bearer,
        faults: Faults,
    ) -> None:
        provider.faults = faults
        assert_unavailable(await caller.get("/anyone", headers=bearer()))

    async def test_a_provider_that_is_down_is_a_503(
        self, settings: Settings, serve: Serve, bearer: Bearer
    ) -> None:
        down = settings.model_copy(update={"sso_issuer": f"http://127.0.0.1:{free_port()}"})
        async with serve(down) as caller:
            assert_unavailable(await caller.get("/anyone", headers=bearer()))

    @pytest.mark.parametrize("faults", [{"latency": 30}, {"trickle": 0.05}], ids=str)
    async def test_a_provider_that_is_slow_is_a_503_within_the_deadline(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        bearer: Bearer,
        monkeypatch: pytest.MonkeyPatch,
        faults: dict[str, float],
    ) -> None:
        await caller.get("/anyone", headers=bearer())
        monkeypatch.setattr("app.utils.sso.fetch._DEADLINE_SECONDS", 0.2)
        provider.faults = Faults.model_validate(faults)

        begin = time.monotonic()
        response = await caller.get("/anyone", headers=bearer())

        assert_unavailable(response)
        assert time.monotonic() - begin < 2

    async def test_a_limited_rate_is_a_503_with_the_provider_s_own_time(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, bearer: Bearer
    ) -> None:
        provider.faults = Faults(status=429, retry_after="17")
        response = await caller.get("/anyone", headers=bearer())
        assert_unavailable(response)
        assert response.headers["retry-after"] == "17"

    @pytest.mark.parametrize("retry_after", ["86400", "9" * 90, "Wed, 21 Oct 2026 07:28:00 GMT"])
    async def test_a_time_to_retry_is_bounded(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        bearer: Bearer,
        retry_after: str,
    ) -> None:
        provider.faults = Faults(status=429, retry_after=retry_after)
        response = await caller.get("/anyone", headers=bearer())
        assert_unavailable(response)
        assert int(response.headers["retry-after"]) <= 60

    async def test_a_wrong_client_secret_is_our_fault_and_not_the_caller_s(
        self,
        settings: Settings,
        serve: Serve,
        bearer: Bearer,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        wrong = settings.model_copy(update={"client_secret": SecretStr("canary-secret")})
        async with serve(wrong) as caller:
            response = await caller.get("/anyone", headers=bearer())

        assert_unavailable(response, "sso-misconfigured")
        assert "check CLIENT_ID and CLIENT_SECRET" in caplog.text
        assert "canary-secret" not in caplog.text

    @pytest.mark.parametrize(
        "faults", [Faults(status=400), Faults(status=400, body="html")], ids=str
    )
    async def test_a_provider_that_cannot_read_a_token_refuses_it(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, faults: Faults
    ) -> None:
        """Some answer 400 where RFC 7662 §2.2 wants an inactive token."""
        provider.faults = faults
        response = await caller.get("/anyone", headers={"Authorization": "Bearer unknown"})
        assert_challenged(response, 401, "invalid_token")

    @pytest.mark.parametrize("error", ["invalid_client", "unauthorized_client"])
    async def test_a_client_that_is_refused_with_a_400_is_our_fault_too(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, bearer: Bearer, error: str
    ) -> None:
        """RFC 6749 §5.2 allows the status for errors that are about the client."""
        provider.faults = Faults(status=400, error=error)
        response = await caller.get("/anyone", headers=bearer())
        assert_unavailable(response, "sso-misconfigured")

    async def test_a_connection_that_breaks_once_is_tried_again(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, bearer: Bearer
    ) -> None:
        provider.faults = Faults(cut_body=True, times=1)
        assert (await caller.get("/anyone", headers=bearer())).status_code == 200

    async def test_neither_token_nor_secret_is_logged(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        settings: Settings,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        token = provider.mint()
        for faults in (Faults(), Faults(status=500), Faults(body="nan"), Faults(status=401)):
            provider.faults = faults
            await caller.get("/anyone", headers={"Authorization": f"Bearer {token}"})

        assert token not in caplog.text
        assert settings.client_secret.get_secret_value() not in caplog.text
