"""Requests that only the template's own code can answer wrongly, beside those of the contract."""

import json
from collections.abc import Iterator
from uuid import UUID

from tests.contract import probes
from tests.contract.probes import (
    CANARY,
    JSON,
    MISSING,
    NOT_ALLOWED,
    ODD_HEADERS,
    OK,
    REFUSED,
    Probe,
    Resource,
)

# Paths that no service should know.
_UNKNOWN_PATHS = (
    *("/%00", "/%0d%0aset-cookie:%20a=b", "/%2e%2e/%2e%2e/etc/passwd", "/../../etc/passwd"),
    *("/..%5c..%5cwindows%5cwin.ini", "/%c0%ae%c0%ae/etc/passwd", "/%ff%fe", "/%ed%a0%80"),
    *("/.env", "/.git/config", "/api", "/api/v1", "/api/v1/", "/api/v1//user", "/API/V1/USER/"),
    *("//evil.example.com/", "/health/", "/health%00", "/health;jsessionid=1", "/HEALTH"),
    *("/actuator/env", "/$%7bjndi:ldap://127.0.0.1/a%7d", "/%7b%7b7*7%7d%7d"),
    *("/" + "a" * 8000, "/" + "a/" * 4000, "/" + "%F0%9F%92%A9" * 500),
)
_MEDIA_TYPES = (
    *("", "/", ";", "json", "\xff\xfe", "application/" + "x" * 10_000, "application/jsonp"),
    *("text/plain", "text/html", "text/json", "application/xml", "application/octet-stream"),
    *("application/x-www-form-urlencoded", "multipart/form-data", "multipart/form-data; boundary="),
    "multipart/form-data; boundary=" + "x" * 1000,
)
_CREDENTIALS = (
    *("", " ", "\t", "Bearer", "Bearer ", "Bearer \x00", "Bearer \xff\xfe", "Bearer a b"),
    *("Bearer a,b", "Bearer ..", "Bearer null", "Bearer undefined", CANARY),
    *("Bearer eyJhbGciOiJub25lIn0.e30.", "Bearer " + "x" * 8193, "Bearer " + "x" * 100_000),
    *("Bearer Bearer x", "Basic Og==", "Basic !!!", "Digest username=", "Negotiate"),
)


def service_probes() -> Iterator[Probe]:
    """Probes of /health, which every service has, and of paths that none has."""
    for path in _UNKNOWN_PATHS:
        yield Probe(f"unknown path {path[:40]}", "GET", path, MISSING)
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"):
        yield Probe(f"{method} to an unknown path", method, f"/{CANARY}", MISSING)
    yield Probe("health", "GET", "/health", OK)
    yield Probe("health HEAD", "HEAD", "/health", OK)
    yield Probe("health encoded", "GET", "/%68ealth", OK)
    yield Probe("health with a body", "GET", "/health", OK, b"\xff" * 1000)
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get", "GET\t", "X" * 1000):
        yield Probe(f"health {method[:20]!r}", method, "/health", NOT_ALLOWED)
    for header in ODD_HEADERS:
        yield Probe(f"health with {header!r:.50}", "GET", "/health", OK, headers=(header,))
    for query in ("a=%00", "a=%ff", "&&&=;=", "a=" + "b" * 60_000, "&".join(["a=b"] * 5000), "%"):
        yield Probe(f"health ?{query[:20]}", "GET", "/health", OK, query=query)


def resource_probes(resource: Resource, key: UUID) -> Iterator[Probe]:
    """The probes of the contract, and those that are about no route in particular."""
    yield from probes.resource_probes(resource, key)
    yield from _media_types(resource)
    yield from _credentials(resource, key)
    yield from _methods(resource, key)


def _media_types(resource: Resource) -> Iterator[Probe]:
    body, unsupported = json.dumps(resource.new()).encode(), REFUSED | {415}
    for kind in _MEDIA_TYPES:
        sent = (("content-type", kind),)
        yield Probe(f"POST as {kind!r:.40}", "POST", resource.path, unsupported, body, sent)
    yield Probe("POST without a content type", "POST", resource.path, unsupported, body)
    for kind in ("application/json; charset=utf-16", "application/problem+json"):
        body = json.dumps(resource.new()).encode()
        sent = (("content-type", kind),)
        yield Probe(f"POST as {kind}", "POST", resource.path, frozenset({201}), body, sent)


def _credentials(resource: Resource, key: UUID) -> Iterator[Probe]:
    refused, item = frozenset({400, 401}), resource.item(key)
    for value in _CREDENTIALS:
        name, sent = f"GET Authorization {value[:30]!r}", (("authorization", value),)
        yield Probe(name, "GET", item, refused, headers=sent)
    twice = (("authorization", "Bearer a"), ("authorization", "Bearer b"))
    yield Probe("GET Authorization twice", "GET", item, refused, headers=twice)
    # FastAPI reads the body first; the answer may say that it is not JSON.
    unknown = (JSON, ("authorization", f"Bearer {CANARY}"))
    statuses = refused | {422}
    yield Probe("POST by a stranger", "POST", resource.path, statuses, b"\x00", unknown)
    # RFC 6750 §2.3 advises against a token in the query; only the header counts.
    query, nothing = f"access_token={CANARY}", (("authorization", ""),)
    name = "GET an access token in the query"
    yield Probe(name, "GET", resource.path, refused, headers=nothing, query=query)


def _methods(resource: Resource, key: UUID) -> Iterator[Probe]:
    for method in ("POST", "PUT", "OPTIONS", "TRACE", "PROPFIND", "X" * 1000):
        name = f"{method[:20]} to the resource"
        yield Probe(name, method, resource.item(key), NOT_ALLOWED)
    yield Probe("CONNECT to the collection", "CONNECT", resource.path, NOT_ALLOWED)
    if resource.path.endswith("/"):
        yield Probe("GET without the slash", "GET", resource.path[:-1], MISSING)
    yield Probe("GET with two slashes", "GET", f"{resource.path}/", MISSING)
