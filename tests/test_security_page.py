"""The page about the OWASP ASVS leaves no requirement out, and names only tests that exist."""

import re
from collections import Counter

import pytest

from tests.projects import REPOSITORY

PAGE = REPOSITORY / "docs" / "security.md"

# The last requirement of levels 1 and 2 of each section of version 5.0.0; those before it are of
# these levels, too.
LAST = {
    1: {1: 2, 2: 9, 3: 11, 4: 3, 5: 2},
    2: {1: 3, 2: 3, 3: 4, 4: 1},
    3: {2: 2, 3: 4, 4: 6, 5: 5, 7: 2},
    4: {1: 3, 2: 1, 3: 2, 4: 4},
    5: {1: 1, 2: 3, 3: 2, 4: 3},
    6: {1: 3, 2: 12, 3: 4, 4: 4, 5: 5, 6: 3, 8: 4},
    7: {1: 3, 2: 4, 3: 2, 4: 5, 5: 2, 6: 2},
    8: {1: 2, 2: 3, 3: 1, 4: 1},
    9: {1: 3, 2: 4},
    10: {1: 2, 2: 2, 3: 4, 4: 11, 5: 5, 6: 2, 7: 3},
    11: {1: 2, 2: 3, 3: 3, 4: 4, 5: 1, 6: 1},
    12: {1: 3, 2: 2, 3: 4},
    13: {1: 1, 2: 5, 3: 2, 4: 5},
    14: {1: 2, 2: 4, 3: 3},
    15: {1: 3, 2: 3, 3: 7},
    16: {1: 1, 2: 5, 3: 4, 4: 3, 5: 3},
    17: {1: 1, 2: 4, 3: 2},
}
TESTED, UNTESTED = {"Held", "Partly"}, {"Team", "Operator", "Provider"}
EXPLAINED = {"By design", "Not met yet", "Does not apply"}

ROWS = re.findall(
    r"^\| (\d+\.\d+\.\d+) \| .+ \| ([\w ]+) \| (.*) \|$", PAGE.read_text("utf-8"), re.MULTILINE
)


def test_every_requirement_of_levels_1_and_2_has_one_row_in_its_place() -> None:
    expected = [
        f"{chapter}.{section}.{number}"
        for chapter, sections in LAST.items()
        for section, last in sections.items()
        for number in range(1, last + 1)
    ]
    assert len(expected) == 253
    assert [number for number, _, _ in ROWS] == expected


@pytest.mark.parametrize(("number", "verdict", "how"), ROWS)
def test_a_row_names_tests_that_exist_or_says_why_not(number: str, verdict: str, how: str) -> None:
    tests = re.findall(r"\[`(test_\w+)`\]\(\.\./([\w/.]+)\)", how)
    for name, path in tests:
        defined = re.findall(r"def (test_\w+)\(", (REPOSITORY / path).read_text("utf-8"))
        assert name in defined, number
    assert verdict in TESTED | UNTESTED | EXPLAINED
    assert tests or verdict not in TESTED
    assert how or verdict not in EXPLAINED


def test_the_page_counts_its_rows() -> None:
    counted = re.findall(
        r"^\| \*\*([\w ]+)\*\* \| .+ \| (\d+) \|$", PAGE.read_text("utf-8"), re.MULTILINE
    )
    assert {name: int(count) for name, count in counted} == Counter(it for _, it, _ in ROWS)
