"""Pages, and the queries that ask for them."""

from datetime import date
from uuid import UUID

import pytest
from pydantic import TypeAdapter, ValidationError

from app.core.pagination import Page, PageQuery, Rows
from app.core.schema import Boolean, Day, Integer, Number, ShortText
from app.database.base import uuid7


class Query(PageQuery):
    text: ShortText | None = None
    number: Integer | None = None
    ratio: Number | None = None
    done: Boolean | None = None
    lax: int | None = None


@pytest.mark.parametrize("key", [uuid7(), UUID(int=0), UUID(int=2**128 - 1)])
def test_a_cursor_leads_to_where_its_page_has_ended(key: UUID) -> None:
    page = Page[int].of(Rows([1, 2], key))
    assert PageQuery.model_validate({"cursor": page.next_cursor}).cursor == key


def test_the_last_page_has_no_cursor() -> None:
    assert Page[int].of(Rows([1], None)).next_cursor is None


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "A" * 21,
        "A" * 23,
        "A" * 21 + "B",
        "A" * 22 + "==",
        "A" * 22 + "\n",
        "+" * 22,
        "\u0661" * 22,
        "A" * 100_000,
        "\x00" * 22,
        "\ud800" * 22,
        str(UUID(int=0)),
        7,
        None.__class__,
    ],
    ids=lambda cursor: ascii(cursor)[:12],
)
def test_a_cursor_that_no_page_has_given_is_refused(cursor: object) -> None:
    with pytest.raises(ValidationError):
        PageQuery.model_validate({"cursor": cursor})


@pytest.mark.parametrize("limit", ["1", "100"])
def test_the_ends_of_the_range_are_limits(limit: str) -> None:
    assert PageQuery.model_validate({"limit": limit}).limit == int(limit)


@pytest.mark.parametrize(
    "limit", ["0", "101", "-1", "1.0", "1e1", "true", "", " 5", "+5", "9" * 99]
)
def test_a_limit_that_is_none_is_refused(limit: str) -> None:
    with pytest.raises(ValidationError):
        PageQuery.model_validate({"limit": limit})


@pytest.mark.parametrize(
    ("member", "text", "value"),
    [
        ("text", "7", "7"),
        ("text", "true", "true"),
        ("text", "null", "null"),
        ("number", "7", 7),
        ("number", "-2147483648", -(2**31)),
        ("ratio", "1.5", 1.5),
        ("ratio", "-2e-3", -0.002),
        ("ratio", "7", 7.0),
        ("done", "true", True),
        ("done", "false", False),
        ("lax", "7", 7),
    ],
)
def test_a_filter_is_read_from_the_text_of_the_query(member: str, text: str, value: object) -> None:
    assert Query.model_validate({member: text}).filters() == {member: value}


@pytest.mark.parametrize(
    ("member", "text"),
    [
        ("number", "2147483648"),
        ("number", "1.0"),
        ("number", "true"),
        ("number", "9" * 5000),
        ("number", ""),
        ("number", "\u0663"),
        ("number", "x"),
        ("ratio", "NaN"),
        ("ratio", "Infinity"),
        ("ratio", "1e400"),
        ("ratio", "true"),
        ("done", "1"),
        ("done", "yes"),
        ("done", "True"),
        ("lax", "true"),
        ("text", "a\x00"),
        ("unknown", "x"),
    ],
)
def test_a_filter_that_does_not_fit_is_refused(member: str, text: str) -> None:
    with pytest.raises(ValidationError):
        Query.model_validate({member: text})


def test_a_page_that_nobody_has_sized_is_a_bounded_one() -> None:
    assert PageQuery().limit == 50


def test_a_filter_that_a_list_begins_with_holds_where_the_caller_names_none() -> None:
    class Unpaid(PageQuery):
        paid: Boolean | None = False
        day: Day | None = None

    assert Unpaid().filters() == {"paid": False}
    day = date(2026, 11, 22)
    assert Unpaid.model_validate({"paid": "true", "day": "2026-11-22"}).filters() == {
        "paid": True,
        "day": day,
    }


def test_an_empty_page_is_a_page() -> None:
    page = Page[int].of(Rows([], None))
    assert TypeAdapter(Page[int]).dump_python(page) == {"items": [], "next_cursor": None}
