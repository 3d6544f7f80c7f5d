"""The end of a test run says which of this folder's tests were not tried, and why."""

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name each reason once."""
    reasons = {
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
        if report.nodeid.startswith("tests/database/")
    }
    if reasons:
        terminalreporter.section("the database beyond one machine")
    for reason in sorted(reasons):
        terminalreporter.write_line(f"not tried: {reason}")
