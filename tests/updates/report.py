"""The table of all updates: printed when the tests end, and kept in ``docs/update.md``.

A test records an update as a property of its report, which pytest-xdist carries to the process
that prints.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import pytest

from tests.kept_table import KeptTable
from tests.projects import REPOSITORY

KEPT = KeptTable(
    REPOSITORY / "docs" / "update.md", "<!-- table:begin -->\n", "<!-- table:end -->\n"
)
PROPERTY = "update"

type RecordProperty = Callable[[str, object], None]


@dataclass(frozen=True)
class Update:
    """One update: what it started from, how it went, and whether the project's tests ran then.

    A release that is not older than the work tree's own version is not ``settled``: the table
    that is kept is about those that are.
    """

    release: str
    kind: str
    conflicts: int
    lost_lines: int
    suite: bool = False
    settled: bool = True

    def record(self, record_property: RecordProperty) -> None:
        """Leave it for the table."""
        record_property(PROPERTY, json.dumps(asdict(self)))


def table(updates: Iterable[tuple[Update, bool]]) -> list[str]:
    """Return the table's lines, from updates and whether their tests have passed."""
    rows: dict[tuple[str, str], list[tuple[Update, bool]]] = {}
    for update, passed in updates:
        rows.setdefault((update.release, update.kind), []).append((update, passed))
    lines = [
        "| From | Project | Updates | Conflicts | Lost lines | Its own tests |",
        "|---|---|---|---|---|---|",
    ]
    for (release, kind), found in rows.items():
        suites = [passed for update, passed in found if update.suite]
        tests = "" if not suites else "passed" if all(suites) else "failed"
        conflicts = sum(update.conflicts for update, _ in found)
        lost = sum(update.lost_lines for update, _ in found)
        lines.append(f"| {release} | {kind} | {len(found)} | {conflicts} | {lost} | {tests} |")
    return lines


def kept_rows() -> set[tuple[str, str]]:
    """Return the release and the kind of project of each row of ``docs/update.md``."""
    cells = [line.strip("| ").split(" | ") for line in KEPT.read().splitlines()[2:]]
    return {(row[0], row[1]) for row in cells}


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the table, and keep it where ``--write-update-table`` asks for that."""
    updates = sorted(
        (
            (Update(**json.loads(str(value))), report.passed)
            for reports in terminalreporter.stats.values()
            for report in reports
            if isinstance(report, pytest.TestReport) and report.when == "call"
            for name, value in report.user_properties
            if name == PROPERTY
        ),
        key=lambda recorded: _order(recorded[0]),
    )
    if not updates:
        return
    terminalreporter.section("updates")
    for line in table(updates):
        terminalreporter.write_line(line)
    if config.getoption("--write-update-table"):
        settled = table((update, passed) for update, passed in updates if update.settled)
        KEPT.write("".join(f"{line}\n" for line in settled))


def _order(update: Update) -> tuple[bool, list[int], str]:
    """Sort by release, what is not released last, and then by project."""
    numbers = [int(number) for number in re.findall(r"\d+", update.release)]
    return not numbers or update.release.startswith("+"), numbers, update.kind
