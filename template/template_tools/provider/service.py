"""What the service says of itself, in the description that its docs page shows too."""

import json
from dataclasses import dataclass

from pydantic import JsonValue

from template_tools.loopback import NO_ANSWER, request
from template_tools.messages import _
from template_tools.provider.forms import is_scope

# A service that reloads after a change needs a moment.
_SECONDS = 3


@dataclass(frozen=True)
class ServiceDescription:
    """What is known of the service.

    `path` is a route that a token opens, to try it. `problem` is a sentence that says why the rest
    is unknown.
    """

    title: str = _("The service")
    scopes: tuple[str, ...] = ()
    path: str = "/api/v1/user/me"
    problem: str | None = None


def describe_service(url: str) -> ServiceDescription:
    """Ask the service at `url` which scopes its routes require; this blocks for up to 3 seconds.

    Without a URL nothing is asked, and nothing is known.
    """
    if not url:
        return ServiceDescription()
    try:
        status, body = request(f"{url}/openapi.json", timeout=_SECONDS)
        document = json.loads(body) if status == 200 else None
    except NO_ANSWER:
        problem = _(
            "The service does not answer at {url}, so the scopes of its routes are unknown; the "
            "terminal of `uv run poe dev` says why.",
            url=url,
        )
        return ServiceDescription(problem=problem)
    if not isinstance(document, dict):
        problem = _(
            "{url} is no description, so the scopes of the routes are unknown.",
            url=f"{url}/openapi.json",
        )
        return ServiceDescription(problem=problem)
    return _read(document)


def _read(document: dict[str, JsonValue]) -> ServiceDescription:
    scopes: set[str] = set()
    to_try: list[str] = []
    for path, methods in _members(document.get("paths")):
        for method, operation in _members(methods):
            security = operation.get("security") if isinstance(operation, dict) else None
            required = [it for scheme in _items(security) for _name, it in _members(scheme)]
            scopes |= {it for words in required for it in _items(words) if is_scope(it)}
            if method == "get" and required and "{" not in path:
                to_try.append(path)
    usual = ServiceDescription()
    title = dict(_members(document.get("info"))).get("title")
    return ServiceDescription(
        title=title if isinstance(title, str) else usual.title,
        scopes=tuple(sorted(scopes)),
        path=usual.path if usual.path in to_try or not to_try else to_try[0],
    )


def _members(value: JsonValue) -> list[tuple[str, JsonValue]]:
    return [*value.items()] if isinstance(value, dict) else []


def _items(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []
