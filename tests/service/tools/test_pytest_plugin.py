"""What the plugin adds to pytest itself; its fixtures are tried by every other test."""

import pytest
from pydantic import BaseModel


class TestimonialRead(BaseModel):
    """No test, in spite of its name."""

    text: str


def test_a_body_or_a_table_that_is_called_like_a_test_is_none(
    request: pytest.FixtureRequest,
) -> None:
    """Pytest would warn that it has a constructor, and here a warning is an error."""
    assert isinstance(request.node.parent, pytest.Module)
    assert [item.name for item in request.node.parent.collect()] == [request.node.name]
