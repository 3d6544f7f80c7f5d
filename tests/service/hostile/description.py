"""What the API's description says about itself, as far as the probes need to know."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from tests.service.hostile.probes import Body, JsonValue, Resource

type Document = dict[str, Any]

NOBODY = UUID(int=0)
_FORMATS = {
    "uuid": str(NOBODY),
    "date": "2026-11-22",
    "date-time": "2026-11-22T12:43:00Z",
    "time": "12:43:00Z",
    "uri": "https://example.com/",
}
_counter = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of a path, such as ``GET /api/v1/user/{user_id}``."""

    method: str
    path: str
    definition: Document


def operations(document: Document) -> Iterator[Operation]:
    """Yield what the service offers."""
    for path, item in document["paths"].items():
        for method, definition in item.items():
            yield Operation(method.upper(), path, definition)


def scopes(document: Document) -> list[str]:
    """Return the scopes of a caller who may do everything."""
    requirements = (
        requirement
        for operation in operations(document)
        for requirement in operation.definition.get("security", [])
    )
    return sorted(
        {scope for requirement in requirements for it in requirement.values() for scope in it}
    )


def collections(document: Document) -> Iterator[Resource]:
    """Yield what a caller can add to by a POST of a JSON object."""
    for operation in operations(document):
        content = operation.definition.get("requestBody", {}).get("content", {})
        schema = _resolve(document, content.get("application/json", {}).get("schema", {}))
        if operation.method == "POST" and schema.get("type") == "object":
            yield Resource(
                re.sub(r"\{[^}]*\}", str(NOBODY), operation.path),
                partial(_sample_object, document, schema),
                tuple(schema.get("required", ())),
                _text(document, schema),
            )


def _text(document: Document, schema: Document) -> str | None:
    """Return a member that takes text, one that nothing else depends on where there is one."""
    properties = schema.get("properties", {})
    texts = [name for name, it in properties.items() if isinstance(_sample(document, it), str)]
    optional = [name for name in texts if name not in schema.get("required", ())]
    return next(iter(optional + texts), None)


def _resolve(document: Document, schema: Document) -> Document:
    """Follow a reference, or take the first alternative that is not null."""
    while True:
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        elif alternatives := (schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")):
            schema = next((it for it in alternatives if it.get("type") != "null"), {})
        else:
            return schema


def _sample_object(document: Document, schema: Document) -> Body:
    properties = schema.get("properties", {})
    return {
        name: _sample(document, properties.get(name, {})) for name in schema.get("required", ())
    }


def _sample(document: Document, schema: Document) -> JsonValue:
    """Return a value that fits a schema, if that is simple."""
    schema = _resolve(document, schema)
    number = next(_counter)
    value: JsonValue
    if "enum" in schema or "const" in schema:
        value = schema.get("const", schema.get("enum", [None])[0])
        return value
    match schema.get("type"):
        case "string" if schema.get("format") == "email":
            return f"probe-{number}@example.com"
        case "string":
            longest = schema.get("maxLength", 255)
            return str(_FORMATS.get(schema.get("format", ""), f"probe-{number}"[-longest:]))
        case "integer" | "number":
            value = schema.get("minimum", 1)
            return value
        case "boolean":
            return True
        case "array":
            return [_sample(document, schema.get("items", {}))] * schema.get("minItems", 0)
        case "object":
            return _sample_object(document, schema)
    return None
