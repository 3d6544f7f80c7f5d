"""What the API's description says about the collections that a caller can add to."""

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import quote
from uuid import UUID

from tests.contract.probes import Body, JsonValue, Resource, fill

type Document = dict[str, Any]

NOTHING = UUID(int=0)
_FORMATS = {
    "uuid": str(NOTHING),
    "date": "2026-11-22",
    "date-time": "2026-11-22T12:43:00Z",
    "time": "12:43:00Z",
    "uri": "https://example.com/",
}
_counter = itertools.count(1)


def collections(document: Document) -> Iterator[Resource]:
    """Yield the paths that take a POST of a JSON object, with what such an object may be."""
    for path, item in document["paths"].items():
        content = item.get("post", {}).get("requestBody", {}).get("content", {})
        schema = _resolve(document, content.get("application/json", {}).get("schema", {}))
        if schema.get("type") == "object":
            new = partial(_object, document, schema)
            required = tuple(schema.get("required", ()))
            encoded = quote(fill(path, str(NOTHING)))
            yield Resource(encoded, new, required, _text(document, schema))


def _text(document: Document, schema: Document) -> str | None:
    """Return a member that takes any text, an optional one if possible: nothing depends on it."""
    members = {name: _resolve(document, it) for name, it in schema.get("properties", {}).items()}
    texts = [
        name
        for name, it in members.items()
        if it.get("type") == "string" and not it.keys() & {"const", "enum", "format"}
    ]
    optional = [name for name in texts if name not in schema.get("required", ())]
    return next(iter(optional + texts), None)


def _resolve(document: Document, schema: Document) -> Document:
    """Follow references, and take the first alternative that is not null."""
    while True:
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        elif alternatives := (schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")):
            schema = next((it for it in alternatives if it.get("type") != "null"), {})
        else:
            return schema


def _object(document: Document, schema: Document) -> Body:
    properties = schema.get("properties", {})
    return {
        name: _sample(document, properties.get(name, {})) for name in schema.get("required", ())
    }


def _sample(document: Document, schema: Document) -> JsonValue:
    """Return a value that fits a schema, if that is simple; another one each time."""
    schema = _resolve(document, schema)
    number = next(_counter)
    value: JsonValue = schema.get("const", schema.get("enum", [schema.get("minimum")])[0])
    match schema.get("type"):
        case _ if value is not None:
            return value
        case "string" if schema.get("format") == "email":
            return f"probe-{number}@example.com"
        case "string":
            longest = schema.get("maxLength", 255)
            return str(_FORMATS.get(schema.get("format", ""), f"probe-{number}"[-longest:]))
        case "integer" | "number":
            return 1
        case "boolean":
            return True
        case "array":
            return [_sample(document, schema.get("items", {}))] * schema.get("minItems", 0)
        case "object":
            return _object(document, schema)
    return None
