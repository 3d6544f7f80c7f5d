"""Requests that break services: what to send, and what must be the answer.

``service_probes()`` are for any service, ``resource_probes(resource, key)`` for any resource whose
bodies are made of the types in ``app/core/schema.py``::

    INVOICE = Resource("/api/v1/invoice/", new_invoice, required=("number",), text="comment")

The values that must be refused contain ``CANARY``, which no answer may repeat.
"""

import gzip
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote
from uuid import UUID

from fastapi import FastAPI
from starlette.types import Message

type JsonValue = str | int | float | bool | list[JsonValue] | dict[str, JsonValue] | None
type Body = dict[str, JsonValue]

CANARY = "canary-7f3a"
JSON = ("content-type", "application/json")
ANY_STATE = ("if-match", "*")
REFUSED = frozenset({400, 422})
MISSING = frozenset({404})
_PARAMETER = re.compile(r"\{[^}]*\}")


@dataclass(frozen=True, slots=True)
class Probe:
    """One request, with the statuses of which one must be its answer.

    ``path`` and ``query`` are as they travel, percent-encoded. ``shown`` are members that the
    answer must have, with these very values.
    """

    name: str
    method: str
    path: str
    statuses: frozenset[int]
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    query: str = ""
    shown: tuple[tuple[str, JsonValue], ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, and whether a client could read it."""

    status: int
    headers: dict[str, str]
    body: bytes

    def faults(self, probe: Probe) -> Iterator[str]:
        """Say what is wrong with it, as an answer to the probe."""
        if self.status not in probe.statuses:
            yield f"{self.status} instead of {sorted(probe.statuses)}: {self.body[:300]!r}"
        if self.status >= 400 and self.body:
            yield from self._faults_of_a_problem()
        if CANARY in self.body.decode("utf-8", "replace") and self.status >= 400:
            yield f"it repeats the input: {self.body[:300]!r}"
        if any(re.search(r"[\r\n\x00]", value) for value in self.headers.values()):
            yield f"its headers break the line: {self.headers}"
        if probe.shown and self.status < 300:
            content = json.loads(self.body)
            for member, value in probe.shown:
                if content.get(member) != value:
                    yield f"it shows {content.get(member)!r:.100} and not {value!r:.100}"

    def _faults_of_a_problem(self) -> Iterator[str]:
        if self.headers.get("content-type") != "application/problem+json":
            yield f"its content type is {self.headers.get('content-type')}"
            return
        content = json.loads(self.body)
        if content.get("status") != self.status or not content.get("title"):
            yield f"it is no problem document: {content}"
        try:
            json.dumps(content, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            yield "it holds half a surrogate pair, at which many readers fail"


async def try_all(
    app: FastAPI, probes: Iterable[Probe], headers: Mapping[str, str]
) -> tuple[int, list[str]]:
    """Send the probes one after the other; return their number, and what is wrong with answers."""
    number, faults = 0, list[str]()
    for probe in probes:
        number += 1
        answer = await send(app, probe, headers)
        faults += [f"{probe.name}: {fault}" for fault in answer.faults(probe)]
    return number, faults


async def send(app: FastAPI, probe: Probe, headers: Mapping[str, str]) -> Answer:
    """Call the application as a server would, without a client that tidies the request up.

    ``headers`` are sent where the probe has none of that name.
    """
    own = {name.lower() for name, _ in probe.headers}
    usual = [(name, value) for name, value in headers.items() if name.lower() not in own]
    status, sent, chunks = 0, dict[str, str](), list[bytes]()

    async def receive() -> Message:
        return {"type": "http.request", "body": probe.body, "more_body": False}

    async def answer(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            for name, value in message["headers"]:
                sent[name.decode("latin-1").lower()] = value.decode("latin-1")
        else:
            chunks.append(message.get("body", b""))

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": probe.method,
        "scheme": "http",
        "path": unquote(probe.path),
        "raw_path": probe.path.encode("ascii"),
        "query_string": probe.query.encode("ascii"),
        "root_path": "",
        "headers": [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in (("host", "test"), *usual, *probe.headers)
        ],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    await app(scope, receive, answer)
    return Answer(status, sent, b"".join(chunks))


# --- Any service ---------------------------------------------------------------------------------


def service_probes() -> Iterator[Probe]:
    """Probes of the paths that every service has, and of those that none should have."""
    yield from _unknown_paths()
    yield from _health()


def _unknown_paths() -> Iterator[Probe]:
    for path in (
        "/%00",
        "/%0d%0aset-cookie:%20a=b",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/../../etc/passwd",
        "/..%5c..%5cwindows%5cwin.ini",
        "/%c0%ae%c0%ae/etc/passwd",
        "/%ff%fe",
        "/%ed%a0%80",
        "/.env",
        "/.git/config",
        "/api",
        "/api/v1",
        "/api/v1/",
        "/api/v1//user",
        "/API/V1/USER/",
        "//evil.example.com/",
        "/health/",
        "/health%00",
        "/health;jsessionid=1",
        "/HEALTH",
        "/actuator/env",
        "/${jndi:ldap://127.0.0.1/a}".replace("{", "%7b").replace("}", "%7d"),
        "/{{7*7}}".replace("{", "%7b").replace("}", "%7d"),
        "/" + "a" * 8000,
        "/" + "a/" * 4000,
        "/" + "%F0%9F%92%A9" * 500,
    ):
        yield Probe(f"unknown path {path[:40]}", "GET", path, MISSING)
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"):
        yield Probe(f"{method} to an unknown path", method, f"/{CANARY}", MISSING)


def _health() -> Iterator[Probe]:
    ok = frozenset({200})
    yield Probe("health", "GET", "/health", ok)
    yield Probe("health HEAD", "HEAD", "/health", ok)
    yield Probe("health encoded", "GET", "/%68ealth", ok)
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get", "GET\t", "X" * 1000):
        yield Probe(f"health {method[:20]!r}", method, "/health", frozenset({405}))
    for name, value in _ODD_HEADERS:
        yield Probe(
            f"health with {name}: {value[:30]!r}", "GET", "/health", ok, headers=((name, value),)
        )
    for query in ("a=%00", "a=%ff", "&&&=;=", "a=" + "b" * 60_000, "&".join(["a=b"] * 5000), "%"):
        yield Probe(f"health ?{query[:20]}", "GET", "/health", ok, query=query)
    yield Probe("health with a body", "GET", "/health", ok, b"\xff" * 1000)


# What a caller may write into a header, and nobody should act upon.
_ODD_HEADERS = (
    ("host", "evil.example.com"),
    ("host", ""),
    ("host", "[::1"),
    ("host", "a:b:c"),
    ("host", "x" * 10_000),
    ("x-forwarded-host", "evil.example.com"),
    ("x-forwarded-for", "127.0.0.1, " * 500),
    ("x-forwarded-proto", "javascript"),
    ("forwarded", "for=;;=;host=evil.example.com"),
    ("x-original-url", "/admin"),
    ("x-rewrite-url", "/admin"),
    ("x-http-method-override", "DELETE"),
    ("origin", "null"),
    ("referer", "\x01\x02"),
    ("accept", "*/*;q=x,,;"),
    ("accept", "text/html"),
    ("accept-encoding", "gzip;q=NaN"),
    ("accept-language", "\xff" * 100),
    ("cookie", "=;=;a=\x01; __Host-=x" * 100),
    ("range", "bytes=9-1,-,0-99999999999999999999"),
    ("if-none-match", "*"),
    ("if-modified-since", "Thu, 99 Foo 0000"),
    ("expect", "200-maybe"),
    ("upgrade", "h2c"),
    ("transfer-encoding", "chunked, identity"),
    ("content-length", "-1"),
    ("traceparent", "00-" + "0" * 32 + "-zz-01"),
    ("user-agent", "${jndi:ldap://127.0.0.1/a}"),
    ("x" * 1000, "y" * 60_000),
)


def operation_probes(method: str, path: str) -> Iterator[Probe]:
    """Probes of one method of a path such as ``/api/v1/user/{user_id}``; any answer but a 500."""
    not_a_bug = frozenset(range(600)) - {500}
    for key in (_UUID, *_NO_KEYS):
        concrete = _PARAMETER.sub(key.replace("\\", "\\\\"), path)
        yield Probe(f"key {key[:20]}", method, concrete, not_a_bug, b"{}", (JSON, ANY_STATE))
        if concrete == path:
            break
    concrete = _PARAMETER.sub(_UUID, path)
    for body in (b"", b"null", b"[]", b"{}", b"NaN", b"\xff", b'"\\ud800"', b"[" * 100_000):
        name = f"{body[:20]!r}"
        yield Probe(name, method, concrete, not_a_bug, body, (JSON, ANY_STATE))
    for query in ("limit=-1", "limit=" + "9" * 30, "a=%00", "%ff=%ff", "cursor=%ed%a0%80"):
        yield Probe(query, method, concrete, not_a_bug, query=query)


# --- Any resource --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Resource:
    """A collection of resources, and what one needs to know to try it.

    Args:
        path: The collection's, such as ``/api/v1/user/``.
        new: Makes a body that can be stored, another one each time.
        required: The members that cannot be left out.
        text: A member of the type ``ShortText`` that is neither unique nor normalised, if any.
    """

    path: str
    new: Callable[[], Body]
    required: tuple[str, ...] = ()
    text: str | None = None

    def item(self, key: object) -> str:
        """Return the path of one of them."""
        return f"{self.path.rstrip('/')}/{key}"


def resource_probes(resource: Resource, key: UUID) -> Iterator[Probe]:
    """Probes of a resource; ``key`` is one that is stored."""
    yield from _bodies(resource)
    yield from _content_types(resource)
    yield from _members(resource, key)
    if resource.text is not None:
        yield from _texts(resource, resource.text)
    yield from _keys(resource)
    yield from _queries(resource)
    yield from _preconditions(resource, key)
    yield from _credentials(resource, key)
    yield from _methods(resource, key)


def _post(
    resource: Resource,
    name: str,
    body: bytes,
    statuses: frozenset[int] = REFUSED,
    *headers: tuple[str, str],
) -> Probe:
    return Probe(f"POST {name}", "POST", resource.path, statuses, body, headers or (JSON,))


def _dump(body: JsonValue) -> bytes:
    return json.dumps(body).encode()


def _bodies(resource: Resource) -> Iterator[Probe]:
    """Bodies that are no JSON, or no object, or ambiguous."""
    valid = _dump(resource.new())
    for name, body in (
        ("nothing", b""),
        ("spaces", b"   "),
        ("garbage", b"\x00\x01\x02" + CANARY.encode()),
        ("half a document", valid[:-2]),
        ("two documents", valid + valid),
        ("a trailing comma", valid[:-1] + b",}"),
        ("a comment", b"/* */" + valid),
        ("single quotes", valid.replace(b'"', b"'")),
        ("null", b"null"),
        ("true", b"true"),
        ("a string", _dump(CANARY)),
        ("a number", b"0"),
        ("-0", b"-0"),
        ("1e400", b"1e400"),
        ("NaN", b"NaN"),
        ("Infinity", b"Infinity"),
        ("-Infinity", b"-Infinity"),
        ("a list", b"[" + valid + b"]"),
        ("an empty object", b"{}") if resource.required else ("[]", b"[]"),
        ("100,000 open brackets", b"[" * 100_000),
        ("100,000 open braces", b'{"a":' * 100_000),
        ("a list 50,000 deep", b"[" * 50_000 + b"]" * 50_000),
        ("10,000 digits", b"1" * 10_000),
        ("10,000 digits in a member", b'{"a":' + b"1" * 10_000 + b"}"),
        ("10,000 members", _dump({str(number): number for number in range(10_000)})),
        ("invalid UTF-8", valid.replace(b":", b":\xff", 1)),
        ("overlong UTF-8", valid[:-1] + b',"a":"\xc0\x80"}'),
        ("a surrogate in UTF-8", valid[:-1] + b',"a":"\xed\xa0\x80"}'),
        ("gzip", gzip.compress(valid)),
        ("zeros", b"0" * 500_000),
    ):
        yield _post(resource, name, body)
    for name, member in (
        ("an unknown member", CANARY),
        ("a member without a name", ""),
        ("a NUL in a name", "a\x00b"),
        ("half a surrogate pair in a name", "\ud800"),
        ("a name of 100,000 characters", "a" * 100_000),
        ("__proto__", "__proto__"),
        ("__class__", "__class__"),
        ("constructor", "constructor"),
        ("a name with a line break", "a\r\nset-cookie: a=b"),
        ("the id", "id"),
        ("the version", "version"),
        ("created_at", "created_at"),
    ):
        # A member's name is told back, as the place of the error; its value is not.
        name_, value = (member, 1) if member == CANARY else (member, CANARY)
        body = _dump(resource.new() | {name_.replace(CANARY, "unknown"): value})
        yield _post(resource, name, body, frozenset({422}))
    yield _post(resource, "a body of 1.1 MB", b" " * 1_100_000 + valid, frozenset({413}))
    huge = _dump(resource.new() | {"unknown": CANARY * 100_000})
    yield _post(resource, "a value of 1.1 MB", huge, frozenset({413}))
    length = ("content-length", "99999999999999999999")
    yield _post(resource, "a huge declared length", valid, frozenset({400, 413}), JSON, length)
    # The last one counts, for whoever validates it and whoever stores it alike (RFC 8259 §4).
    yield _post(
        resource,
        "a member twice",
        b'{"' + (resource.required or ("a",))[0].encode() + b'": 1, ' + _dump(resource.new())[1:],
        frozenset({201, 422}),
    )
    # Python reads these encodings too, though RFC 8259 §8.1 wants UTF-8.
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-32"):
        body = json.dumps(resource.new()).encode(encoding)
        yield _post(resource, encoding, body, frozenset({201, 400, 422}))


def _content_types(resource: Resource) -> Iterator[Probe]:
    valid = _dump(resource.new())
    for content_type in (
        "",
        "text/plain",
        "text/html",
        "text/json",
        "application/xml",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "x" * 1000,
        "application/jsonp",
        "json",
        "/",
        ";",
        "\xff\xfe",
        "application/" + "x" * 10_000,
    ):
        name = f"as {content_type[:40]!r}"
        yield _post(resource, name, valid, REFUSED | {415}, ("content-type", content_type))
    for content_type in ("application/json; charset=utf-16", "application/problem+json"):
        name = f"as {content_type}"
        body = _dump(resource.new())
        yield _post(resource, name, body, frozenset({201}), ("content-type", content_type))
    yield Probe("POST without a content type", "POST", resource.path, REFUSED | {415}, valid)


def _members(resource: Resource, key: UUID) -> Iterator[Probe]:
    """Values that a required member cannot have, in a new resource and in a change."""
    item = resource.item(key)
    wrong: tuple[tuple[str, JsonValue], ...] = (
        ("null", None),
        ("a list", [CANARY]),
        ("an object", {CANARY: CANARY}),
        ("NUL", "\x00"),
        ("half a surrogate pair", f"{CANARY}\ud800"),
    )
    for member in resource.required:
        body = resource.new()
        del body[member]
        yield _post(resource, f"without {member}", _dump(body), frozenset({422}))
        for name, value in wrong:
            document = _dump(resource.new() | {member: value})
            yield _post(resource, f"{name} as {member}", document, frozenset({422}))
            yield Probe(
                f"PATCH {name} as {member}",
                "PATCH",
                item,
                frozenset({422}),
                _dump({member: value}),
                (JSON, ANY_STATE),
            )
        for constant in (b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400"):
            document = _dump(resource.new() | {member: "@"}).replace(b'"@"', constant)
            yield _post(resource, f"{constant.decode()} as {member}", document, frozenset({422}))


# Text that nobody means to store, because it breaks something further on.
_UNACCEPTABLE = {
    "nothing": "",
    "spaces": "   ",
    "a NUL": f"{CANARY}\x00",
    "a line feed": f"{CANARY}\n",
    "CR LF": f"{CANARY}\r\nset-cookie: a=b",
    "a tab": f"\t{CANARY}",
    "an escape sequence": f"\x1b[31m{CANARY}",
    "a backspace": f"{CANARY}\x08",
    "a DEL": f"{CANARY}\x7f",
    "a C1 control": f"{CANARY}\x85",
    "a line separator": f"{CANARY}\u2028",
    "a paragraph separator": f"{CANARY}\u2029",
    "a right-to-left override": f"{CANARY}\u202e",
    "an isolate": f"\u2066{CANARY}",
    "a byte order mark": f"\ufeff{CANARY}",
    "a high surrogate": f"{CANARY}\ud83d",
    "a low surrogate": f"\ude00{CANARY}",
    "swapped surrogates": f"\ude00\ud83d{CANARY}",
    "256 characters": CANARY + "x" * (256 - len(CANARY)),
    "256 characters and spaces": CANARY + " " * 256,
    "9 kB": CANARY + "x" * 9000,
    "9 kB that do not compress": CANARY
    + "".join(chr(0x4E00 + n * 7 % 20_000) for n in range(9000)),
    "500 kB": CANARY + "x" * 500_000,
}

# Text that is dangerous for those who do not treat it as text, and data for all others.
_HARMLESS = {
    "SQL": "'; DROP TABLE user_account; --",
    "a tautology": "' OR '1'='1' /*",
    "a placeholder": "$1 %s %(name)s :name ? {0}",
    "a format": "%n%n%n%x%d",
    "percent": "%00%0a%25",
    "a template": "{{7*7}} ${7*7} <%= 7*7 %> #{7*7}",
    "JNDI": "${jndi:ldap://127.0.0.1/a}",
    "a script": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "an entity": '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>&b;',
    "a path": "../../../../etc/passwd",
    "a UNC path": "\\\\127.0.0.1\\share",
    "a command": "`id`; $(id) | id && id",
    "a formula": "=cmd|' /C calc'!A0",
    "backslashes": "\\",
    "a written escape": "\\u0000\\x00\\0",
    "quotes": "\"'`\u201c\u201d\u00ab",
    "null in letters": "null",
    "NaN in letters": "NaN",
    "a number in letters": "1e400",
    "an emoji family": "👩‍👩‍👧‍👦",
    "a flag": "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "Arabic": "السلام عليكم",
    "Hebrew": "שָׁלוֹם",
    "combining marks": "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢",
    "a composed letter": "\u00e9",
    "a decomposed letter": "e\u0301",
    "a dotted capital I": "İıſßﬁ",
    "a look-alike": "\u0430dmin",
    "an invisible letter": "a\u200bb\u00adc",
    "a noncharacter": "\uffff\ufffe\U0010ffff",
    "private use": "\ue000\U000f0000",
    "255 astral characters": "𠜎" * 255,
    "255 characters": "x" * 255,
}


def _texts(resource: Resource, member: str) -> Iterator[Probe]:
    for name, text in _UNACCEPTABLE.items():
        body = _dump(resource.new() | {member: text})
        yield _post(resource, f"{name} in {member}", body, frozenset({422}))
    values: tuple[JsonValue, ...] = (0, 1.5, True, ["x"], {"x": "y"})
    for value in values:
        body = _dump(resource.new() | {member: value})
        yield _post(resource, f"{value!r} as {member}", body, frozenset({422}))
    for name, text in _HARMLESS.items():
        yield Probe(
            f"POST {name} in {member}",
            "POST",
            resource.path,
            frozenset({201}),
            _dump(resource.new() | {member: text}),
            (JSON,),
            shown=((member, text),),
        )


_UUID = "0198a1b2-0000-7000-8000-000000000000"
_NO_KEYS = (
    "0",
    "1",
    "-1",
    "9223372036854775808",
    "1" * 5000,
    "1.0",
    "null",
    "undefined",
    "NaN",
    "%20",
    "%00",
    "%2500",
    "%0d%0a",
    "%ff",
    "%ed%a0%80",
    "..",
    "%2e%2e",
    "..%2f..%2fetc%2fpasswd",
    "*",
    "'%20OR%201=1--",
    quote(f"{{{_UUID}}}"),
    f"urn:uuid:{_UUID}",
    f"{_UUID}%00",
    f"{_UUID}%20",
    f"{_UUID}%0a",
    f"{_UUID};a=b",
    f"{_UUID}.json",
    f"{_UUID}{_UUID}",
    quote(_UUID.replace("0", "\u0660")),
    f"{CANARY}",
    "x" * 8000,
)


def _keys(resource: Resource) -> Iterator[Probe]:
    """Keys that are none, or nobody's."""
    for key in (
        _UUID,
        _UUID.upper(),
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
    ):
        yield Probe(f"GET {key}", "GET", resource.item(key), MISSING)
        yield Probe(f"DELETE {key}", "DELETE", resource.item(key), MISSING)
    for key in _NO_KEYS:
        statuses = frozenset({400, 404, 422})
        yield Probe(f"GET key {key[:40]}", "GET", resource.item(key), statuses)
    yield Probe("GET key/", "GET", resource.item(f"{_UUID}/"), MISSING)
    yield Probe("GET key/..", "GET", resource.item(f"{_UUID}/.."), MISSING)


def _queries(resource: Resource) -> Iterator[Probe]:
    for query in (
        "limit=0",
        "limit=-1",
        "limit=101",
        "limit=2147483648",
        "limit=9223372036854775808",
        "limit=" + "9" * 30,
        "limit=" + "9" * 5000,
        "limit=1.5",
        "limit=1e1",
        "limit=0x10",
        "limit=",
        "limit=NaN",
        "limit=Infinity",
        "limit=true",
        "limit=null",
        "limit=%2b5",
        "limit=5%00",
        "limit=%d9%a3",
        "limit=1_0",
        "limit[]=1",
        "limit%00=1",
        "LIMIT=1",
        "cursor=",
        "cursor=x",
        "cursor=%00",
        "cursor=%ff",
        "cursor=null",
        "cursor=1",
        "cursor=" + "A" * 21,
        "cursor=" + "A" * 23,
        "cursor=" + "A" * 21 + "B",
        "cursor=" + "A" * 22 + "==",
        "cursor=" + "%2b" * 22,
        "cursor=" + "A" * 22 + "%0a",
        "cursor=" + "A" * 50_000,
        "cursor=00000000-0000-0000-0000-000000000000",
        "cursor=' OR 1=1--".replace(" ", "%20"),
        "offset=-1",
        "page=0",
        "sort=password",
        "order_by=;DROP",
        "_method=DELETE",
        "id=1",
        "subject=x",
        "__class__=x",
        f"unknown={CANARY}",
        "%00=1",
        "=1",
        "&".join(f"a{number}=1" for number in range(2000)),
    ):
        yield Probe(f"GET ?{query[:40]}", "GET", resource.path, frozenset({422}), query=query)
    for query in (
        "limit=1",
        "limit=100",
        "limit=1&limit=2",
        "cursor=" + "A" * 22,
        "cursor=" + "_" * 21 + "w",
        "cursor=" + "_" * 21 + "w&limit=100",
        "&&&",
        "%",
        "",
    ):
        accepted = frozenset({200, 422}) if query == "%" else frozenset({200})
        yield Probe(f"GET ?{query[:40]}", "GET", resource.path, accepted, query=query)


def _preconditions(resource: Resource, key: UUID) -> Iterator[Probe]:
    """If-Match in every wrong form; only the right ones change anything."""
    for value, status in (
        ("", 428),
        (" ", 428),
        ("1", 400),
        ('"', 400),
        ('"1', 400),
        ("'1'", 400),
        ('"1" "2"', 400),
        ('"1",', 400),
        (',"1"', 400),
        ('"1";', 400),
        ('w/"1"', 400),
        ("W/1", 400),
        ("**", 400),
        ('*,"1"', 400),
        ('"a"b"', 400),
        ('"a b"', 400),
        ('"\xe9"', 400),
        ('"\x7f"', 400),
        (f'"{CANARY}', 400),
        ('"' * 50_001, 400),
        (('"x"  ,\t ' * 5000) + "!", 400),
        ('W/"1"', 412),
        ('"0"', 412),
        ('"-1"', 412),
        ('"01"', 412),
        ('"1.0"', 412),
        ('""', 412),
        (f'"{CANARY}"', 412),
        ('"9999999999999999999999999"', 412),
        ('"' + "x" * 50_000 + '"', 412),
        (", ".join(['"x"'] * 5000), 412),
    ):
        yield Probe(
            f"PATCH If-Match {value[:30]!r}",
            "PATCH",
            resource.item(key),
            frozenset({status, 400} if status == 428 else {status}),
            b"{}",
            (JSON, ("if-match", value)),
        )
    yield Probe("PATCH", "PATCH", resource.item(key), frozenset({428}), b"{}", (JSON,))
    for body in (b"", b"null", b"[]", b'{"unknown": 1}', b'{"id": null}', b'{"version": 1}'):
        yield Probe(
            f"PATCH {body!r}",
            "PATCH",
            resource.item(key),
            frozenset({422}),
            body,
            (JSON, ANY_STATE),
        )
    yield Probe(
        "PATCH with patch operations",
        "PATCH",
        resource.item(key),
        frozenset({422}),
        b'[{"op": "remove", "path": "/id"}]',
        (("content-type", "application/json-patch+json"), ANY_STATE),
    )


def _credentials(resource: Resource, key: UUID) -> Iterator[Probe]:
    refused = frozenset({400, 401})
    for value in (
        "",
        " ",
        "Bearer",
        "Bearer ",
        "Bearer \x00",
        "Bearer \xff\xfe",
        "Bearer a b",
        "Bearer a,b",
        "Bearer ..",
        "Bearer null",
        "Bearer undefined",
        "Bearer eyJhbGciOiJub25lIn0.e30.",
        "Bearer " + "x" * 8193,
        "Bearer " + "x" * 100_000,
        "Bearer Bearer x",
        "Basic Og==",
        "Basic !!!",
        "Digest username=",
        "Negotiate",
        CANARY,
        "\t",
    ):
        headers = (("authorization", value),)
        name = f"GET Authorization {value[:30]!r}"
        yield Probe(name, "GET", resource.item(key), refused, headers=headers)
    twice = (("authorization", "Bearer a"), ("authorization", "Bearer b"))
    yield Probe("GET Authorization twice", "GET", resource.item(key), refused, headers=twice)
    # The body is read first; a caller without a token learns no more from that than "no".
    stranger = (JSON, ("authorization", f"Bearer {CANARY}"))
    statuses = frozenset({401, 400, 422})
    yield Probe("POST by a stranger", "POST", resource.path, statuses, b"\x00", stranger)
    # RFC 6750 §2.3 advises against it; the header alone counts.
    query, nobody = f"access_token={CANARY}", (("authorization", ""),)
    name = "GET an access token in the query"
    yield Probe(name, "GET", resource.path, refused, headers=nobody, query=query)


def _methods(resource: Resource, key: UUID) -> Iterator[Probe]:
    not_allowed = frozenset({405})
    for method in ("PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY", "get", "POST ", "%00"):
        yield Probe(f"{method} to the collection", method, resource.path, not_allowed)
    for method in ("POST", "PUT", "OPTIONS", "TRACE", "PROPFIND", "X" * 1000):
        path = resource.item(key)
        yield Probe(f"{method[:20]} to the resource", method, path, not_allowed)
    for name, value in _ODD_HEADERS:
        yield Probe(
            f"GET with {name[:30]}: {value[:30]!r}",
            "GET",
            resource.item(key),
            frozenset({200}),
            headers=((name, value),),
        )
    if resource.path.endswith("/"):
        yield Probe("GET without the slash", "GET", resource.path[:-1], MISSING)
    yield Probe("GET with two slashes", "GET", f"{resource.path}/", MISSING)
