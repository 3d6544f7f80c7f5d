"""Verifying a JWT by its signature (RFC 9068, RFC 8725), alone and before introspection."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from pydantic import JsonValue

from app.settings import Settings
from app.utils.sso.resource_server.introspector import Timeouts
from template_tools.processes import free_port
from tests.service.provider import ALGORITHMS, Endpoint, Faults, RunningProvider
from tests.service.sso.assertions import (
    Log,
    assert_problem,
    assert_refused,
    assert_unavailable,
    get,
)
from tests.service.sso.conftest import Clock, Hanging, Network, Serve

type Key = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed448.Ed448PrivateKey
    | ed25519.Ed25519PrivateKey
)
type Jwk = dict[str, JsonValue]

_JWS = jwt.PyJWS()
_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_SHORT_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505
_KEYS: dict[str, Key] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), _RSA),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed448.Ed448PrivateKey.generate(),
}
_ED25519 = ed25519.Ed25519PrivateKey.generate()
_JWKS: frozenset[Endpoint] = frozenset({"jwks"})


@pytest.fixture
def local(settings: Settings) -> Settings:
    return settings.model_copy(update={"sso_mode": "jwt"})


@pytest.fixture
async def caller(local: Settings, serve: Serve) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the service that checks signatures."""
    async with serve(local) as caller:
        yield caller


def claims(provider: RunningProvider, **changes: JsonValue) -> Jwk:
    """Return the claims of a valid token with changes, of which None removes a claim."""
    now = int(time.time())
    usual: Jwk = {"iss": provider.issuer, "sub": "a-1", "aud": "app", "iat": now, "exp": now + 600}
    return {name: value for name, value in (usual | changes).items() if value is not None}


def encoded(part: bytes) -> str:
    """Encode a part of a JWT: base64url without padding."""
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def public_jwk(key: Key, **members: JsonValue) -> Jwk:
    """Return the public key as a JWK (RFC 7517)."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        jwk: Jwk = RSAAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        jwk = ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        jwk = OKPAlgorithm.to_jwk(public, as_dict=True)
    jwk.pop("key_ops", None)
    return jwk | members


def publish(provider: RunningProvider, *keys: Jwk, missing: frozenset[str] = frozenset()) -> None:
    """Publish keys before the provider's own, from which the members ``missing`` are removed."""
    provider.faults = Faults(endpoints=_JWKS, extra_keys=[*keys], without_key_members=missing)


class TestTheSignature:
    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    async def test_a_token_that_the_provider_has_signed_is_accepted_with_its_claims(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, algorithm: str
    ) -> None:
        token = provider.mint(format="jwt", algorithm=algorithm, username="alice", sub="a-1")
        response = await get(caller, token)
        assert response.status_code == 200
        assert response.json() == {"sub": "a-1", "username": "alice"}
        assert provider.introspection_calls == 0

    @pytest.mark.parametrize("algorithm", _KEYS)
    async def test_every_algorithm_with_two_keys_is_accepted(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, algorithm: str
    ) -> None:
        key = _KEYS[algorithm]
        publish(provider, public_jwk(key, kid="its-key", alg=algorithm))
        payload = json.dumps(claims(provider)).encode()
        token = _JWS.encode(payload, key, algorithm, {"kid": "its-key"})
        assert (await get(caller, token)).status_code == 200

    async def test_the_public_key_is_no_shared_secret(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, log: Log
    ) -> None:
        assert_refused(await get(caller, provider.sign(claims(provider), algorithm="HS256")))
        assert log.levels() == ["INFO"]
        assert provider.jwks_calls == 0

    async def test_a_published_shared_secret_signs_nothing(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        secret = b"a-secret-that-is-long-enough-for-it"
        publish(provider, {"kty": "oct", "k": encoded(secret), "kid": "oct"})
        payload = json.dumps(claims(provider)).encode()
        assert_refused(await get(caller, _JWS.encode(payload, secret, "HS256", {"kid": "oct"})))

    @pytest.mark.parametrize("spelling", ["none", "None", "NONE", "", "nOnE"])
    async def test_no_signature_is_none(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, spelling: str
    ) -> None:
        token = provider.sign(claims(provider), algorithm="none", alg=spelling)
        assert_refused(await get(caller, token))
        assert_refused(await get(caller, token + "AAAA"))

    @pytest.mark.parametrize("algorithm", ["rs256", "RS1", "ES256K", "RSA-OAEP", "dir", 256, None])
    async def test_another_algorithm_is_refused(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, algorithm: JsonValue
    ) -> None:
        assert_refused(await get(caller, provider.sign(claims(provider), alg=algorithm)))

    @pytest.mark.parametrize("algorithm", ["RS384", "PS256", "PS512", "ES256", "EdDSA"])
    async def test_the_key_of_one_algorithm_serves_no_other(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, algorithm: str
    ) -> None:
        assert_refused(await get(caller, provider.sign(claims(provider), alg=algorithm)))

    @pytest.mark.parametrize("algorithm", ["PS256", "RS384", "RS512"])
    async def test_a_key_says_for_which_algorithm_it_is(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, algorithm: str
    ) -> None:
        """RFC 7517 §4.4: it counts even if the owner of the key used another one."""
        publish(provider, public_jwk(_RSA, kid="its-key", alg="RS256"))
        payload = json.dumps(claims(provider)).encode()
        token = _JWS.encode(payload, _RSA, algorithm, {"kid": "its-key"})
        assert_refused(await get(caller, token))

    async def test_the_identifier_of_another_key_does_not_help(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        publish(provider, public_jwk(_RSA, kid="its-key"))
        assert_refused(await get(caller, provider.sign(claims(provider), kid="its-key")))

    async def test_an_unpublished_key_with_a_published_identifier_does_not_help(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        header = jwt.get_unverified_header(provider.sign(claims(provider)))
        forged = _JWS.encode(json.dumps(claims(provider)).encode(), _RSA, "RS256", header)
        assert_refused(await get(caller, forged))

    async def test_a_token_without_an_identifier_is_tried_with_each_key(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        token = provider.sign(claims(provider), kid=None)
        assert (await get(caller, token)).status_code == 200

    @pytest.mark.parametrize("others", [10, 15])
    async def test_there_may_be_many_keys_without_an_identifier(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, others: int
    ) -> None:
        publish(provider, *[public_jwk(_RSA)] * others, missing=frozenset({"kid"}))
        for kid in (None, "signed-with"):
            token = provider.sign(claims(provider), kid=kid)
            assert (await get(caller, token)).status_code == 200

    async def test_more_keys_than_can_be_tried_are_our_fault_and_not_the_tokens(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, log: Log
    ) -> None:
        """Each key costs a verification, and anybody can send a token without an identifier."""
        publish(provider, *(public_jwk(_RSA, kid=f"key-{number}") for number in range(16)))
        answer = await get(caller, provider.sign(claims(provider), kid=None))
        assert_unavailable(answer, "sso-misconfigured")
        assert log.lines() == [
            (
                "ERROR",
                "17 of the provider's keys fit a token: their kid, or the token's, is missing",
            )
        ]
        assert (await get(caller, provider.sign(claims(provider)))).status_code == 200

    @pytest.mark.parametrize(
        ("curve", "members", "accepted"),
        [
            ("Ed25519", {}, {"EdDSA", "Ed25519"}),
            ("Ed25519", {"alg": "Ed25519"}, {"Ed25519"}),
            ("Ed25519", {"alg": "EdDSA"}, {"EdDSA"}),
            ("Ed448", {}, {"EdDSA"}),
        ],
        ids=str,
    )
    async def test_eddsa_leaves_the_curve_open_and_ed25519_does_not(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        curve: str,
        members: Jwk,
        accepted: set[str],
    ) -> None:
        """RFC 9864 §2.2."""
        key = _ED25519 if curve == "Ed25519" else _KEYS["EdDSA"]
        publish(provider, public_jwk(key, kid="its-key") | members)
        jws = jwt.PyJWS()
        jws.register_algorithm("Ed25519", OKPAlgorithm())
        payload = json.dumps(claims(provider)).encode()
        for algorithm in ("EdDSA", "Ed25519"):
            token = jws.encode(payload, key, algorithm, {"kid": "its-key"})
            answer = await get(caller, token)
            assert answer.status_code == (200 if algorithm in accepted else 401)

    @pytest.mark.parametrize("kid", ["unknown", "", "../rs256", 7, ["a"]], ids=str)
    async def test_an_unknown_identifier_is_refused(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, kid: JsonValue
    ) -> None:
        assert_refused(await get(caller, provider.sign(claims(provider), kid=kid)))

    @pytest.mark.parametrize(
        ("crit", "b64"),
        [
            (["exp"], None),
            ([], None),
            ("exp", None),
            (["urn:example:unknown"], None),
            (["b64"], False),
            (None, False),
        ],
    )
    async def test_a_header_that_must_be_understood_and_is_not_is_refused(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        crit: JsonValue,
        b64: bool | None,
    ) -> None:
        """RFC 7515 §4.1.11, RFC 7797."""
        assert_refused(await get(caller, provider.sign(claims(provider), crit=crit, b64=b64)))

    async def test_a_key_in_the_token_itself_is_nobodys(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        payload = json.dumps(claims(provider)).encode()
        jwk = public_jwk(_RSA, kid="mine")
        for header in (
            {"jwk": jwk},
            {"jwk": jwk, "kid": "mine"},
            {"jku": f"{provider.issuer}/mine", "kid": "mine"},
        ):
            assert_refused(await get(caller, _JWS.encode(payload, _RSA, "RS256", header)))

    async def test_what_is_changed_after_signing_is_refused(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        header, _, signature = provider.sign(claims(provider)).split(".")
        other = encoded(json.dumps(claims(provider, sub="root")).encode())
        for token in (
            f"{header}.{other}.{signature}",
            f"{encoded(b'{}')}.{other}.{signature}",
            f"{header}.{other}.",
            f"{header}.{other}.{encoded(b'0' * 256)}",
        ):
            assert_refused(await get(caller, token))

    @pytest.mark.parametrize(
        "token",
        [
            "opaque-token",
            ".",
            "..",
            "...",
            "a.b",
            "a.b.c",
            f"{encoded(b'[]')}.{encoded(b'{}')}.AAAA",
            f"{encoded(b'null')}.{encoded(b'{}')}.AAAA",
            f"{encoded(b'[' * 5000)}.{encoded(b'{}')}.AAAA",
            f"{encoded(b'{"alg": "RS256"')}.{encoded(b'{}')}.AAAA",
            f"{encoded(b'{"alg": "dir", "enc": "A256GCM"}')}..AAAA.AAAA.AAAA",
            f"{encoded(b'{"alg": "RS256", "cty": "JWT"}')}.AAAA.AAAA.AAAA.AAAA",
        ],
        ids=range(12),
    )
    async def test_what_is_no_signed_jwt_is_refused(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, token: str
    ) -> None:
        assert_refused(await get(caller, token))
        assert provider.introspection_calls == 0

    async def test_a_jwt_within_a_jwt_is_refused(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        inner = provider.sign(claims(provider)).encode()
        header = b'{"alg": "RS256", "cty": "JWT", "kid": "a"}'
        assert_refused(await get(caller, f"{encoded(header)}.{encoded(inner)}.AAAA"))


class TestTheClaims:
    @pytest.mark.parametrize(
        "changes",
        [
            {"iss": None},
            {"iss": "https://other.example.com"},
            {"iss": ["a"]},
            {"sub": ["a"]},
            {"aud": None},
            {"aud": "another"},
            {"aud": ["another"]},
            {"aud": []},
            {"aud": {"app": True}},
            {"exp": None},
            {"exp": 1},
            {"exp": "32503680000"},
            {"exp": True},
            {"exp": 1e20},
            {"exp": 10**400},
            {"exp": -1},
            {"exp": [32_503_680_000]},
            {"iat": "0"},
            {"iat": False},
            {"iat": 32_503_680_000},
            {"nbf": 32_503_680_000},
            {"nbf": "0"},
            {"scope": 7},
            {"cnf": {"jkt": "thumbprint"}},
            {"token_use": "id"},
            {"typ": "Refresh"},
            {"nonce": "n-0S6_WzA2Mj"},
            {"at_hash": "MTIzNDU2Nzg5MDEyMzQ1Ng"},
            {"c_hash": "MTIzNDU2Nzg5MDEyMzQ1Ng"},
            {"sub": "a\x00b"},
            {"sub": "\ud800"},
        ],
        ids=lambda changes: str(changes).encode("ascii", "backslashreplace").decode()[:40],
    )
    async def test_a_token_that_is_signed_and_not_meant_for_this_is_refused(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, changes: Jwk
    ) -> None:
        assert_refused(await get(caller, provider.sign(claims(provider, **changes))))

    @pytest.mark.parametrize(
        "changes",
        [
            {"aud": ["another", "app"]},
            {"exp": 32_503_680_000},
            {"exp": 32_503_680_000.5},
            {"iat": 0},
            {"iat": None},
            {"sub": None},
            {"sub": 7},
            {"active": False},
            {"scope": ["a", "b"]},
            {"client_id": None, "jti": None},
        ],
        ids=str,
    )
    async def test_what_providers_write_otherwise_is_accepted(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, changes: Jwk
    ) -> None:
        token = provider.sign(claims(provider, **changes))
        assert (await get(caller, token)).status_code == 200

    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            b"null",
            b"[]",
            b'"text"',
            b"{",
            b"\xff",
            b'{"exp": NaN}',
            b'{"exp": Infinity}',
            b'{"exp": 1e400}',
            b'{"aud": "another", "aud": "app"}',
            b"[" * 5000,
        ],
        ids=range(11),
    )
    async def test_what_parsers_disagree_about_is_refused(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, payload: bytes
    ) -> None:
        if payload.startswith(b'{"'):
            rest = json.dumps(claims(provider)).encode().removeprefix(b"{")
            payload = payload.removesuffix(b"}") + b", " + rest
        publish(provider, public_jwk(_RSA, kid="its-key"))
        token = _JWS.encode(payload, _RSA, "RS256", {"kid": "its-key"})
        assert_refused(await get(caller, token))

    @pytest.mark.parametrize(("seconds", "status"), [(20, 200), (40, 401)])
    async def test_clocks_may_differ_by_half_a_minute(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        clock: Clock,
        seconds: int,
        status: int,
    ) -> None:
        issued = int(clock.time()) + seconds
        assert (
            await get(caller, provider.sign(claims(provider, iat=issued)))
        ).status_code == status

    async def test_a_refusal_is_logged(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, log: Log
    ) -> None:
        assert_refused(await get(caller, provider.sign(claims(provider, exp=None))))
        assert log.lines() == [("WARNING", "A signed token without exp was refused")]

    async def test_a_missing_scope_is_a_403(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        token = provider.sign(claims(provider, scope="report:read"))
        response = await get(caller, token, "/writers")
        assert_problem(response, 403, "insufficient-scope", "Insufficient scope")


class TestTheType:
    @pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt", "JWT", "jwt", None])
    async def test_any_type_of_an_access_token_is_accepted(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, typ: str | None
    ) -> None:
        assert (await get(caller, provider.sign(claims(provider), typ=typ))).status_code == 200

    @pytest.mark.parametrize("typ", ["logout+jwt", "dpop+jwt", "token-introspection+jwt", "id"])
    async def test_another_type_is_refused(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, typ: str
    ) -> None:
        assert_refused(await get(caller, provider.sign(claims(provider), typ=typ)))

    @pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt"])
    async def test_the_strict_setting_accepts_what_rfc_9068_names(
        self, local: Settings, serve: Serve, provider: RunningProvider, typ: str
    ) -> None:
        strict = local.model_copy(update={"sso_jwt_type": "at+jwt"})
        async with serve(strict) as caller:
            token = provider.sign(claims(provider), typ=typ)
            assert (await get(caller, token)).status_code == 200

    @pytest.mark.parametrize("typ", ["JWT", "", None])
    async def test_the_strict_setting_refuses_all_else(
        self, local: Settings, serve: Serve, provider: RunningProvider, typ: str | None
    ) -> None:
        strict = local.model_copy(update={"sso_jwt_type": "at+jwt"})
        async with serve(strict) as caller:
            assert_refused(await get(caller, provider.sign(claims(provider), typ=typ)))

    async def test_a_type_that_says_it_tells_more_than_a_nonce(
        self, local: Settings, serve: Serve, provider: RunningProvider
    ) -> None:
        strict = local.model_copy(update={"sso_jwt_type": "at+jwt"})
        async with serve(strict) as caller:
            token = provider.sign(claims(provider, nonce="n-0S6_WzA2Mj"), typ="at+jwt")
            assert (await get(caller, token)).status_code == 200

    @pytest.mark.parametrize("scope", [{"scope": "a"}, {"scp": ["a"]}, {"scp": "a"}], ids=str)
    async def test_so_does_a_scope(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, scope: Jwk
    ) -> None:
        """No ID token has one."""
        token = provider.sign(claims(provider, nonce="n-0S6_WzA2Mj", **scope))
        assert (await get(caller, token)).status_code == 200

    @pytest.mark.parametrize(
        ("names", "client"),
        [
            (["client_id", "azp", "appid", "cid"], "client_id"),
            (["azp", "appid", "cid"], "azp"),
            (["appid", "cid"], "appid"),
            (["cid"], "cid"),
        ],
    )
    async def test_the_client_is_found_by_each_of_its_names(
        self,
        local: Settings,
        serve: Serve,
        provider: RunningProvider,
        names: list[str],
        client: str,
    ) -> None:
        named: Jwk = {name: name for name in names}
        by_client = local.model_copy(update={"sso_subject_claim": "client_id"})
        async with serve(by_client) as caller:
            answer = await get(caller, provider.sign(claims(provider, **named)), "/who")
            assert answer.json()["subject"] == client


class TestTheKeys:
    async def test_they_are_fetched_once_for_many(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        tokens = [provider.mint(format="jwt") for _ in range(30)]
        responses = await asyncio.gather(*(get(caller, token) for token in tokens))
        assert {response.status_code for response in responses} == {200}
        assert provider.jwks_calls == 1

    async def test_they_are_renewed_after_ten_minutes(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, clock: Clock
    ) -> None:
        for ahead, calls in ((0, 1), (590, 1), (601, 2)):
            clock.ahead = ahead
            assert (await get(caller, provider.mint(format="jwt"))).status_code == 200
            assert provider.jwks_calls == calls

    @pytest.mark.parametrize("missing", [["alg"], ["use"], ["kid"], ["alg", "use", "kid"]], ids=str)
    async def test_what_a_provider_leaves_out_of_them_does_not_matter(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, missing: list[str]
    ) -> None:
        publish(provider, missing=frozenset(missing))
        # Without identifiers in the set, a token has none either.
        for algorithm in ALGORITHMS:
            if "kid" in missing:
                token = provider.sign(claims(provider), algorithm=algorithm, kid=None)
            else:
                token = provider.sign(claims(provider), algorithm=algorithm)
            assert (await get(caller, token)).status_code == 200

    @pytest.mark.parametrize("name", ["alg", "use", "kid"])
    @pytest.mark.parametrize("nothing", [None, ""])
    async def test_an_empty_member_is_as_good_as_none(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        name: str,
        nothing: str | None,
    ) -> None:
        provider.faults = Faults(endpoints=_JWKS, override_key_members={name: nothing})
        for algorithm in ALGORITHMS:
            token = provider.sign(claims(provider), algorithm=algorithm)
            assert (await get(caller, token)).status_code == 200

    @pytest.mark.parametrize(
        "odd",
        [
            {},
            {"kty": "RSA"},
            {"kty": "RSA", "n": 7, "e": "AQAB"},
            {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
            {"kty": "RSA", "n": "", "e": ""},
            {"kty": "RSA", "n": None, "e": None},
            {"kty": "RSA", "n": "!", "e": "AQAB"},
            {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"},
            {"kty": "EC", "crv": "P-256K", "x": "AAAA", "y": "AAAA"},
            {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"},
            {"kty": "OKP", "crv": ["Ed25519"], "x": {}},
            {"kty": "oct", "k": "AAAA"},
            {"kty": ["RSA"], "kid": {}, "alg": [], "use": 1},
            {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"},
            public_jwk(_SHORT_RSA),
            {"kty": "OKP", "crv": "X25519", "x": encoded(b"x" * 32)},
            public_jwk(_RSA, use="enc"),
            RSAAlgorithm.to_jwk(_RSA, as_dict=True),
        ],
        ids=range(18),
    )
    async def test_an_odd_key_among_them_does_not_matter(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, odd: Jwk
    ) -> None:
        publish(provider, odd)
        for algorithm in ALGORITHMS:
            token = provider.sign(claims(provider), algorithm=algorithm, kid=None)
            assert (await get(caller, token)).status_code == 200

    @pytest.mark.parametrize(
        ("key", "members"),
        [
            # A short key, one for encryption, and one whose private half everybody can read.
            (_SHORT_RSA, {}),
            (_RSA, {"use": "enc"}),
            (_RSA, {"d": "AQAB"}),
        ],
        ids=["short", "encryption", "private"],
    )
    async def test_a_key_that_proves_nothing_is_not_used(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        key: rsa.RSAPrivateKey,
        members: Jwk,
    ) -> None:
        publish(provider, public_jwk(key, kid="its-key", **members))
        algorithm = _JWS.get_algorithm_by_name("RS256")
        content = f"{encoded(b'{"alg": "RS256", "kid": "its-key"}')}." + encoded(
            json.dumps(claims(provider)).encode()
        )
        token = f"{content}.{encoded(algorithm.sign(content.encode(), key))}"
        assert_refused(await get(caller, token))

    async def test_a_whole_private_key_among_them_is_not_used(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        jwk = RSAAlgorithm.to_jwk(_RSA, as_dict=True)
        publish(provider, jwk | {"kid": "its-key"})
        payload = json.dumps(claims(provider)).encode()
        assert_refused(await get(caller, _JWS.encode(payload, _RSA, "RS256", {"kid": "its-key"})))

    @pytest.mark.parametrize(
        "faults",
        [
            {"status": 500},
            {"status": 404},
            {"body": "html"},
            {"body": "oversized"},
            {"body": "gzip_bomb"},
            {"cut_body": True},
            {"redirect_to": "http://127.0.0.1:1/elsewhere"},
            {"drop_claims": ["keys"]},
            {"override_claims": {"keys": {}}},
            {"override_claims": {"keys": None}},
            {"override_claims": {"keys": []}},
        ],
        ids=str,
    )
    async def test_without_them_every_token_is_a_503(
        self,
        caller: httpx2.AsyncClient,
        provider: RunningProvider,
        log: Log,
        faults: dict[str, object],
    ) -> None:
        provider.faults = Faults.model_validate({"endpoints": ["jwks"]} | faults)
        for _ in range(3):
            assert_unavailable(await get(caller, provider.mint(format="jwt")))
        assert log.levels() == ["ERROR"]

    async def test_a_provider_that_is_down_at_the_start_is_a_503_and_asked_again_soon(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, clock: Clock
    ) -> None:
        provider.faults = Faults(endpoints=_JWKS, status=500)
        for _ in range(10):
            assert_unavailable(await get(caller, provider.mint(format="jwt")))
        assert provider.jwks_calls == 1, "not at each request"

        provider.faults = Faults()
        clock.ahead += 6
        assert (await get(caller, provider.mint(format="jwt"))).status_code == 200

    async def test_a_provider_that_hangs_at_the_start_is_a_503_within_one_deadline(
        self, local: Settings, serve: Serve, provider: RunningProvider
    ) -> None:
        """There is one deadline for all documents and the keys together."""
        provider.faults = Faults(endpoints=frozenset({"discovery"}), latency=30)
        async with serve(local, timeouts=Timeouts(provider=0.2)) as caller:
            assert_unavailable(await get(caller, provider.mint(format="jwt")))
        assert provider.discovery_calls <= 1

    async def test_a_provider_that_cannot_be_reached_is_a_503(
        self, local: Settings, serve: Serve, provider: RunningProvider
    ) -> None:
        down = local.model_copy(update={"sso_issuer": f"http://127.0.0.1:{free_port()}"})
        async with serve(down) as caller:
            assert_unavailable(await get(caller, provider.mint(format="jwt")))

    async def test_another_issuer_than_that_of_the_documents_is_our_fault(
        self, local: Settings, serve: Serve, provider: RunningProvider
    ) -> None:
        wrong = local.model_copy(update={"sso_issuer": f"{provider.issuer}/"})
        async with serve(wrong) as caller:
            token = provider.mint(format="jwt")
            assert_unavailable(await get(caller, token), "sso-misconfigured")

    async def test_the_last_good_ones_serve_through_an_outage(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, clock: Clock
    ) -> None:
        assert (await get(caller, provider.mint(format="jwt"))).status_code == 200
        provider.faults = Faults(endpoints=_JWKS, status=500)
        for _ in range(5):
            clock.ahead += 601
            token = provider.mint(format="jwt", exp=int(clock.time()) + 60)
            assert (await get(caller, token)).status_code == 200

    async def test_a_set_that_is_empty_withdraws_them_and_blames_no_token(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, clock: Clock, log: Log
    ) -> None:
        """A 401 would log everybody out."""
        assert (await get(caller, provider.mint(format="jwt"))).status_code == 200
        provider.faults = Faults(endpoints=_JWKS, override_claims={"keys": []})
        clock.ahead += 601
        for _ in range(3):
            assert_unavailable(await get(caller, provider.mint(format="jwt")))
        [(level, text)] = log.lines()
        assert level == "ERROR"
        assert "an empty set" in text

        provider.faults = Faults()
        clock.ahead += 6
        assert (await get(caller, provider.mint(format="jwt"))).status_code == 200

    async def test_nobody_waits_for_a_provider_that_hangs_while_they_serve(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, network: Network, clock: Clock
    ) -> None:
        """Only the first request after the renewal is due may wait."""
        assert (await get(caller, provider.mint(format="jwt"))).status_code == 200
        provider.faults = Faults(endpoints=_JWKS, status=500)
        clock.ahead += 601
        assert (await get(caller, provider.mint(format="jwt"))).status_code == 200

        network.handler = hanging = Hanging(network, "/jwks")
        clock.ahead += 6
        async with asyncio.timeout(15):
            for _ in range(3):
                token = provider.mint(format="jwt", expires_in=7200)
                assert (await get(caller, token)).status_code == 200
            await hanging.asked.wait()

    async def test_a_new_one_is_fetched_for_its_first_token(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, clock: Clock
    ) -> None:
        old = provider.mint(format="jwt")
        assert (await get(caller, old)).status_code == 200
        provider.rotate_keys(keep_old=True)
        clock.ahead += 31

        assert (await get(caller, provider.mint(format="jwt"))).status_code == 200
        clock.ahead += 61
        assert (await get(caller, old)).status_code == 200
        assert provider.jwks_calls == 2

    async def test_a_withdrawn_one_is_not_accepted_after_ten_minutes(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, clock: Clock
    ) -> None:
        old = provider.mint(format="jwt")
        assert (await get(caller, old)).status_code == 200
        provider.rotate_keys()
        clock.ahead += 601
        assert_refused(await get(caller, old))

    @pytest.mark.parametrize("kid", [None, "the-same"])
    async def test_a_new_one_under_the_old_identifier_is_fetched_for_its_first_token(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, kid: str | None
    ) -> None:
        provider.faults = Faults(endpoints=_JWKS, override_key_members={"kid": kid})
        old = provider.sign(claims(provider), kid=kid)
        assert (await get(caller, old)).status_code == 200
        provider.rotate_keys()

        assert (await get(caller, provider.sign(claims(provider), kid=kid))).status_code == 200
        assert provider.jwks_calls == 2
        again = provider.sign(claims(provider) | {"jti": "another"}, kid=kid)
        assert (await get(caller, again)).status_code == 200
        assert provider.jwks_calls == 2

    async def test_the_withdrawn_one_is_not_accepted_from_then_on(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, clock: Clock
    ) -> None:
        provider.faults = Faults(endpoints=_JWKS, override_key_members={"kid": "the-same"})
        old = provider.sign(claims(provider), kid="the-same")
        assert (await get(caller, old)).status_code == 200
        provider.rotate_keys()
        new = provider.sign(claims(provider), kid="the-same")
        assert (await get(caller, new)).status_code == 200
        clock.ahead += 61
        assert_refused(await get(caller, old))

    @pytest.mark.parametrize("forged", ["unknown identifier", "bad signature"])
    async def test_forged_tokens_have_them_fetched_no_more_than_every_three_seconds(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, clock: Clock, forged: str
    ) -> None:
        def forge() -> str:
            if forged == "unknown identifier":
                return provider.sign(claims(provider), kid="invented")
            content, _, signature = provider.sign(claims(provider)).rpartition(".")
            return f"{content}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"

        assert (await get(caller, provider.mint(format="jwt"))).status_code == 200
        for _ in range(10):
            assert_refused(await get(caller, forge()))
        assert provider.jwks_calls == 11

        for _ in range(100):
            assert_unavailable(await get(caller, forge()))
        assert provider.jwks_calls == 11
        for seconds in (3, 6, 9):
            clock.ahead = seconds
            assert_refused(await get(caller, forge()))
            assert_unavailable(await get(caller, forge()))
        assert provider.jwks_calls == 14

    async def test_a_good_token_of_a_new_one_is_never_blamed_for_forged_ones(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, clock: Clock
    ) -> None:
        """A 401 would log its user out; the 503 says when to try again."""
        assert (await get(caller, provider.mint(format="jwt"))).status_code == 200
        for _ in range(12):
            await get(caller, provider.sign(claims(provider), kid="invented"))
        provider.rotate_keys()
        good = provider.mint(format="jwt")

        answer = await get(caller, good)
        assert_unavailable(answer)
        clock.ahead += int(answer.headers["retry-after"])
        assert (await get(caller, good)).status_code == 200

    async def test_many_forged_tokens_at_once_share_a_fetch(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        assert (await get(caller, provider.mint(format="jwt"))).status_code == 200
        provider.faults = Faults(endpoints=_JWKS, latency=0.2)
        tokens = [provider.sign(claims(provider), kid=f"invented-{i}") for i in range(50)]
        for answer in await asyncio.gather(*(get(caller, token) for token in tokens)):
            assert_refused(answer)
        assert provider.jwks_calls == 2

    @pytest.mark.parametrize(
        "changes", [{"iss": "https://another.example"}, {"iss": None}, {"exp": 1}], ids=str
    )
    async def test_a_forged_token_that_would_be_refused_anyway_has_them_not_fetched(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, changes: Jwk
    ) -> None:
        assert (await get(caller, provider.mint(format="jwt"))).status_code == 200
        for _ in range(20):
            token = provider.sign(claims(provider, **changes), kid="invented")
            assert_refused(await get(caller, token))
        assert provider.jwks_calls == 1

    async def test_an_unknown_one_is_a_503_while_they_cannot_be_fetched(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, clock: Clock
    ) -> None:
        """The key may be new, and a 401 would log its user out."""
        assert (await get(caller, provider.mint(format="jwt"))).status_code == 200
        provider.faults = Faults(endpoints=_JWKS, status=500)
        provider.rotate_keys()
        clock.ahead += 31
        assert_unavailable(await get(caller, provider.mint(format="jwt")))


class TestBoth:
    """The signature is verified first, and then the provider is asked, for revoked tokens."""

    @pytest.fixture
    def local(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"sso_mode": "both"})

    async def test_a_good_token_is_accepted(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        assert (await get(caller, provider.mint(format="jwt"))).status_code == 200
        assert provider.introspection_calls == 1

    async def test_the_nonce_of_a_login_is_no_reason_to_refuse_where_the_response_has_a_scope(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        """authentik repeats it in access tokens, and says their scope only in the response."""
        token = provider.mint(format="jwt", nonce="n-0S6_WzA2Mj", scope=None)
        assert "scope" not in jwt.decode(token, options={"verify_signature": False})
        provider.faults = Faults(override_claims={"scope": "openid"})
        assert (await get(caller, token)).status_code == 200
        provider.faults = Faults()
        assert_refused(await get(caller, provider.mint(format="jwt", nonce="n", scope=None)))

    async def test_a_revoked_token_is_refused(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        token = provider.mint(format="jwt")
        provider.revoke(token)
        assert_refused(await get(caller, token))

    @pytest.mark.parametrize("member", ["aud", "iss", "sub", "exp", "scope", "token_type"])
    async def test_what_the_response_does_not_say_is_taken_from_the_token(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, member: str
    ) -> None:
        provider.faults = Faults(drop_claims=frozenset({member}))
        token = provider.mint(format="jwt", sub="a-1", scope="report:write")
        response = await get(caller, token)
        assert response.status_code == 200
        assert response.json()["sub"] == "a-1"
        assert (await get(caller, token, "/writers")).status_code == 200

    @pytest.mark.parametrize(
        "claims",
        [{"aud": "another"}, {"iss": "https://other.example.com"}, {"typ": "Refresh"}, {"exp": 1}],
        ids=str,
    )
    async def test_what_the_response_says_counts(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, claims: dict[str, object]
    ) -> None:
        provider.faults = Faults.model_validate({"override_claims": claims})
        assert_refused(await get(caller, provider.mint(format="jwt")))

    @pytest.mark.parametrize(
        "changes",
        [
            {"exp": 1},
            {"aud": "another"},
            {"iss": "https://other.example.com"},
            {"nbf": 32_503_680_000},
            {"cnf": {"jkt": "thumbprint"}},
        ],
        ids=str,
    )
    async def test_it_excuses_nothing_that_is_signed(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, changes: Jwk
    ) -> None:
        """Providers that share their keys among tenants sign for other issuers too."""
        provider.faults = Faults(always_active=True)
        assert_refused(await get(caller, provider.sign(claims(provider, **changes))))
        assert provider.introspection_calls == 0

    async def test_the_earlier_end_counts(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, clock: Clock
    ) -> None:
        provider.faults = Faults(override_claims={"exp": 32_503_680_000})
        token = provider.mint(format="jwt", expires_in=20)
        for ahead, calls in ((0, 1), (18, 1), (21, 2)):
            clock.ahead = ahead
            assert (await get(caller, token)).status_code == 200
            assert provider.introspection_calls == calls
        clock.ahead = 51
        assert_refused(await get(caller, token))

    async def test_an_opaque_token_is_refused_without_a_call(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        assert_refused(await get(caller, provider.mint()))
        assert provider.introspection_calls == 0

    async def test_a_forged_token_is_refused_without_a_call(
        self, caller: httpx2.AsyncClient, provider: RunningProvider
    ) -> None:
        for token in (
            provider.sign(claims(provider), algorithm="none"),
            provider.sign(claims(provider), algorithm="HS256"),
            provider.sign(claims(provider), kid="unknown"),
        ):
            assert_refused(await get(caller, token))
        assert provider.introspection_calls == 0

    @pytest.mark.parametrize("endpoint", ["introspection", "jwks"])
    async def test_it_is_a_503_without_either(
        self, caller: httpx2.AsyncClient, provider: RunningProvider, endpoint: str
    ) -> None:
        provider.faults = Faults.model_validate({"endpoints": [endpoint], "status": 500})
        assert_unavailable(await get(caller, provider.mint(format="jwt")))
