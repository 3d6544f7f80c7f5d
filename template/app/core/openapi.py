"""The OpenAPI description, corrected where FastAPI's would be wrong about this service."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from fastapi import FastAPI

from app.core.etag import IF_MATCH_PATTERN, OPTIONAL_DESCRIPTION

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
_ERROR = {
    "description": "An error: the request was not carried out; after a 504 this is uncertain",
    "content": {
        "application/problem+json": {
            "schema": {"$ref": "#/components/schemas/Problem"},
            "example": {"type": "about:blank", "title": "Service Unavailable", "status": 503},
        }
    },
}
_FASTAPI_422 = {
    "application/json": {"schema": {"$ref": "#/components/schemas/HTTPValidationError"}}
}
_ETAG = {"description": "The state of the resource, for If-Match", "schema": {"type": "string"}}
_LOCATION = {
    "description": "The URL of the resource",
    "schema": {"type": "string", "format": "uri-reference"},
}

# The security scheme of ``introspect_token``, and the one for pasting a token.
_LOGIN = "SSO"
_TOKEN_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token that you have already.",
}

# Marks a route that needs no token: ``@router.get("/status", openapi_extra=PUBLIC)``. A test
# requires either this or a token of every route.
PUBLIC: dict[str, Any] = {"security": []}


def describe_problems(app: FastAPI, sso_issuer: str) -> Callable[[], dict[str, Any]]:
    """Return a replacement for ``app.openapi``.

    In the description, errors are problem documents instead of FastAPI's 422 model, the security
    scheme names the provider of the settings, and ``If-Match`` and ``ETag`` are explained.
    """
    build = app.openapi

    def openapi() -> dict[str, Any]:
        document = build()
        components = document.setdefault("components", {})
        for section in ("paths", "webhooks"):
            for item in document.get(section, {}).values():
                versioned = [it for it in item.values() if _describe_if_match(it)]
                for operation in item.values():
                    _describe_login(operation)
                    _describe_scopes(operation)
                    _describe_responses(operation["responses"], has_etag=bool(versioned))
        schemas = components.setdefault("schemas", {})
        schemas["Problem"] = _PROBLEM
        for replaced in ("HTTPValidationError", "ValidationError"):
            schemas.pop(replaced, None)
        if login := components.get("securitySchemes", {}).get(_LOGIN):
            discovery = sso_issuer.rstrip("/") + "/.well-known/openid-configuration"
            login["openIdConnectUrl"] = discovery
            components["securitySchemes"].setdefault("Token", _TOKEN_SCHEME)
        return document

    return openapi


def _describe_if_match(operation: dict[str, Any]) -> bool:
    """Describe the parameter If-Match, and return whether the operation has it.

    FastAPI is not told that it is required, or it would answer 422 instead of 428 (RFC 6585 §3).
    """
    for parameter in operation.get("parameters", []):
        if (parameter["in"], parameter["name"].lower()) == ("header", "if-match"):
            parameter["name"] = "If-Match"
            parameter["required"] = parameter["description"] != OPTIONAL_DESCRIPTION
            parameter["schema"] = {"type": "string", "pattern": IF_MATCH_PATTERN}
            if parameter["required"]:
                # The documentation page would send *, which checks nothing.
                parameter["example"] = '"1"'
            return True
    return False


def _describe_login(operation: dict[str, Any]) -> None:
    """Offer to paste a token, wherever the API offers to log in for one."""
    security: list[dict[str, list[str]]] = operation.get("security", [])
    scopes = next((scheme[_LOGIN] for scheme in security if _LOGIN in scheme), None)
    if scopes is not None and {"Token": scopes} not in security:
        security.append({"Token": [*scopes]})


def _describe_scopes(operation: dict[str, Any]) -> None:
    """Name the scopes in the text, because the documentation page shows only the provider's."""
    schemes: list[dict[str, list[str]]] = operation.get("security", [])
    scopes = sorted({it for scheme in schemes for wanted in scheme.values() for it in wanted})
    text = f"Scope: {', '.join(f'`{scope}`' for scope in scopes)}."
    description = operation.get("description", "")
    if scopes and text not in description:
        operation["description"] = f"{description}\n\n{text}".strip()


def _describe_responses(responses: dict[str, Any], *, has_etag: bool) -> None:
    """Describe errors, and the headers of successes; what a route declares itself stays."""
    if responses.get("422", {}).get("content") == _FASTAPI_422:
        del responses["422"]
    responses.setdefault("default", deepcopy(_ERROR))
    if "201" in responses:
        responses["201"].setdefault("headers", {}).update(ETag=_ETAG, Location=_LOCATION)
    if has_etag and "200" in responses:
        responses["200"].setdefault("headers", {})["ETag"] = _ETAG
