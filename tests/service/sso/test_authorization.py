"""What a route may ask of a token beyond its scopes, and whom a token speaks for."""

import time

import httpx2
import pytest

from app.settings import Settings
from app.utils.sso.authorization import require_authentication
from tests.service.provider import Faults, RunningProvider
from tests.service.sso.assertions import Log, assert_problem, assert_refused, get
from tests.service.sso.conftest import Serve


class TestRoles:
    @pytest.mark.parametrize("roles", [["admin"], ["user", "owner"], "user admin", {"admin": {}}])
    async def test_one_of_them_is_enough(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, roles: object
    ) -> None:
        assert (await get(caller, provider.mint(roles=roles), "/admins")).status_code == 200

    @pytest.mark.parametrize(
        "roles", [None, [], ["user"], "administrator", ["Admin"], 7, [["admin"]]]
    )
    async def test_none_of_them_is_a_403(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, log: Log, roles: object
    ) -> None:
        response = await get(caller, provider.mint(roles=roles), "/admins")
        assert_problem(response, 403, "insufficient-role", "Insufficient role")
        challenge = 'Bearer realm="api", error="insufficient_scope"'
        assert response.headers["www-authenticate"] == challenge
        assert log.levels() == ["INFO"]

    async def test_a_path_leads_to_them(
        self, settings: Settings, serve: Serve, provider: RunningProvider
    ) -> None:
        """Keycloak keeps them there."""
        nested = settings.model_copy(update={"sso_roles_claim": "realm_access.roles"})
        async with serve(nested) as caller:
            token = provider.mint(realm_access={"roles": ["admin"]})
            assert (await get(caller, token, "/admins")).status_code == 200
            for other in ({"roles": ["admin"]}, {"realm_access": ["admin"]}, {"realm_access": 1}):
                response = await get(caller, provider.mint(**other), "/admins")
                assert response.status_code == 403

    async def test_a_name_with_dots_is_a_name_first(
        self, settings: Settings, serve: Serve, provider: RunningProvider
    ) -> None:
        """Auth0 requires a URL as the name of a custom claim."""
        name = "https://example.com/roles"
        async with serve(settings.model_copy(update={"sso_roles_claim": name})) as caller:
            assert (await get(caller, provider.mint(**{name: ["owner"]}), "/admins")).is_success

    async def test_a_bad_token_is_refused_before(self, caller: httpx2.AsyncClient) -> None:
        assert_refused(await get(caller, "unknown-token", "/admins"))


class TestStepUp:
    """RFC 9470: the token is valid, but its user must log in again, or in a stronger way."""

    @pytest.mark.parametrize("acr", ["gold", "mfa"])
    async def test_a_strong_login_is_enough(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, acr: str
    ) -> None:
        assert (await get(caller, provider.mint(acr=acr), "/strong")).status_code == 200

    @pytest.mark.parametrize("acr", [None, "", "gol", "gold mfa", "Gold", 0, ["gold"]], ids=str)
    async def test_another_is_not(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, acr: object
    ) -> None:
        response = await get(caller, provider.mint(acr=acr), "/strong")
        assert response.status_code == 401
        assert response.json()["acr_values"] == "gold mfa"

    @pytest.mark.parametrize("age", [0, 290, 300, 325, -20])
    async def test_a_recent_login_is_enough(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, age: int
    ) -> None:
        token = provider.mint(auth_time=int(time.time()) - age)
        assert (await get(caller, token, "/recent")).status_code == 200

    @pytest.mark.parametrize("age", [340, 10**6, -60, -(10**12)])
    async def test_an_older_one_or_one_of_the_future_is_not(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, age: int
    ) -> None:
        token = provider.mint(auth_time=int(time.time()) - age)
        response = await get(caller, token, "/recent")
        assert response.status_code == 401
        assert response.json()["max_age"] == "300"

    @pytest.mark.parametrize("auth_time", [None, True, "4000000000", [4_000_000_000]], ids=str)
    async def test_an_unknown_time_is_not(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, auth_time: object
    ) -> None:
        token = provider.mint(auth_time=auth_time)
        assert (await get(caller, token, "/recent")).status_code == 401

    async def test_a_bad_token_is_refused_before(self, caller: httpx2.AsyncClient) -> None:
        assert_refused(await get(caller, "unknown-token", "/strong"))

    def test_one_text_is_no_list_of_values(self) -> None:
        """``in`` would accept any substring of it, even the empty one."""
        with pytest.raises(TypeError, match=r"\['gold'\]"):
            require_authentication(acr_values="gold")


class TestTheSubject:
    @pytest.mark.parametrize(
        ("claims", "subject"),
        [
            ({"sub": "a-1", "username": "alice", "client_id": "c"}, "a-1"),
            ({"sub": None, "username": "alice", "client_id": "c"}, "alice"),
            ({"sub": None, "username": None, "client_id": "c"}, "c"),
            ({"sub": None, "username": None, "client_id": None}, None),
        ],
        ids=str,
    )
    async def test_it_is_the_first_that_the_provider_names(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        claims: dict[str, object],
        subject: str | None,
    ) -> None:
        """A token of client_credentials has no user; some providers then leave ``sub`` out."""
        provider.faults = Faults.model_validate({"override_claims": claims})
        assert (await get(caller, provider.mint(), "/who")).json()["subject"] == subject

    @pytest.mark.parametrize(
        ("claim", "subject"),
        [
            ("employee", "e-7"),
            ("person.id", "p-7"),
            ("username", "alice"),
            ("absent", "a-1"),
            ("empty", "a-1"),
        ],
    )
    async def test_the_settings_may_choose_the_claim(
        self,
        settings: Settings,
        serve: Serve,
        provider: RunningProvider,
        claim: str,
        subject: str,
    ) -> None:
        token = provider.mint(
            sub="a-1", username="alice", employee="e-7", person={"id": "p-7"}, empty=""
        )
        chosen = settings.model_copy(update={"sso_subject_claim": claim})
        async with serve(chosen) as caller:
            assert (await get(caller, token, "/who")).json()["subject"] == subject
