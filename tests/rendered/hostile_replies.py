"""Whatever a provider sends, the answer is one of the documented ones, and never too good.

It is run by a rendered project's Python, in the project's folder, with hypothesis on PYTHONPATH:
``python hostile_replies.py EXAMPLES``. Only the wire is invented; all the rest is the service's
own code. It prints how often each status came out.
"""

import asyncio
import base64
import itertools
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

# The application reads its settings when it is imported.
os.environ |= {
    "ENVIRONMENT": "test",
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/unset",
    "SSO_ISSUER": "https://sso.example.com",
    "SSO_AUDIENCE": "app",
    "SSO_MODE": "introspect",
    "SSO_JWT_TYPE": "any",
    "CLIENT_ID": "app",
    "CLIENT_SECRET": "unset-secret",
}

import httpx2
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm

from app.core.errors import Problem
from app.settings import Settings
from app.utils.sso.resource_server.introspector import Introspector
from app.utils.sso.resource_server.provider_client import create_client
from app.utils.sso.resource_server.provider_errors import ProviderError

EXAMPLES = int(sys.argv[1])
ISSUER = "https://sso.example.com"
INTROSPECTION = f"{ISSUER}/introspect"
LEEWAY = 30
# What only other tokens have.
FOREIGN = ["at_hash", "c_hash", "s_hash", "events", "access_token", "id_token"]
DOCUMENTED = {200, 400, 401, 403, 503}
_numbers = itertools.count()
_runner = asyncio.Runner()

_KEY = ec.generate_private_key(ec.SECP256R1())
_PUBLIC_KEY = {**ECAlgorithm.to_jwk(_KEY.public_key(), as_dict=True), "kid": "k", "use": "sig"}
_PUBLIC_KEY.pop("key_ops", None)


@dataclass
class Reply:
    """What the provider sends, or how the connection fails."""

    status: int = 200
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    failure: type[httpx2.TransportError] | None = None
    fails_before: bool = True

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)


class Stream(httpx2.AsyncByteStream):
    """The body of a reply, which may break off."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._reply.chunks:
            yield chunk
        if self._reply.failure is not None:
            raise self._reply.failure("broken off")


class Wire(httpx2.AsyncBaseTransport):
    """The network, with one provider at its end."""

    answer: Callable[[httpx2.Request], Reply]

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        reply = self.answer(request)
        if reply.failure is not None and reply.fails_before:
            raise reply.failure("no reply")
        return httpx2.Response(reply.status, headers=reply.headers, stream=Stream(reply))


_wire = Wire()
_usual = Settings()
_client = create_client(_usual, _wire)
_configured = {"sso_introspection_url": INTROSPECTION, "sso_jwks_url": f"{ISSUER}/jwks"}


class Log(logging.Handler):
    """Everything that is logged; a token or a secret in it is a bug."""

    token = "\n"

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        assert self.token not in text
        assert "unset-secret" not in text


_log = Log()
logging.getLogger().addHandler(_log)
logging.getLogger("app").setLevel(logging.DEBUG)


async def _status(introspector: Introspector, token: str, scopes: list[str]) -> int:
    """Return the status of the answer; an exception is a bug."""
    try:
        data = await introspector.token_data(token, scopes)
    except Problem as problem:
        return problem.response().status_code
    except ProviderError:
        return 503
    finally:
        await introspector.close()
    # A route reads all of these, and none of them may raise.
    assert isinstance(data.scopes | data.roles | data.audiences, frozenset)
    assert data.subject is None or isinstance(data.subject, str)
    data.claim("realm_access.roles")
    return 200


def status_of(token: str, scopes: list[str], **changes: object) -> int:
    """Return the status that a service, which knows nothing yet, answers a request with."""
    _log.token = token if len(token) > 4 else "\n"
    introspector = Introspector(_client, _usual.model_copy(update=changes))
    status = _runner.run(_status(introspector, token, scopes))
    assert status in DOCUMENTED, status
    return status


def signed(claims: object) -> str:
    """Return a JWT of the provider."""
    return jwt.PyJWS().encode(json.dumps(claims).encode(), _KEY, "ES256", {"kid": "k"})


# --- An independent judgement ---------------------------------------------------------------------


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)


def _fail(text: str) -> object:
    raise ValueError(text)


def document_of(reply: Reply) -> dict[str, object] | None:
    """Return the JSON object in a reply that may be believed."""
    encoding = httpx2.Headers(reply.headers).get("content-encoding", "identity")
    if reply.status != 200 or encoding != "identity" or len(reply.body) > 65536 or reply.failure:
        return None
    try:
        text = reply.body.decode("utf-8").removeprefix("\ufeff")
        document = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_fail)
    except (ValueError, AssertionError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def seconds(value: float) -> float:
    """Return a time in seconds; what is beyond the year 9999 was meant in milliseconds."""
    return value / 1000 if value > 253_402_300_799 else value


def is_good(document: dict[str, object] | None, scopes: list[str]) -> bool:
    """Whether a response may be answered with a 200 (RFC 7662 §2.2, RFC 6750, RFC 9449)."""
    if document is None or document.get("active") is not True:
        return False
    said, now = document.get, time.time()
    audience, scope = said("aud"), said("scope") if said("scope") is not None else said("scp")
    words = scope.split(" ") if isinstance(scope, str) else scope if isinstance(scope, list) else []
    named = [said(name) for name in ("token_type", "token_use", "typ")]
    kinds = {kind.lower() for kind in named if isinstance(kind, str)}
    return (
        (audience == "app" or (isinstance(audience, list) and "app" in audience))
        and said("iss") in (None, ISSUER)
        and all(isinstance(said(name), int | float | None) for name in ("exp", "nbf", "iat"))
        and not any(isinstance(said(name), bool) for name in ("exp", "nbf", "iat"))
        and (said("exp") is None or seconds(said("exp")) > now - LEEWAY - 1)
        and (said("nbf") is None or seconds(said("nbf")) < now + LEEWAY + 1)
        and (said("iat") is None or seconds(said("iat")) < now + LEEWAY + 1)
        and kinds <= {"bearer", "access", "access_token", "at+jwt", "application/at+jwt", "jwt"}
        and all(said(name) is None for name in FOREIGN)
        and said("cnf") is None
        and set(scopes) <= {word for word in words if isinstance(word, str)}
    )


# --- What a provider may send ---------------------------------------------------------------------

_texts = st.text(max_size=12) | st.sampled_from(["app", ISSUER, "a b", "\x00", "\ud800", "Bearer"])
_numbers_sent = (
    st.integers()
    | st.floats()
    | st.sampled_from([0, 1, True, 1e20, 10**400, 1e308, -0.0])
    | st.integers(-100, 100).map(lambda ahead: int(time.time()) + ahead)
    | st.integers(-100, 100).map(lambda ahead: 1000 * (int(time.time()) + ahead))
)
_json = st.recursive(
    st.none() | st.booleans() | _numbers_sent | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)
_types = st.sampled_from(
    ["Bearer", "bearer", "DPoP", "refresh_token", "N_A", "id", "access", "at+jwt", "JWT", "Refresh"]
)
_member = st.one_of(
    st.tuples(st.just("active"), st.sampled_from([False, True, 1, "true", None, [True], {}])),
    st.tuples(
        st.just("aud"),
        st.sampled_from(["app", "other", ["app"], ["a", "app"], [], None, "app a", {"app": 1}, [1]])
        | _json,
    ),
    st.tuples(st.just("iss"), st.sampled_from([ISSUER, ISSUER + "/", None, "", [ISSUER]]) | _json),
    st.tuples(st.sampled_from(["exp", "nbf", "iat", "auth_time"]), _numbers_sent | _json),
    st.tuples(st.sampled_from(["token_type", "token_use", "typ"]), _types | _json),
    st.tuples(st.sampled_from(["scope", "scp"]), st.sampled_from(["r", "r w", ["r"], ""]) | _json),
    st.tuples(st.sampled_from(["cnf", *FOREIGN]), st.none() | _json),
    st.tuples(st.sampled_from(["sub", "username", "client_id", "jti", "roles"]), _json),
    st.tuples(_texts, _json),
)


@st.composite
def _responses(draw: st.DrawFn) -> bytes:
    """A response that was good before some of its members were replaced, left out or doubled."""
    members: list[tuple[str, object]] = [("active", True), ("aud", "app"), ("scope", "r w")]
    for name, value in draw(st.lists(_member, max_size=4)):
        if draw(st.integers(0, 9)):
            members = [pair for pair in members if pair[0] != name]
        members.append((name, value))
    if not draw(st.integers(0, 19)):
        members.pop(draw(st.integers(0, len(members) - 1)))
    escaped = draw(st.booleans())
    content = ", ".join(
        f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=escaped)}" for name, value in members
    )
    return f"{{{content}}}".encode("utf-8", "surrogatepass")


@st.composite
def _spoiled(draw: st.DrawFn, documents: st.SearchStrategy[bytes]) -> bytes:
    """A document, cut, changed, repeated, or in another encoding."""
    body = draw(documents)
    at = draw(st.integers(0, max(0, len(body) - 1)))
    match draw(st.integers(0, 9)):
        case 0:
            return body[:at]
        case 1:
            return body[:at] + draw(st.binary(max_size=4)) + body[at + 1 :]
        case 2:
            return body + draw(st.binary(min_size=1, max_size=4))
        case 3:
            return body.decode("utf-8", "replace").encode(
                draw(st.sampled_from(["utf-8-sig", "utf-16", "utf-32", "utf-16-be"]))
            )
        case 4:
            depth = draw(st.sampled_from([10, 300, 3000, 20000]))
            inner = b'{"a":' if draw(st.booleans()) else b"["
            closing = (b"}" if inner != b"[" else b"]") * depth
            return body[:-1] + b', "deep": ' + inner * depth + b"1" + closing + b"}"
        case 5:
            return body[:-1] + b" " * draw(st.sampled_from([65_000, 65_536, 70_000])) + b"}"
        case 6:
            return b"[" + body + b"]"
        case 7:
            return draw(st.binary(max_size=30))
        case 8:
            return json.dumps(draw(_json)).encode()
        case _:
            return body


_header = st.one_of(
    st.tuples(
        st.just(b"content-encoding"), st.sampled_from([b"gzip", b"identity", b"", b"br, gzip"])
    ),
    st.tuples(
        st.just(b"content-type"), st.sampled_from([b"text/html", b"application/json", b"\xff;"])
    ),
    st.tuples(st.just(b"retry-after"), st.sampled_from([b"5", b"-1", b"9" * 90, b"\xb2", b"1e3"])),
    st.tuples(st.just(b"location"), st.sampled_from([b"http://[", b"/", b"//\xff", b"data:,"])),
    st.tuples(st.just(b"set-cookie"), st.binary(max_size=30)),
    st.tuples(st.binary(min_size=1, max_size=8), st.binary(max_size=12)),
)
_failures = st.sampled_from(
    [
        httpx2.ConnectError,
        httpx2.ConnectTimeout,
        httpx2.ReadError,
        httpx2.ReadTimeout,
        httpx2.WriteError,
        httpx2.PoolTimeout,
        httpx2.ProxyError,
        httpx2.RemoteProtocolError,
        httpx2.LocalProtocolError,
        httpx2.UnsupportedProtocol,
        httpx2.DecodingError,
        httpx2.TooManyRedirects,
    ]
)


@st.composite
def _replies(draw: st.DrawFn, documents: st.SearchStrategy[bytes]) -> Reply:
    """A reply, most often one that carries a document and a 200."""
    body = draw(documents if draw(st.integers(0, 2)) else _spoiled(documents))
    reply = Reply(chunks=[body])
    match draw(st.integers(0, 15)):
        case 0:
            reply.status = draw(st.integers(200, 599) | st.sampled_from([100, 600, 999]))
        case 1:
            reply.status = draw(st.sampled_from([400, 401, 403, 404, 429, 500, 503, 307, 204]))
        case 2:
            reply.headers = draw(st.lists(_header, max_size=3))
        case 3:
            reply.failure, reply.fails_before = draw(_failures), draw(st.booleans())
        case 4:
            reply.chunks = [body[:5], b"", body[5:]]
    return reply


# --- The promises ---------------------------------------------------------------------------------

_budget = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
_seen: Counter[str] = Counter()


@_budget
@given(
    reply=_replies(_responses()),
    canary=st.integers(0, 3).flatmap(
        lambda kind: _replies(_responses()) if kind == 0 else st.just(Reply(chunks=[b""]))
    ),
    scopes=st.sampled_from([[], ["r"], ["r", "w"], ["x"]]),
    mode=st.sampled_from(["introspect", "introspect", "both"]),
)
def _introspection(reply: Reply, canary: Reply, scopes: list[str], mode: str) -> None:
    """A token is good only if the reply about it is, and nothing ends in a 500."""
    number = next(_numbers)
    token = f"token-{number}"
    if mode == "both":
        now = int(time.time())
        token = signed(
            {"iss": ISSUER, "aud": "app", "sub": "a", "iat": now, "exp": now + 99, "jti": token}
        )
    healthy = Reply(chunks=[b'{"active": false}'])
    keys = Reply(chunks=[json.dumps({"keys": [_PUBLIC_KEY]}).encode()])

    def answer(request: httpx2.Request) -> Reply:
        if request.method == "GET":
            return keys
        if token.encode() in request.content:
            return reply
        return canary if canary.body else healthy

    _wire.answer = answer
    status = status_of(token, scopes, sso_mode=mode, **_configured)
    document = document_of(reply)
    if mode == "both" and document is not None:
        # What the response does not say is taken from the token, which is good in all else.
        signed_members = {"iss": ISSUER, "aud": "app"}
        document = signed_members | {n: v for n, v in document.items() if v is not None}
    assert status != 200 or is_good(document, scopes), reply
    _seen[f"introspection {mode} {status}"] += 1


@st.composite
def _metadata(draw: st.DrawFn) -> bytes:
    urls = st.sampled_from(
        [INTROSPECTION, "", "http://[", "https://", "ftp://a/b", "https://a:b@c/", "x" * 9, "//a"]
    )
    document: dict[str, object] = {
        "issuer": ISSUER,
        "introspection_endpoint": INTROSPECTION,
        "jwks_uri": f"{ISSUER}/jwks",
        "mtls_endpoint_aliases": {"introspection_endpoint": INTROSPECTION},
    }
    for name in draw(st.lists(st.sampled_from(sorted(document)), max_size=2)):
        document[name] = draw(urls | _json | st.text())
    return json.dumps(document).encode()


@_budget
@given(
    replies=st.lists(_replies(_metadata()), min_size=3, max_size=3),
    mode=st.sampled_from(["introspect", "jwt", "both"]),
    method=st.sampled_from(["client_secret_basic", "tls_client_auth"]),
)
def _discovery(replies: list[Reply], mode: str, method: str) -> None:
    """A metadata document names the endpoints only if it is about the issuer of the settings."""
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": "app", "sub": "a", "iat": now, "exp": now + 99}
    token = signed(claims | {"jti": str(next(_numbers))})
    documents = iter(itertools.cycle(replies))

    def answer(request: httpx2.Request) -> Reply:
        if ".well-known" in request.url.path:
            return next(documents)
        if request.method == "GET":
            return Reply(chunks=[json.dumps({"keys": [_PUBLIC_KEY]}).encode()])
        if b"token=" + token.encode() in request.content:
            return Reply(chunks=[json.dumps({"active": True} | claims).encode()])
        return Reply(chunks=[b'{"active": false}'])

    _wire.answer = answer
    status = status_of(token, [], sso_mode=mode, client_auth_method=method)
    issuers = [(document_of(reply) or {}).get("issuer") for reply in replies]
    assert status == 503 or (status == 200 and ISSUER in issuers), (status, replies)
    _seen[f"discovery {mode} {status}"] += 1


@st.composite
def _jwks(draw: st.DrawFn) -> bytes:
    """The provider's key among others, with some of its members replaced, or without it."""
    names = [*_PUBLIC_KEY, "alg", "d", "n", "e", "k", "x5c", "key_ops"]
    values = st.sampled_from(["EC", "RSA", "OKP", "oct", "P-256", "Ed25519", "sig", "enc", "ES256"])
    keys: list[object] = []
    for _ in range(draw(st.integers(0, 3))):
        key = dict(_PUBLIC_KEY)
        for name in draw(st.lists(st.sampled_from(names), max_size=3)):
            key[name] = draw(values | _json | st.sampled_from(["AQAB", "AAAA", ""]))
        keys.append(draw(st.just(key) | _json))
    keys += [_PUBLIC_KEY] * draw(st.integers(0, 1))
    return json.dumps({"keys": draw(st.just(keys) | _json) if keys else keys}).encode()


@_budget
@given(reply=_replies(_jwks()), kid=st.sampled_from(["k", None, "other"]))
def _keys(reply: Reply, kid: str | None) -> None:
    """Odd keys end in no 500, and a token is good only by the key that has signed it."""
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": "app", "sub": "a", "iat": now, "exp": now + 99}
    headers = {"kid": kid} if kid else None
    payload = json.dumps(claims | {"jti": str(next(_numbers))}).encode()
    token = jwt.PyJWS().encode(payload, _KEY, "ES256", headers)
    _wire.answer = lambda _request: reply
    status = status_of(token, [], sso_mode="jwt", **_configured)
    published = (document_of(reply) or {}).get("keys")
    candidates = published if isinstance(published, list) else []
    is_there = any(isinstance(key, dict) and _same_point(key) for key in candidates)
    assert status != 200 or is_there, reply
    _seen[f"keys {status}"] += 1


def _same_point(key: dict[str, object]) -> bool:
    """Compare the bytes, because Base64 has room for padding and for bits that mean nothing."""
    for name in ("x", "y"):
        try:
            found = base64.urlsafe_b64decode(f"{key.get(name)}==")
        except ValueError:
            return False
        if found != base64.urlsafe_b64decode(f"{_PUBLIC_KEY[name]}=="):
            return False
    return True


_TOKEN = signed(
    {"iss": ISSUER, "aud": "app", "sub": "a", "iat": int(time.time()), "exp": 32_503_680_000}
)
_PARTS = _TOKEN.split(".")
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~+/="


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


_headers_sent = st.dictionaries(
    st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jwk", "jku", "x5u", "zip", "cty", "enc"]),
    st.sampled_from(["ES256", "RS256", "HS256", "none", "EdDSA", "k", "at+jwt", "JWT", False])
    | _json,
    max_size=5,
).map(lambda header: _part({"alg": "ES256", "kid": "k"} | header))
_claims_sent = st.dictionaries(
    st.sampled_from(["iss", "aud", "sub", "exp", "iat", "nbf", "scope", "active", "cnf"]),
    st.sampled_from([ISSUER, "app", 0, 32_503_680_000]) | _json,
    max_size=5,
).map(_part)


@st.composite
def _tokens(draw: st.DrawFn) -> str:
    """The good token, with a character or a part of it replaced, added or left out."""
    parts, characters = list(_PARTS), list(_TOKEN)
    at = draw(st.integers(0, len(characters) - 1))
    match draw(st.integers(0, 7)):
        case 0:
            characters[at] = draw(st.sampled_from(_ALPHABET))
            return "".join(characters)
        case 1:
            characters.insert(at, draw(st.sampled_from(_ALPHABET)))
            return "".join(characters)
        case 2:
            return _TOKEN[:at] + _TOKEN[at + draw(st.integers(1, 5)) :]
        case 3:
            parts[0] = draw(_headers_sent)
        case 4:
            parts[1] = draw(_claims_sent)
        case 5:
            parts[:2] = [draw(_headers_sent), draw(_claims_sent)]
            parts[2] = draw(st.sampled_from(["", parts[2], "AAAA", "A" * 86]))
        case 6:
            parts = draw(st.lists(st.sampled_from([*parts, "", "e30"]), max_size=6))
        case 7:
            parts[2] += draw(st.text(_ALPHABET, max_size=4))
    return ".".join(parts)


@_budget
@given(token=_tokens(), mode=st.sampled_from(["jwt", "both"]))
def _forgeries(token: str, mode: str) -> None:
    """Only what is signed is good, and all of it must be as it was signed."""
    keys = Reply(chunks=[json.dumps({"keys": [_PUBLIC_KEY]}).encode()])
    active = Reply(chunks=[b'{"active": true, "aud": "app"}'])
    # Here the provider believes everything, so that only the signature stands in the way.
    _wire.answer = lambda request: keys if request.method == "GET" else active
    status = status_of(token, [], sso_mode=mode, **_configured)
    # Base64 may be written with its padding.
    assert (status == 200) == (token.rstrip("=") == _TOKEN) or "=" in token, token
    assert status != 200 or token.rstrip("=") == _TOKEN, token
    _seen[f"forgeries {mode} {status}"] += 1


def main() -> None:
    """Keep the promises so many times each."""
    for promise in (_introspection, _discovery, _keys, _forgeries):
        begin, before = time.monotonic(), _seen.total()
        promise()
        rate = (_seen.total() - before) / (time.monotonic() - begin)
        sys.stderr.write(f"{promise.__name__}: {rate:.0f} examples a second\n")
    json.dump(_seen, sys.stdout, sort_keys=True)


if __name__ == "__main__":
    main()
