"""What If-Match may say, and what it then means."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import pytest
from fastapi import Response

from app.core.errors import BadRequest, PreconditionFailed, PreconditionRequired
from app.core.etag import (
    IF_MATCH_PATTERN,
    Precondition,
    read_optional_precondition,
    read_precondition,
    set_etag,
    set_location,
)


@dataclass
class Row:
    id: UUID
    version: int


ROW = Row(UUID(int=7), 3)


@pytest.mark.parametrize(
    "value",
    ["*", " * ", '"3"', '"1", "3"', '"1","3"', '"1" ,\t"3"', 'W/"3", "3"', ' "3" ', '"a,b", "3"'],
)
def test_a_change_of_the_state_that_was_read_is_meant(value: str) -> None:
    read_precondition([value]).check(ROW)


@pytest.mark.parametrize(
    "value", ['"2"', 'W/"3"', '""', '"03"', '"3 "'.replace(" ", "!"), '"2", W/"3"', '"*"', '"1,3"']
)
def test_a_change_of_another_state_is_not(value: str) -> None:
    with pytest.raises(PreconditionFailed):
        read_precondition([value]).check(ROW)


def test_where_nothing_need_be_said_what_is_said_holds() -> None:
    read_optional_precondition(None).check(ROW)
    read_optional_precondition(['"3"']).check(ROW)
    with pytest.raises(PreconditionFailed):
        read_optional_precondition(['"2"']).check(ROW)
    with pytest.raises(BadRequest):
        read_optional_precondition([""])


@pytest.mark.parametrize("values", [None, [], [""], ["  "], ["", ""]])
def test_a_caller_must_say_what_state_is_meant(values: list[str] | None) -> None:
    with pytest.raises(PreconditionRequired):
        read_precondition(values)


@pytest.mark.parametrize(
    "value",
    [
        "3",
        '"3',
        '3"',
        "'3'",
        '"3" "4"',
        '"3";"4"',
        'w/"3"',
        "W/3",
        "**",
        '*, "3"',
        '"3", *',
        '"a"b"',
        '"a b"',
        '"\x00"',
        '"\x7f"',
        '"\xe9"',
        '"\u0663"',
        '"3"\n',
        '"' * 50_001,
        '"x",' * 20_000 + "!",
        '"x"' + " " * 50_000 + "!",
    ],
    ids=lambda value: ascii(value[:12]),
)
def test_what_is_no_list_of_entity_tags_is_refused(value: str) -> None:
    """At once, too: a pattern that tries everything twice would take minutes for the last ones."""
    with pytest.raises(BadRequest):
        read_precondition([value])


@pytest.mark.parametrize("read", [read_precondition, read_optional_precondition])
@pytest.mark.parametrize("values", [['"1"', '"3"'], ['"3"', '"1"'], ["", '"3"', '"1", "2"']])
def test_several_headers_are_one_list(
    read: Callable[[list[str] | None], Precondition], values: list[str]
) -> None:
    read(values).check(ROW)


@pytest.mark.parametrize("value", ["*", '"3"', 'W/"3", "4"', '""'])
def test_the_description_says_what_is_accepted(value: str) -> None:
    assert re.fullmatch(IF_MATCH_PATTERN, value)
    read_precondition([value])


def test_an_answer_names_the_state_and_the_place() -> None:
    response = Response()
    set_location(response, ROW)
    assert response.headers["location"] == str(ROW.id)
    assert response.headers["etag"] == '"3"'

    set_etag(response, Row(ROW.id, 4))
    assert response.headers["etag"] == '"4"'


def test_any_state_is_any_state() -> None:
    Precondition(None).check(ROW)
