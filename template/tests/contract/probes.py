"""Requests that break services, and what each must be answered with.

``resource_probes(resource, key)`` are for any resource whose bodies are made of the types in
``app/core/schema.py``; a test of your own can send them too, and expect the exact statuses::

    INVOICE = Resource("/api/v1/invoice/", new_invoice, required=("number",), text="comment")
    number, faults = await try_all(application, resource_probes(INVOICE, key), headers)

Values that must be refused contain ``CANARY``, which no error response may repeat.
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
OK = frozenset({200})
REFUSED = frozenset({400, 422})
INVALID = frozenset({422})
MISSING = frozenset({404})
NOT_ALLOWED = frozenset({405})
NOT_A_BUG = frozenset(range(600)) - {500}
_UUID = "0198a1b2-0000-7000-8000-000000000000"


@dataclass(frozen=True, slots=True)
class Probe:
    """One request, and the statuses of which one must be its answer.

    ``path`` and ``query`` are percent-encoded. ``shown`` are members that a successful answer must
    have, with these very values.
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
    """The response to a probe."""

    status: int
    headers: dict[str, str]
    body: bytes

    def faults(self, probe: Probe) -> Iterator[str]:
        """Say what is wrong with it, as an answer to the probe."""
        if self.status not in probe.statuses:
            yield f"{self.status} instead of {sorted(probe.statuses)}: {self.body[:300]!r}"
        if self.status >= 400 and self.body:
            yield from self.faults_of_problem()
        if self.status >= 400 and CANARY in self.body.decode("utf-8", "replace"):
            yield f"it repeats the input: {self.body[:300]!r}"
        if any(re.search(r"[\r\n\x00]", value) for value in self.headers.values()):
            yield f"a header contains a line break or a NUL: {self.headers}"
        if probe.shown and self.status < 300:
            content = json.loads(self.body)
            for member, value in probe.shown:
                if content.get(member) != value:
                    yield f"it shows {content.get(member)!r:.100} and not {value!r:.100}"

    def faults_of_problem(self) -> Iterator[str]:
        """Say why its body is not a problem document (RFC 9457) that every client can read."""
        if self.headers.get("content-type") != "application/problem+json":
            yield f"its content type is {self.headers.get('content-type')}"
            return
        content = json.loads(self.body)
        if content.get("status") != self.status or not content.get("title"):
            yield f"it is not a problem document: {content}"
        try:
            json.dumps(content, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            yield "it contains an unpaired surrogate, which many JSON parsers refuse"


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
    """Call the application without an HTTP client, which would refuse or normalize odd requests.

    ``headers`` are sent where the probe has none of that name.
    """
    own = {name.lower() for name, _ in probe.headers}
    usual = {"host": "test"} | {name.lower(): value for name, value in headers.items()}
    sent = [it for it in usual.items() if it[0] not in own] + list(probe.headers)
    status, received, chunks = 0, dict[str, str](), list[bytes]()

    async def receive() -> Message:
        return {"type": "http.request", "body": probe.body, "more_body": False}

    async def answer(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            for name, value in message["headers"]:
                received[name.decode("latin-1").lower()] = value.decode("latin-1")
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
        "headers": [(it[0].lower().encode("latin-1"), it[1].encode("latin-1")) for it in sent],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    await app(scope, receive, answer)
    return Answer(status, received, b"".join(chunks))


# --- Any operation -------------------------------------------------------------------------------

# Headers that no service should act upon.
ODD_HEADERS = (
    *(("host", value) for value in ("evil.example.com", "", "[::1", "a:b:c", "x" * 10_000)),
    *(("x-forwarded-host", "evil.example.com"), ("forwarded", "for=;;=;host=evil.example.com")),
    *(("x-forwarded-for", "127.0.0.1, " * 500), ("x-forwarded-proto", "javascript")),
    *(("x-original-url", "/admin"), ("x-http-method-override", "DELETE"), ("origin", "null")),
    *(("referer", "\x01\x02"), ("accept", "*/*;q=x,,;"), ("accept-encoding", "gzip;q=NaN")),
    *(("accept-language", "\xff" * 100), ("cookie", "=;=;a=\x01; __Host-=x" * 100)),
    *(("range", "bytes=9-1,-,0-99999999999999999999"), ("if-none-match", "*"), ("upgrade", "h2c")),
    *(("if-modified-since", "Thu, 99 Foo 0000"), ("expect", "200-maybe"), ("content-length", "-1")),
    *(("transfer-encoding", "chunked, identity"), ("traceparent", "00-" + "0" * 32 + "-zz-01")),
    *(("user-agent", "${jndi:ldap://127.0.0.1/a}"), ("x" * 1000, "y" * 60_000)),
)


def operation_probes(method: str, path: str) -> Iterator[Probe]:
    """Probes of a method of a path such as ``/user/{user_id}``; any status but 500 is right."""
    headers = (JSON, ANY_STATE)
    for key in (_UUID, *_NOT_KEYS):
        concrete = fill(path, key)
        yield Probe(f"key {key[:20]}", method, concrete, NOT_A_BUG, b"{}", headers)
        if concrete == path:
            break
    concrete = fill(path, _UUID)
    for body in (b"", b"null", b"[]", b"{}", b"NaN", b"\xff", b'"\\ud800"', b"[" * 100_000):
        yield Probe(f"{body[:20]!r}", method, concrete, NOT_A_BUG, body, headers)
    for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        part = b'Content-Disposition: form-data; name="\x00"; filename="\xff"\r\n\r\n%00=%ff'
        body = b"--x\r\n" + part + b"\r\n--x--\r\n"
        sent = (("content-type", kind), ANY_STATE)
        yield Probe(f"as {kind}", method, concrete, NOT_A_BUG, body, sent)
    for query in ("limit=-1", "limit=" + "9" * 30, "a=%00", "%ff=%ff", "cursor=%ed%a0%80"):
        yield Probe(query[:20], method, concrete, NOT_A_BUG, query=query)


def fill(path: str, key: str) -> str:
    """Return a path such as ``/user/{user_id}`` with ``key`` in the place of each parameter."""
    return re.sub(r"\{[^}]*\}", lambda _: key, path)


# --- Any resource --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Resource:
    """A collection of resources.

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
    yield from _members(resource, key)
    if resource.text is not None:
        yield from _texts(resource, resource.text)
    yield from _keys(resource)
    yield from _queries(resource)
    yield from _preconditions(resource, key)
    for method in ("PUT", "DELETE", "OPTIONS", "TRACE", "QUERY", "get", "POST ", "%00"):
        yield Probe(f"{method} to the collection", method, resource.path, NOT_ALLOWED)
    for header in ODD_HEADERS:
        yield Probe(f"GET with {header!r:.50}", "GET", resource.item(key), OK, headers=(header,))


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
    """Bodies that are not JSON, or not an object, or ambiguous."""
    valid = _dump(resource.new())
    for body in (
        *(b"", b"   ", b"\x00\x01\x02" + CANARY.encode(), valid[:-2], valid + valid),
        *(valid[:-1] + b",}", b"/* */" + valid, valid.replace(b'"', b"'"), b"[" + valid + b"]"),
        *(b"null", b"true", _dump(CANARY), b"0", b"-0", b"1e400", b"NaN", b"Infinity"),
        *(b"[" * 100_000, b'{"a":' * 100_000, b"[" * 50_000 + b"]" * 50_000, b"0" * 500_000),
        *(b"1" * 10_000, b'{"a":' + b"1" * 10_000 + b"}", _dump({str(n): n for n in range(9999)})),
        # Invalid, overlong and surrogate UTF-8.
        *(valid.replace(b":", b":\xff", 1), valid[:-1] + b',"a":"\xc0\x80"}'),
        *(valid[:-1] + b',"a":"\xed\xa0\x80"}', gzip.compress(valid)),
    ):
        yield _post(resource, f"the body {body!r:.40}", body)
    for member in (
        *("unknown", "", "a\x00b", "\ud800", "a" * 100_000, "__proto__", "__class__"),
        *("constructor", "a\r\nset-cookie: a=b", "id", "version", "created_at"),
        *("ID", "id ", "a.b", "a[b]", "$ref", "$where", "@type", "#", "%00", "\u2028", "\ufeff"),
        *("\u202e", "\U0001f600", "0", "-1", "null", "true", "'", '"', "\\", "password"),
    ):
        # An error names the member, and never its value.
        body = _dump(resource.new() | {member: CANARY})
        yield _post(resource, f"with {member!r:.40}", body, INVALID)
    too_large = frozenset({413})
    yield _post(resource, "a body of 1.1 MB", b" " * 1_100_000 + valid, too_large)
    huge = _dump(resource.new() | {"unknown": CANARY * 100_000})
    yield _post(resource, "a value of 1.1 MB", huge, too_large)
    length = ("content-length", "99999999999999999999")
    yield _post(resource, "a huge Content-Length", valid, too_large | {400}, JSON, length)
    # The last one counts, both where it is validated and where it is stored (RFC 8259 §4).
    first = (resource.required or ("a",))[0].encode()
    twice = b'{"' + first + b'": 1, ' + _dump(resource.new())[1:]
    yield _post(resource, "a member twice", twice, frozenset({201, 422}))
    # Python reads these encodings too, though RFC 8259 §8.1 requires UTF-8.
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-32"):
        body = json.dumps(resource.new()).encode(encoding)
        yield _post(resource, encoding, body, frozenset({201, 400, 422}))


def _members(resource: Resource, key: UUID) -> Iterator[Probe]:
    """Values that a required member cannot have, in a new resource and in a change."""
    wrong: tuple[JsonValue, ...] = (None, [CANARY], {CANARY: CANARY}, "\x00", f"{CANARY}\ud800")
    for member in resource.required:
        without = {name: value for name, value in resource.new().items() if name != member}
        yield _post(resource, f"without {member}", _dump(without), INVALID)
        for value in wrong:
            name = f"{value!r} as {member}"
            yield _post(resource, name, _dump(resource.new() | {member: value}), INVALID)
            yield _patch(resource, key, name, _dump({member: value}))
        for constant in (b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400"):
            document = _dump(resource.new() | {member: "@"}).replace(b'"@"', constant)
            yield _post(resource, f"{constant.decode()} as {member}", document, INVALID)


def _patch(
    resource: Resource,
    key: UUID,
    name: str,
    body: bytes,
    statuses: frozenset[int] = INVALID,
    headers: tuple[tuple[str, str], ...] = (JSON, ANY_STATE),
) -> Probe:
    return Probe(f"PATCH {name}", "PATCH", resource.item(key), statuses, body, headers)


# Text that nobody means to store, because it breaks something later: controls, line and paragraph
# separators, bidirectional overrides, unpaired surrogates, and what is too long for an index.
_UNACCEPTABLE = (
    *("", "   ", f"{CANARY}\x00", f"{CANARY}\n", f"{CANARY}\r\nset-cookie: a=b", f"\t{CANARY}"),
    *(f"\x1b[31m{CANARY}", f"{CANARY}\x08", f"{CANARY}\x7f", f"{CANARY}\x85", f"\ufeff{CANARY}"),
    *(f"{CANARY}\u2028", f"{CANARY}\u2029", f"{CANARY}\u202e", f"\u2066{CANARY}"),
    *(f"{CANARY}\ud83d", f"\ude00{CANARY}", f"\ude00\ud83d{CANARY}"),
    *(CANARY + "x" * (256 - len(CANARY)), CANARY + " " * 256, CANARY + "x" * 9000),
    CANARY + "".join(chr(0x4E00 + number * 7 % 20_000) for number in range(9000)),
    CANARY + "x" * 500_000,
)
# Text that is dangerous only to software that does not treat it as text.
_HARMLESS = (
    *("'; DROP TABLE user_account; --", "' OR '1'='1' /*", "$1 %s %(name)s :name ? {0}"),
    *("%n%n%n%x%d", "%00%0a%25", "{{7*7}} ${7*7} <%= 7*7 %> #{7*7}", "${jndi:ldap://127.0.0.1/a}"),
    *("<script>alert(1)</script><img src=x onerror=alert(1)>", "../../../../etc/passwd"),
    *('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>&b;', "\\\\127.0.0.1\\share"),
    *("`id`; $(id) | id && id", "=cmd|' /C calc'!A0", "\\", "\\u0000\\x00\\0"),
    *("\"'`\u201c\u201d\u00ab", "null", "NaN", "1e400", "👩‍👩‍👧‍👦", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "السلام عليكم", "שָׁלוֹם"),
    *("Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢", "\u00e9", "e\u0301", "İıſßﬁ", "\u0430dmin", "a\u200bb\u00adc"),
    *("\uffff\ufffe\U0010ffff", "\ue000\U000f0000", "𠜎" * 255, "x" * 255),
)


def _texts(resource: Resource, member: str) -> Iterator[Probe]:
    others: list[JsonValue] = [0, 1.5, True, ["x"], {"x": "y"}]
    for value in [*_UNACCEPTABLE, *others]:
        body = _dump(resource.new() | {member: value})
        yield _post(resource, f"{value!a:.40} as {member}", body, INVALID)
    for text in _HARMLESS:
        yield Probe(
            f"POST {text!a:.40} as {member}",
            "POST",
            resource.path,
            frozenset({201}),
            _dump(resource.new() | {member: text}),
            (JSON,),
            shown=((member, text),),
        )


_NOT_KEYS = (
    *("0", "1", "-1", "9223372036854775808", "1.0", "null", "undefined", "NaN", "*", "..", "%20"),
    *("%00", "%2500", "%0d%0a", "%ff", "%ed%a0%80", "%2e%2e", "..%2f..%2fetc%2fpasswd"),
    *("'%20OR%201=1--", quote(f"{{{_UUID}}}"), f"urn:uuid:{_UUID}", _UUID * 2),
    *(quote(_UUID.replace("0", "\u0660")), "1" * 4000, "x" * 8000, CANARY),
    *(f"{_UUID}{end}" for end in ("%00", "%20", "%0a", ";a=b", ".json")),
)


def _keys(resource: Resource) -> Iterator[Probe]:
    """Keys that are malformed, or those of nothing."""
    for key in (_UUID, _UUID.upper(), str(UUID(int=0)), str(UUID(int=2**128 - 1))):
        yield Probe(f"GET {key}", "GET", resource.item(key), MISSING)
        yield Probe(f"DELETE {key}", "DELETE", resource.item(key), MISSING)
    for key in _NOT_KEYS:
        yield Probe(f"GET key {key[:40]}", "GET", resource.item(key), REFUSED | MISSING)
    for end in ("/", "/.."):
        yield Probe(f"GET key{end}", "GET", resource.item(_UUID) + end, MISSING)


_WRONG_LIMITS = (
    *("0", "-1", "101", "2147483648", "9223372036854775808", "1.5", "1e1", "0x10", "", "NaN"),
    *("Infinity", "true", "null", "%2b5", "5%00", "%d9%a3", "1_0", "9" * 30, "9" * 5000),
)
# Too short, too long, or not base64url.
_WRONG_CURSORS = (
    *("", "x", "%00", "%ff", "null", "1", "'%20OR%201=1--", str(UUID(int=0)), "%2b" * 22),
    *("A" * 21, "A" * 23, "A" * 21 + "B", "A" * 22 + "==", "A" * 22 + "%0a", "A" * 50_000),
)
_WRONG_QUERIES = (
    *(f"limit={value}" for value in _WRONG_LIMITS),
    *(f"cursor={value}" for value in _WRONG_CURSORS),
    *("limit[]=1", "limit%00=1", "LIMIT=1", "offset=-1", "page=0", "sort=password", "id=1"),
    *("order_by=;DROP", "_method=DELETE", "subject=x", "__class__=x", f"unknown={CANARY}"),
    *("%00=1", "=1", "&".join(f"a{number}=1" for number in range(2000))),
)
_GOOD_QUERIES = (
    *("", "&&&", "limit=1", "limit=100", "limit=1&limit=2"),
    *(f"cursor={'A' * 22}", f"cursor={'_' * 21}w", f"cursor={'_' * 21}w&limit=100"),
)


def _queries(resource: Resource) -> Iterator[Probe]:
    for query in _WRONG_QUERIES:
        yield Probe(f"GET ?{query[:40]}", "GET", resource.path, INVALID, query=query)
    for query in _GOOD_QUERIES:
        yield Probe(f"GET ?{query[:40]}", "GET", resource.path, OK, query=query)
    yield Probe("GET ?%", "GET", resource.path, OK | INVALID, query="%")


_MALFORMED_TAGS = (
    *("1", '"', '"1', "'1'", '"1",', ',"1"', '"1";', 'w/"1"', "W/1", "**", '*,"1"', '"a"b"'),
    *('"1" "2"', '"a b"', '"\xe9"', '"\x7f"', f'"{CANARY}', '"' * 50_001),
    ('"x"  ,\t ' * 5000) + "!",
)
_OTHER_TAGS = (
    *('W/"1"', '"0"', '"-1"', '"01"', '"1.0"', '""', '"9999999999999999999999999"'),
    *(f'"{CANARY}"', '"' + "x" * 1000 + '"', ", ".join(['"x"'] * 200)),
)
_LONG_TAGS = ('"' + "x" * 50_000 + '"', ", ".join(['"x"'] * 5000))


def _preconditions(resource: Resource, key: UUID) -> Iterator[Probe]:
    """If-Match in every wrong form, and changes of nothing or of what cannot be changed."""
    for values, statuses in (
        (_MALFORMED_TAGS, {400}),
        (_OTHER_TAGS, {412}),
        (_LONG_TAGS, {400}),
        (("", " "), {400, 428}),
    ):
        for value in values:
            headers = (JSON, ("if-match", value))
            name = f"If-Match {value[:30]!r}"
            yield _patch(resource, key, name, b"{}", frozenset(statuses), headers)
    yield _patch(resource, key, "without If-Match", b"{}", frozenset({428}), (JSON,))
    for body in (b"", b"null", b"[]", b'{"unknown": 1}', b'{"id": null}', b'{"version": 1}'):
        yield _patch(resource, key, f"{body!r}", body)
    operations = b'[{"op": "remove", "path": "/id"}]'
    kind = ("content-type", "application/json-patch+json")
    yield _patch(resource, key, "with patch operations", operations, headers=(kind, ANY_STATE))
