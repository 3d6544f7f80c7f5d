"""The API's description of itself."""

import re
import shutil
from collections.abc import Iterator
from typing import Annotated, Any

import anyio
import pytest
from fastapi import FastAPI, Security
from fastapi.security import HTTPBearer, OpenIdConnect

from app.core import schema
from app.core.etag import IF_MATCH_PATTERN, IfMatch, OptionalIfMatch
from app.core.openapi import describe_problems
from app.core.schema import RequestSchema, ShortText


class Body(RequestSchema):
    title: ShortText


@pytest.fixture
def document() -> dict[str, Any]:
    app = FastAPI()
    bearer = HTTPBearer()
    token = OpenIdConnect(openIdConnectUrl="unset", scheme_name="SSO")

    @app.get("/status")
    async def read_status() -> str:
        return "ok"

    @app.post("/note", status_code=201)
    async def create_note(
        body: Body,
        _token: Annotated[object, Security(token, scopes=["note:write", "note:read"])],
    ) -> None:
        """Make a note."""

    @app.get("/note/{key}")
    async def read_note(key: int, _token: Annotated[object, Security(bearer)]) -> None: ...

    @app.patch("/note/{key}", responses={404: {"description": "gone"}, 422: {"model": Body}})
    async def change_note(key: int, body: Body, if_match: IfMatch) -> None: ...

    @app.delete("/note/{key}", status_code=204)
    async def delete_note(key: int, if_match: OptionalIfMatch) -> None: ...

    describe = describe_problems(app, "https://sso.example.com/realms/main/")
    describe()
    # The second time, FastAPI hands out what the first has made.
    return describe()


@pytest.fixture
def paths(document: dict[str, Any]) -> dict[str, Any]:
    paths: dict[str, Any] = document["paths"]
    return paths


@pytest.mark.parametrize(
    ("method", "path", "statuses"),
    [
        ("get", "/status", {"200", "default"}),
        ("post", "/note", {"201", "default"}),
        ("get", "/note/{key}", {"200", "default"}),
        ("patch", "/note/{key}", {"200", "404", "422", "default"}),
        ("delete", "/note/{key}", {"204", "default"}),
    ],
)
def test_every_error_of_an_operation_is_described_as_a_problem_document(
    document: dict[str, Any], method: str, path: str, statuses: set[str]
) -> None:
    """One description fits all of them; what a route declares itself stays beside it."""
    responses = document["paths"][path][method]["responses"]
    assert set(responses) == statuses
    content = responses["default"]["content"]
    assert content["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}
    schemas = document["components"]["schemas"]
    assert schemas["Problem"]["required"] == ["type", "title", "status"]
    assert not {"HTTPValidationError", "ValidationError"} & set(schemas)


def test_the_scopes_are_named_in_the_text(document: dict[str, Any]) -> None:
    """The documentation page offers the provider's scopes only."""
    operation = document["paths"]["/note"]["post"]
    assert operation["description"] == "Make a note.\n\nScope: `note:read`, `note:write`."
    assert "Scope" not in document["paths"]["/status"]["get"].get("description", "")


def test_the_security_scheme_leads_to_the_provider_of_the_settings(
    document: dict[str, Any],
) -> None:
    schemes = document["components"]["securitySchemes"]
    url = "https://sso.example.com/realms/main/.well-known/openid-configuration"
    assert schemes["SSO"]["openIdConnectUrl"] == url
    assert "openIdConnectUrl" not in schemes["HTTPBearer"]


def test_a_token_can_be_pasted_wherever_one_can_log_in(document: dict[str, Any]) -> None:
    scopes = ["note:write", "note:read"]
    security = document["paths"]["/note"]["post"]["security"]
    assert security == [{"SSO": scopes}, {"Token": scopes}]
    assert document["paths"]["/note/{key}"]["get"]["security"] == [{"HTTPBearer": []}]


@pytest.mark.parametrize(("method", "is_required"), [("patch", True), ("delete", False)])
def test_if_match_is_a_line_of_entity_tags(
    paths: dict[str, Any], method: str, is_required: bool
) -> None:
    """FastAPI reads it as a list that may be absent, so that the answer is 428 and not 422."""
    parameters = paths["/note/{key}"][method]["parameters"]
    (if_match,) = [it for it in parameters if it["in"] == "header"]
    assert (if_match["name"], if_match["required"]) == ("If-Match", is_required)
    assert if_match["schema"] == {"type": "string", "pattern": IF_MATCH_PATTERN}
    assert if_match.get("example") == ('"1"' if is_required else None)


def test_where_the_etag_comes_from_is_described(paths: dict[str, Any]) -> None:
    assert "ETag" in paths["/note/{key}"]["get"]["responses"]["200"]["headers"]
    assert set(paths["/note"]["post"]["responses"]["201"]["headers"]) == {"ETag", "Location"}
    assert "headers" not in paths["/status"]["get"]["responses"]["200"]


def patterns(part: object) -> Iterator[str]:
    """Yield each regular expression of a description."""
    if isinstance(part, dict):
        if isinstance(part.get("pattern"), str):
            yield part["pattern"]
        part = list(part.values())
    if isinstance(part, list):
        for it in part:
            yield from patterns(it)


class EveryType(RequestSchema):
    """A member of each type that a resource is made of."""

    line: schema.ShortText
    text: schema.LongText
    email: schema.Email
    integer: schema.Integer
    number: schema.Number
    amount: schema.Amount
    boolean: schema.Boolean
    day: schema.Day
    timestamp: schema.Timestamp


# What RE2 knows, which clients in Go and Rust compile: no look-around, reference or \\u.
RE2 = re.compile(r"(?:[^\\(]|\((?:\?:|(?!\?))|\\(?:[dDwWsStnrfv]|x[0-9a-f]{2}|[^\w]))+")


async def test_each_pattern_can_be_compiled_in_every_language(application: FastAPI) -> None:
    described: dict[str, Any] = application.openapi()
    found = {*patterns(described), *patterns(EveryType.model_json_schema())}
    assert len(found) > 3, "of a line, of a text, of If-Match and of a cursor"
    for pattern in found:
        assert RE2.fullmatch(pattern), pattern
        re.compile(pattern)
        if node := shutil.which("node"):
            script = "new RegExp(process.argv[1], 'u'); new RegExp(process.argv[1])"
            await anyio.run_process([node, "-e", script, pattern])


def test_what_re2_does_not_know_is_found() -> None:
    """Or the test above would accept everything."""
    for pattern in ("a(?!b)", "a(?=b)", "(?<=a)b", r"(a)\1", r"\u202a", "(?P<a>b)"):
        assert not RE2.fullmatch(pattern), pattern
    for pattern in (r"^(a|b)(?:c)*[\x00-\x1f]\"$", r"\d+\.\d"):
        assert RE2.fullmatch(pattern), pattern
