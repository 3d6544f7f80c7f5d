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
_FASTAPI_422 = {
    "application/json": {"schema": {"$ref": "#/components/schemas/HTTPValidationError"}}
}
_PROBLEM_RESPONSE = {
    "description": "The request was not carried out; the document says why.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


# A route that nobody needs a token for says so: ``@router.get("/status", openapi_extra=PUBLIC)``.
# A test walks every route, and wants either this or a token.
PUBLIC: dict[str, Any] = {"security": []}


def describe_problems(app: FastAPI, sso_issuer: str) -> Callable[[], dict[str, Any]]:
    """Return a replacement for ``app.openapi``.

    Every operation answers errors with a problem document, which replaces FastAPI's own 422
    model, and the security scheme names the provider that the settings name.
    """
    build = app.openapi

    def openapi() -> dict[str, Any]:
        document = build()
        components = document.setdefault("components", {})
        for section in ("paths", "webhooks"):
            for item in document.get(section, {}).values():
                for operation in item.values():
                    _describe_errors(operation["responses"])
        schemas = components.setdefault("schemas", {})
        schemas["Problem"] = _PROBLEM
        for replaced in ("HTTPValidationError", "ValidationError"):
            schemas.pop(replaced, None)
        for scheme in components.get("securitySchemes", {}).values():
            if scheme["type"] == "openIdConnect":
                discovery = sso_issuer.rstrip("/") + "/.well-known/openid-configuration"
                scheme["openIdConnectUrl"] = discovery
        return document

    return openapi


def _describe_errors(responses: dict[str, Any]) -> None:
    """Replace FastAPI's 422 by the problem document; what a route declares itself stays."""
    if responses.get("422", {}).get("content") == _FASTAPI_422:
        del responses["422"]
    responses.setdefault("default", _PROBLEM_RESPONSE)
