"""The table of providers: printed when the tests end, and kept in ``docs/sso.md``."""

from collections.abc import Iterable, Mapping

import pytest

from tests.identity_providers.provider import IdentityProvider, Mode
from tests.kept_table import KeptTable
from tests.projects import REPOSITORY

KEPT = KeptTable(
    REPOSITORY / "docs" / "sso.md", "<!-- providers:begin -->\n", "<!-- providers:end -->\n"
)
PROPERTY = "identity provider"
MODES: tuple[Mode, ...] = ("introspect", "jwt", "both")


def row(provider: IdentityProvider) -> str:
    """Return a provider's line of the table."""
    cells = [provider.modes[mode] or "passed" for mode in MODES]
    signed = "passed" if provider.signs_responses else "no"
    return f"| {provider.name} | {provider.source} | {' | '.join([*cells, signed])} |"


def table(rows: Iterable[str]) -> str:
    """Return the table with these rows."""
    head = [
        "| Provider | From | `introspect` | `jwt` | `both` | signed responses |",
        "|---|---|---|---|---|---|",
    ]
    return "".join(f"{line}\n" for line in [*head, *sorted(rows, key=str.lower)])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the providers that were tried, and say which were not, and why."""
    reports = [
        report
        for found in terminalreporter.stats.values()
        for report in found
        if isinstance(report, pytest.TestReport)
    ]
    passed = _by_provider(reports)
    skipped = {
        str(report.longrepr[2]).removeprefix("Skipped: ")
        for report in reports
        if report.skipped and "identity_provider" in report.keywords
        if isinstance(report.longrepr, tuple)
    }
    if not passed and not skipped:
        return
    terminalreporter.section("identity providers")
    rows = [line for line, good in passed.items() if good]
    terminalreporter.write(table(rows))
    for reason in sorted(skipped):
        terminalreporter.write_line(f"not tried: {reason}")
    if config.getoption("--write-provider-table"):
        KEPT.write(table(rows))


def _by_provider(reports: Iterable[pytest.TestReport]) -> Mapping[str, bool]:
    """Return the row of each provider, and whether all of its tests have passed."""
    passed: dict[str, bool] = {}
    for report in reports:
        for name, value in report.user_properties:
            if name == PROPERTY and report.when == "call":
                passed[str(value)] = passed.get(str(value), True) and report.passed
    return passed
