"""Reading what the identity provider sends."""

import pytest

from app.utils.sso.fetch import parse_object


def test_an_object_is_read_whatever_is_in_it() -> None:
    assert parse_object(b'{"active": true, "n": {"a": [1, 2.5, null]}}') == {
        "active": True,
        "n": {"a": [1, 2.5, None]},
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"active"',
        b"{",
        b"\xff\xfe",
        b'{"active": false, "active": true}',
        b'{"n": {"a": 1, "a": 2}}',
        b'{"exp": NaN}',
        b'{"exp": -Infinity}',
        b'{"scope": "a \\ud800"}',
        b'{"sub": "a\\u0000b"}',
    ],
)
def test_what_parsers_disagree_about_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each of its kinds is refused alike
        parse_object(body)
