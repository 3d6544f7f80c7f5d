"""The bounded types that bodies are made of."""

import pytest
from pydantic import ValidationError

from app.core.schema import LongText, RequestSchema, ShortText


class Body(RequestSchema):
    title: ShortText = "title"
    text: LongText = "text"


@pytest.mark.parametrize("title", ["a", "Ünïcödé 漢字 👩‍👩‍👧", "x" * 255, "  trimmed  "])
def test_a_line_of_text_is_accepted_and_trimmed(title: str) -> None:
    assert Body(title=title).title == title.strip()


@pytest.mark.parametrize(
    "title",
    [
        "",
        "  ",
        "x" * 256,
        "a\nb",
        "a\tb",
        "a\x00b",
        "a\x85b",
        "a\u2028b",
        "a\u202eb",
        "\ufeff",
        "\ud800",
    ],
)
def test_what_is_not_one_visible_line_is_refused(title: str) -> None:
    with pytest.raises(ValidationError):
        Body(title=title)


def test_a_text_may_have_several_lines() -> None:
    assert Body(text="a\n\tb").text == "a\n\tb"


@pytest.mark.parametrize("text", ["", "a\x00b", "a\x07b", "\ud800", "x" * 10_001])
def test_what_is_no_text_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        Body(text=text)


def test_an_unknown_member_is_refused() -> None:
    with pytest.raises(ValidationError):
        Body.model_validate({"titel": "misspelt"})
