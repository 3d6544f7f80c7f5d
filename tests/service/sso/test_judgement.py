"""One judgement in every mode: the same claims, introspected or signed, get the same answer."""

import time
from collections.abc import Sequence
from typing import Any

import httpx2
import pytest
from pydantic import JsonValue

from app.settings import Settings
from tests.service.provider import RunningProvider
from tests.service.sso.assertions import Log, assert_refused, get
from tests.service.sso.conftest import Open, Serve

type Claims = dict[str, JsonValue]

MODES = ("introspect", "jwt", "both")
NOW = int(time.time())
# What is tried as the value of a claim. None leaves the claim out.
VALUES: tuple[Any, ...] = (
    *(None, True, False, 7, 0.5, "", "app", "false", "Bearer"),
    *([], ["app"], ["app", 7], {}, {"app": True}, {"jkt": "thumbprint"}),
)
TIMES: list[JsonValue] = [
    *(f"{NOW + 600}", 0, -1, NOW, NOW + 20, NOW + 60, NOW + 600.5, NOW - 20, NOW - 600),
    *((NOW + 600) * 1000, (NOW - 600) * 1000, (NOW + 600) * 1_000_000, 10**20, 1e300, 10**400),
]
CLAIMS = (
    *("iss", "sub", "aud", "exp", "iat", "nbf", "jti", "scope", "scp", "client_id", "azp"),
    *("username", "email_verified", "token_use", "typ", "cnf", "nonce", "sid", "at_hash"),
    *("events", "s_hash", "code", "roles", "uid", "unknown"),
)
TRIED: list[Claims] = [
    *({name: value} for name in CLAIMS for value in VALUES),
    *({name: value} for name in ("exp", "iat", "nbf", "sub") for value in TIMES),
]
# What tokens have besides: those of a user, of a client, and of nobody.
KINDS: list[Claims] = [
    {"sub": "a-1", "username": "alice", "client_id": "web", "scope": "openid"},
    {"client_id": "web"},
    {},
]


# Access tokens of real providers, and what else a provider signs.
ACCESS: dict[str, Claims] = {
    "RFC 9068": {"client_id": "s6BhdRkqt3", "scope": "openid profile", "auth_time": NOW},
    "Keycloak": {
        "typ": "Bearer",
        "azp": "web",
        "sid": "7a2f4a52",
        "session_state": "7a2f4a52",
        "acr": "1",
        "scope": "openid email",
        "nonce": "n-0S6_WzA2Mj",
        "realm_access": {"roles": ["admin"]},
        "email_verified": False,
    },
    "Keycloak, a service account": {
        "typ": "Bearer",
        "azp": "job",
        "clientHost": "10.0.0.1",
        "client_id": "job",
        "scope": "",
    },
    "Keycloak, without a session's scope": {"typ": "Bearer", "azp": "web", "sid": "7a2f4a52"},
    "Entra ID, a user": {
        "ver": "2.0",
        "azp": "2d4d11a2",
        "azpacr": "0",
        "oid": "690222be",
        "tid": "f645ad92",
        "scp": "access_as_user",
        "sid": "3c1a",
        "uti": "x",
    },
    "Entra ID, an application": {"azp": "2d4d11a2", "idtyp": "app", "roles": ["Reader"]},
    "Entra ID, version 1": {"appid": "2d4d11a2", "appidacr": "1", "scp": "read"},
    "Okta": {"ver": 1, "cid": "0oa1", "uid": "00u1", "scp": ["openid"], "auth_time": NOW},
    "Auth0": {"azp": "my_client", "scope": "openid", "permissions": ["read"], "gty": "x"},
    "Zitadel": {"client_id": "2345@orders", "jti": "2346", "nbf": NOW},
    "authentik, without a nonce": {
        "azp": "web",
        "uid": "0dbe",
        "sid": "ab12",
        "acr": "goauthentik.io/providers/oauth2/default",
        "amr": ["pwd"],
        "auth_time": NOW,
    },
    "Hydra": {"client_id": "web", "scp": ["openid"], "ext": {}, "nbf": NOW},
    "Cognito": {"token_use": "access", "client_id": "1example", "scope": "openid"},
    "Clerk": {"azp": "https://app.example.com", "sid": "sess_1", "nbf": NOW},
    "oidc-provider": {"client_id": "web", "scope": "api:read", "jti": "abc"},
    "Canaille": {"client_id": "web", "scope": "openid", "jti": "abc"},
    "with claims of one's own": {"client_id": "web", "scope": "a", "state": "CA", "code": "x"},
    "with as little as possible": {},
}
EVENT = "http://schemas.openid.net/event/backchannel-logout"
OTHER: dict[str, Claims] = {
    "logout token": {"events": {EVENT: {}}, "sid": "08a5019c", "jti": "bWJq"},
    "logout token of a user": {"events": {EVENT: {}}, "client_id": "web", "scope": "openid"},
    "security event": {"events": {"urn:ietf:params:event:x": {}}, "txn": "8675309", "jti": "a"},
    "ID token with a nonce": {"nonce": "n-0S6_WzA2Mj", "auth_time": NOW, "azp": "web"},
    "ID token with at_hash": {"at_hash": "x", "azp": "web", "scope": "openid"},
    "ID token with c_hash": {"c_hash": "x", "azp": "web"},
    "ID token with s_hash": {"s_hash": "x", "azp": "web"},
    "ID token of CIBA": {"urn:openid:params:jwt:claim:rt_hash": "x", "azp": "web"},
    "ID token with a session": {"sid": "08a5019c", "auth_time": NOW},
    "ID token of Keycloak": {"typ": "ID", "azp": "web", "sid": "08a5019c"},
    "ID token of Cognito": {"token_use": "id"},
    "refresh token of Keycloak": {"typ": "Refresh", "azp": "web", "scope": "openid"},
    "offline token of Keycloak": {"typ": "Offline", "azp": "web", "scope": "openid"},
    "logout token of Keycloak": {"typ": "Logout", "sid": "08a5019c"},
    "JARM with a code": {"code": "PyyFaux2o7Q0YfXBU32jhw", "state": "S8NJ7uqk5fY4EjNvP_G_FtyJ"},
    "JARM with an error": {"error": "access_denied", "state": "S8NJ7uqk5fY4EjNvP_G_FtyJ"},
    "JARM with a token": {"access_token": "2Yotn", "token_type": "bearer", "scope": "openid"},
    "JARM with an ID token": {"id_token": "a.b.c", "state": "S8NJ7uqk5fY4EjNvP_G_FtyJ"},
    "introspection response": {"token_introspection": {"active": True}, "client_id": "web"},
}
TYPES = (
    *("logout+jwt", "secevent+jwt", "id_token+jwt", "token-introspection+jwt", "dpop+jwt"),
    *("oauth-authz-req+jwt", "statement+jwt", "txntoken+jwt", "rt+jwt", "entity-statement+jwt"),
    *("vc+jwt", "dc+sd-jwt", "kb+jwt", "wallet-attestation+jwt", "JOSE", "access_to\u212aen"),
)


def with_usual(provider: RunningProvider, *changes: Claims) -> Claims:
    """Return the claims of a token for this service with changes, of which None removes a claim."""
    claims: Claims = {"iss": provider.issuer, "aud": "app", "exp": NOW + 3600}
    for some in changes:
        claims |= some
    return {name: value for name, value in claims.items() if value is not None}


async def verdicts(
    settings: Settings, open_service: Open, tokens: Sequence[str]
) -> list[list[tuple[int, object]]]:
    """Return what the service answers to each token, in each mode."""
    answers: list[list[tuple[int, object]]] = [[] for _ in tokens]
    for mode in MODES:
        async with (
            open_service(settings.model_copy(update={"sso_mode": mode})) as app,
            httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://t") as caller,
        ):
            for said, token in zip(answers, tokens, strict=True):
                response = await get(caller, token, "/who")
                body = response.json()
                said.append((response.status_code, body.get("detail") or body))
    return answers


@pytest.mark.parametrize(
    ("kind", "header_typ", "changes"),
    [
        (KINDS[0], "JWT", {}),
        (KINDS[1], "JWT", {"sso_subject_claim": "uid"}),
        (KINDS[2], None, {}),
        (KINDS[2], "at+jwt", {"sso_jwt_type": "at+jwt"}),
    ],
    ids=["a user", "a client", "nobody", "a strict type"],
)
async def test_every_claim_is_read_and_judged_alike_in_all_modes(
    settings: Settings,
    open_service: Open,
    provider: RunningProvider,
    kind: Claims,
    header_typ: str | None,
    changes: dict[str, object],
) -> None:
    # See the test below.
    tried = [claims for claims in TRIED if claims not in ({"iss": None}, {"exp": None})]
    tokens = [provider.issue(with_usual(provider, kind, claims), header_typ) for claims in tried]

    answers = await verdicts(settings.model_copy(update=changes), open_service, tokens)

    for claims, answer in zip(tried, answers, strict=True):
        assert len({str(it) for it in answer}) == 1, (claims, answer)
    # It would also be alike if everything were refused.
    assert {status for answer in answers for status, _ in answer} == {200, 401}


@pytest.mark.parametrize("claim", ["iss", "exp"])
async def test_only_what_a_signature_does_not_say_may_be_missing_in_a_response(
    settings: Settings, open_service: Open, provider: RunningProvider, claim: str
) -> None:
    """The issuer has answered itself, and now: several may share a key, and it does not end."""
    token = provider.mint(format="jwt", **{claim: None})
    [answers] = await verdicts(settings, open_service, [token])
    assert [status for status, _ in answers] == [200, 401, 401]


async def test_milliseconds_are_read_as_what_they_mean(
    settings: Settings, serve: Serve, provider: RunningProvider
) -> None:
    now = int(time.time()) * 1000
    good = provider.mint(format="jwt", exp=now + 60_000, iat=now, nbf=now)
    late = provider.mint(format="jwt", exp=now - 60_000)
    early = provider.mint(format="jwt", nbf=now + 60_000)
    for mode in MODES:
        async with serve(settings.model_copy(update={"sso_mode": mode})) as caller:
            assert (await get(caller, good)).status_code == 200
            assert (await get(caller, late)).json()["detail"] == "The token is expired."
            assert (await get(caller, early)).json()["detail"] == "The token is not valid yet."


async def test_a_client_that_acts_for_itself_needs_no_subject(
    settings: Settings, serve: Serve, provider: RunningProvider
) -> None:
    token = provider.mint(format="jwt", sub=None, username=None, scope="report:write")
    for mode in MODES:
        async with serve(settings.model_copy(update={"sso_mode": mode})) as caller:
            assert (await get(caller, token, "/writers")).status_code == 200
            assert (await get(caller, token, "/who")).json() == {"subject": None, "roles": []}


class TestTheKindOfAToken:
    """Access tokens of real providers pass; whatever else a provider signs does not."""

    @staticmethod
    def mint(provider: RunningProvider, claims: Claims, typ: str | None = "JWT") -> str:
        """Issue a token of exactly these claims, beside those that every JWT has."""
        return provider.issue(with_usual(provider, {"sub": "a-1", "iat": NOW}, claims), typ)

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("name", ACCESS)
    async def test_an_access_token_of_a_real_provider_is_accepted(
        self, settings: Settings, serve: Serve, provider: RunningProvider, name: str, mode: str
    ) -> None:
        async with serve(settings.model_copy(update={"sso_mode": mode})) as caller:
            token = self.mint(provider, ACCESS[name])
            assert (await get(caller, token)).status_code == 200

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("without", ["", "sub", "iat"])
    @pytest.mark.parametrize("name", OTHER)
    async def test_another_token_is_refused_by_its_own_claims(
        self,
        settings: Settings,
        serve: Serve,
        provider: RunningProvider,
        name: str,
        without: str,
        mode: str,
    ) -> None:
        claims = OTHER[name] | ({without: None} if without else {})
        async with serve(settings.model_copy(update={"sso_mode": mode})) as caller:
            assert_refused(await get(caller, self.mint(provider, claims)))

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("jwt_type", ["any", "at+jwt"])
    async def test_another_type_is_refused_whatever_its_claims(
        self, settings: Settings, serve: Serve, provider: RunningProvider, mode: str, jwt_type: str
    ) -> None:
        chosen = settings.model_copy(update={"sso_mode": mode, "sso_jwt_type": jwt_type})
        async with serve(chosen) as caller:
            for typ in TYPES:
                claims: Claims = {"scope": "openid", "client_id": "web"}
                response = await get(caller, self.mint(provider, claims, typ))
                assert response.status_code == 401, typ

    @pytest.mark.parametrize("mode", ["jwt", "both"])
    @pytest.mark.parametrize("name", [*ACCESS, *OTHER])
    async def test_the_strict_type_accepts_what_says_it_and_nothing_else(
        self, settings: Settings, serve: Serve, provider: RunningProvider, name: str, mode: str
    ) -> None:
        chosen = settings.model_copy(update={"sso_mode": mode, "sso_jwt_type": "at+jwt"})
        claims = (ACCESS | OTHER)[name]
        async with serve(chosen) as caller:
            for typ in ("JWT", "jwt", None):
                assert_refused(await get(caller, self.mint(provider, claims, typ)))
            if name in ACCESS:
                token = self.mint(provider, claims, "at+jwt")
                assert (await get(caller, token)).status_code == 200


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("chosen", [None, "any", "at+jwt"])
async def test_the_start_says_that_any_type_is_taken_unless_somebody_has_chosen_it(
    settings: Settings, open_service: Open, log: Log, mode: str, chosen: str | None
) -> None:
    names = {*Settings.model_fields} - {"sso_jwt_type"}
    values = settings.model_dump(include=names) | {"sso_mode": mode, "environment": "development"}
    # As if it came from the environment, or not at all.
    given = settings.model_construct(
        {*values} | ({"sso_jwt_type"} if chosen else set()),
        **values | {"sso_jwt_type": chosen or "any"},
    )
    async with open_service(given):
        pass
    warned = [text for level, text in log.lines() if level == "WARNING"]
    assert len(warned) == (chosen is None and mode != "introspect")
    assert all("SSO_JWT_TYPE=at+jwt" in text for text in warned)
