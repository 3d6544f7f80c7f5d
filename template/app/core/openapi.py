"""The API's description of itself, where FastAPI's own would be wrong about this service."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

_PROBLEM = {
    "type": "object",
    "title": "Problem",
    "description": "An error, as RFC 9457 describes it.",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}
_PROBLEM_RESPONSE = {
    "description": "The request was not carried out; the document says why.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def describe_problems(app: FastAPI, sso_issuer: str) -> Callable[[], dict[str, Any]]:
    """Return a replacement for ``app.openapi``.

    Every operation answers errors with a problem document, which replaces FastAPI's own 422
    model, and the security scheme names the provider that the settings name.
    """
    build = app.openapi

    def openapi() -> dict[str, Any]:
        document = build()
        components = document.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        schemas["Problem"] = _PROBLEM
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
                operation["responses"]["default"] = _PROBLEM_RESPONSE
        for scheme in components.get("securitySchemes", {}).values():
            if scheme["type"] == "openIdConnect":
                discovery = sso_issuer.rstrip("/") + "/.well-known/openid-configuration"
                scheme["openIdConnectUrl"] = discovery
        return document

    return openapi
