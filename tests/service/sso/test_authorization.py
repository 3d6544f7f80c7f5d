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
    @pytest.mark.parametrize(
        "roles",
        [
            ["admin"],
            ["user", "owner"],
            "user admin",
            " admin  user ",
            {"admin": True},
            {"admin": False, "owner": True},
            # Zitadel names the organisations that grant it.
            {"admin": {"252353453": "acme.zitadel.cloud"}},
        ],
        ids=str,
    )
    async def test_one_of_them_is_enough(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, roles: object
    ) -> None:
        assert (await get(caller, provider.mint(roles=roles), "/admins")).status_code == 200

    @pytest.mark.parametrize(
        "roles", [None, [], ["user"], "administrator", ["Admin"], 7, [["admin"]], ["admin user"]]
    )
    async def test_none_of_them_is_a_403(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, log: Log, roles: object
    ) -> None:
        response = await get(caller, provider.mint(roles=roles), "/admins")
        assert_problem(response, 403, "insufficient-role", "Insufficient role")
        challenge = 'Bearer realm="api", error="insufficient_scope"'
        assert response.headers["www-authenticate"] == challenge
        assert log.levels() == ["INFO"]

    @pytest.mark.parametrize(
        "value",
        [
            *(False, None, 0, 1, 0.5, "", "false", "true", "no", [], ["admin"], {}),
            *({"a": False}, {"a": None}, {"a": ""}, {"a": {"b": "acme"}}, {"a": ["acme"]}),
            {"a": "acme", "b": False},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("claim", ["roles", "realm_access.roles", "https://a.example/roles"])
    async def test_a_member_of_an_object_counts_only_if_it_is_true(
        self,
        settings: Settings,
        serve: Serve,
        provider: RunningProvider,
        value: object,
        claim: str,
    ) -> None:
        granted: object = {"admin": value}
        names = [claim] if ":" in claim else claim.split(".")
        for name in reversed(names):
            granted = {name: granted}
        assert isinstance(granted, dict)
        async with serve(settings.model_copy(update={"sso_roles_claim": claim})) as caller:
            assert (await get(caller, provider.mint(**granted), "/admins")).status_code == 403
            assert (await get(caller, provider.mint(**granted), "/who")).json()["roles"] == []

    @pytest.mark.parametrize(
        "entry", [{"admin": True}, {"name": "admin"}, {"role": "admin"}, ["admin"]], ids=str
    )
    async def test_a_list_of_anything_but_names_has_none(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, entry: object
    ) -> None:
        assert (await get(caller, provider.mint(roles=[entry]), "/admins")).status_code == 403

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
            ({"sub": 7, "username": "alice", "client_id": "c"}, "7"),
            ({"sub": "", "username": "alice", "client_id": "c"}, None),
            ({"sub": None, "username": "alice", "client_id": "c"}, None),
            ({"sub": None, "username": None, "client_id": "c"}, None),
        ],
        ids=str,
    )
    async def test_no_other_claim_takes_its_place(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        claims: dict[str, object],
        subject: str | None,
    ) -> None:
        """Who registers a client or a username chooses its name: it may be somebody's subject."""
        provider.faults = Faults.model_validate({"override_claims": claims})
        assert (await get(caller, provider.mint(), "/who")).json()["subject"] == subject

    @pytest.mark.parametrize(
        ("claim", "subject"),
        [
            ("employee", "e-7"),
            ("person.id", "p-7"),
            ("username", "alice"),
            ("number", "7"),
            ("absent", None),
            ("empty", None),
            ("fraction", None),
            ("truth", None),
            ("person", None),
        ],
    )
    async def test_the_settings_may_choose_the_claim(
        self,
        settings: Settings,
        serve: Serve,
        provider: RunningProvider,
        claim: str,
        subject: str | None,
    ) -> None:
        other = {"empty": "", "number": 7, "fraction": 7.0, "truth": True}
        token = provider.mint(
            sub="a-1", username="alice", employee="e-7", person={"id": "p-7"}, **other
        )
        chosen = settings.model_copy(update={"sso_subject_claim": claim})
        async with serve(chosen) as caller:
            assert (await get(caller, token, "/who")).json()["subject"] == subject
