"""The API's description of itself, where FastAPI's own would be wrong about this service."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from app.core.etag import IF_MATCH_PATTERN, OPTIONAL_STATE

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
_HEADERS = {
    "ETag": {
        "description": "The state of the resource, for If-Match",
        "schema": {"type": "string"},
    },
    "Location": {
        "description": "Where the resource is",
        "schema": {"type": "string", "format": "uri-reference"},
    },
}

# The security scheme of ``introspect_token``, and the other way to come by a token.
_LOGIN = "SSO"
_TOKEN_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token that you have already.",
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
                    _describe_login(operation)
                    _describe_scopes(operation)
                    _describe_if_match(operation)
                    _describe_errors(operation)
                _describe_etag(item)
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


def _describe_login(operation: dict[str, Any]) -> None:
    """Offer to paste a token, wherever the API offers to log in for one."""
    security: list[dict[str, list[str]]] = operation.get("security", [])
    scopes = next((scheme[_LOGIN] for scheme in security if _LOGIN in scheme), None)
    if scopes is not None and {"Token": scopes} not in security:
        security.append({"Token": scopes})


def _describe_scopes(operation: dict[str, Any]) -> None:
    """Name the scopes in the text too: to log in, the page offers those of the provider only."""
    schemes: list[dict[str, list[str]]] = operation.get("security", [])
    scopes = sorted({it for scheme in schemes for wanted in scheme.values() for it in wanted})
    text = f"Scope: {', '.join(f'`{scope}`' for scope in scopes)}."
    said = operation.get("description", "")
    if scopes and text not in said:
        operation["description"] = f"{said}\n\n{text}".strip()


def _if_match(operation: dict[str, Any]) -> dict[str, Any] | None:
    """Return the operation's parameter If-Match."""
    parameters: list[dict[str, Any]] = operation.get("parameters", [])
    named = (it for it in parameters if (it["in"], it["name"].lower()) == ("header", "if-match"))
    return next(named, None)


def _describe_if_match(operation: dict[str, Any]) -> None:
    """Say where the header is required: FastAPI is not told, or it would answer 422, not 428."""
    if parameter := _if_match(operation):
        parameter["name"] = "If-Match"
        parameter["required"] = parameter["description"] != OPTIONAL_STATE
        parameter["schema"] = {"type": "string", "pattern": IF_MATCH_PATTERN}
        if parameter["required"]:
            # Not *, which the documentation page would send for those who change nothing else.
            parameter["example"] = '"1"'


def _describe_etag(item: dict[str, Any]) -> None:
    """Say where the ETag that If-Match wants comes from, and where a new resource is."""
    versioned = any(_if_match(operation) for operation in item.values())
    for operation in item.values():
        for status, response in operation["responses"].items():
            if status == "201":
                response.setdefault("headers", {}).update(_HEADERS)
            elif status == "200" and versioned:
                response.setdefault("headers", {})["ETag"] = _HEADERS["ETag"]


def _describe_errors(operation: dict[str, Any]) -> None:
    """Replace FastAPI's 422 by the problem document; what a route declares itself stays."""
    responses: dict[str, Any] = operation["responses"]
    if responses.get("422", {}).get("content") == _FASTAPI_422:
        del responses["422"]
    any_other = "The request was not carried out; the document says why."
    responses.setdefault("default", _problem_response(any_other, HTTPStatus.SERVICE_UNAVAILABLE))
    for status in map(HTTPStatus, _expected_statuses(operation)):
        responses.setdefault(str(status.value), _problem_response(status.phrase, status))


def _problem_response(description: str, example: HTTPStatus) -> dict[str, Any]:
    document = {"type": "about:blank", "title": example.phrase, "status": example.value}
    schema = {"$ref": "#/components/schemas/Problem"}
    content = {"application/problem+json": {"schema": schema, "example": document}}
    return {"description": description, "content": content}


def _expected_statuses(operation: dict[str, Any]) -> list[int]:
    """Return the errors that follow from what the operation asks for, beside those of any."""
    expected: list[int] = []
    parameters = operation.get("parameters", [])
    if operation.get("security"):
        expected += [401, 403]
    if any(parameter["in"] == "path" for parameter in parameters):
        expected += [404]
    if "requestBody" in operation:
        expected += [409, 413]
    if if_match := _if_match(operation):
        expected += [412, 428] if if_match["required"] else [412]
    if parameters or "requestBody" in operation:
        expected += [422]
    return sorted(expected)
