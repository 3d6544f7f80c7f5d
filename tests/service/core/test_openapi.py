"""The API's description of itself."""

from typing import Annotated, Any

import pytest
from fastapi import FastAPI, Security
from fastapi.security import HTTPBearer

from app.core.etag import IfMatch, OptionalIfMatch
from app.core.openapi import describe_problems
from app.core.schema import RequestSchema, ShortText


class Body(RequestSchema):
    title: ShortText


@pytest.fixture
def paths() -> dict[str, Any]:
    app = FastAPI()
    bearer = HTTPBearer()

    @app.get("/status")
    async def read_status() -> str:
        return "ok"

    @app.post("/note", status_code=201)
    async def create_note(body: Body, _token: Annotated[object, Security(bearer)]) -> None: ...

    @app.get("/note/{key}")
    async def read_note(key: int) -> None: ...

    @app.patch("/note/{key}")
    async def change_note(key: int, body: Body, if_match: IfMatch) -> None: ...

    @app.delete("/note/{key}", status_code=204)
    async def delete_note(key: int, if_match: OptionalIfMatch) -> None: ...

    describe = describe_problems(app, "https://sso.example.com")
    describe()
    # The second time, FastAPI hands out what the first has made.
    document: dict[str, Any] = describe()
    paths: dict[str, Any] = document["paths"]
    return paths


@pytest.mark.parametrize(
    ("method", "path", "statuses"),
    [
        ("get", "/status", {"200", "default"}),
        ("post", "/note", {"201", "401", "403", "409", "413", "422", "default"}),
        ("get", "/note/{key}", {"200", "404", "422", "default"}),
        (
            "patch",
            "/note/{key}",
            {"200", "404", "409", "412", "413", "422", "428", "default"},
        ),
        ("delete", "/note/{key}", {"204", "404", "412", "422", "default"}),
    ],
)
def test_each_operation_names_the_problems_that_follow_from_what_it_asks_for(
    paths: dict[str, Any], method: str, path: str, statuses: set[str]
) -> None:
    responses = paths[path][method]["responses"]
    assert set(responses) == statuses
    for status in statuses - {"200", "201", "204"}:
        assert "application/problem+json" in responses[status]["content"]


@pytest.mark.parametrize(("method", "is_required"), [("patch", True), ("delete", False)])
def test_if_match_is_a_line_of_entity_tags(
    paths: dict[str, Any], method: str, is_required: bool
) -> None:
    """FastAPI reads it as a list that may be absent, so that the answer is 428 and not 422."""
    parameters = paths["/note/{key}"][method]["parameters"]
    (if_match,) = [it for it in parameters if it["in"] == "header"]
    assert (if_match["name"], if_match["required"]) == ("If-Match", is_required)
    assert if_match["schema"]["type"] == "string"


def test_where_the_etag_comes_from_is_described(paths: dict[str, Any]) -> None:
    assert "ETag" in paths["/note/{key}"]["get"]["responses"]["200"]["headers"]
    assert set(paths["/note"]["post"]["responses"]["201"]["headers"]) == {"ETag", "Location"}
    assert "headers" not in paths["/status"]["get"]["responses"]["200"]
