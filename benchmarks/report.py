"""The tables of the results, and the page that they are written into."""

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measure import Result, Start
from benchmarks.plot import plot
from benchmarks.project import ROOT, run

PAGE = ROOT / "docs" / "performance.md"
_PLOT = ROOT / "docs" / "performance.svg"


def machine() -> str:
    """Return what the figures were measured on, and with."""
    facts = dict(re.findall(r"^(model name|MemTotal)\s*:\s*(.+)$", _facts(), re.MULTILINE))
    memory = int(facts.get("MemTotal", "0").split()[0]) / 1e6
    model = facts.get("model name", platform.machine())
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} CPUs ({model}), {memory:.0f} GB, "
        f"Linux {platform.release()}, {run('versions')}."
    )


def _facts() -> str:
    return Path("/proc/cpuinfo").read_text() + Path("/proc/meminfo").read_text()


def table(results: list[Result]) -> str:
    """Return the results beside their limits."""
    lines = [
        "| | ÷ limit | aim | CPU µs | p50 ms | p99 ms | p99 ÷ limit's | memory MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for it in results:
        is_limit = it.case.limit == it.case.name
        ratio, tail = ("1", "1") if is_limit else (f"{it.ratio:.3f}", f"{it.tail:.1f}")
        of = "" if is_limit or it.case.limit.startswith("by hand") else f" of {it.case.limit}"
        lines.append(
            f"| {it.case.name} | {ratio}{of} | {it.case.goal or ''} | {it.cpu * 1e6:.0f}"
            f" | {it.p50 * 1e3:.1f} | {it.p99 * 1e3:.1f} | {tail} | {it.memory / 1e6:.0f} |"
        )
    return "\n".join(lines)


def settings_table(results: list[Result]) -> str:
    """Return what each setting costs by what it is compared with."""
    lines = ["| | CPU × | p99 × | CPU µs | p50 ms | p99 ms |", "|---|---|---|---|---|---|"]
    for it in results:
        is_base = it.case.limit == it.case.name
        cost = ("**1**", "**1**") if is_base else (f"{1 / it.ratio:.2f}", f"{it.tail:.2f}")
        name = f"**{it.case.name}**" if is_base else it.case.name
        lines.append(
            f"| {name} | {cost[0]} | {cost[1]} | {it.cpu * 1e6:.0f}"
            f" | {it.p50 * 1e3:.1f} | {it.p99 * 1e3:.1f} |"
        )
    return "\n".join(lines)


def starts_table(starts: list[Start]) -> str:
    """Return what starting costs; the first is what the others are compared with."""
    lines = [
        "| | first 200 s | × | CPU s | of it imports s | memory MB | × |",
        "|---|---|---|---|---|---|---|",
    ]
    first = starts[0]
    lines += [
        f"| {it.name} | {it.seconds:.2f} | {it.seconds / first.seconds:.2f} | {it.cpu:.2f}"
        f" | {it.imports:.2f} | {it.memory / 1e6:.0f} | {it.memory / first.memory:.2f} |"
        for it in starts
    ]
    return "\n".join(lines)


def draw(results: list[Result]) -> None:
    """Write the plot."""
    _PLOT.write_text(plot([it for it in results if it.case.is_plotted]), "utf-8")


def write(**sections: str) -> None:
    """Replace sections of the page, each between the comments that name it."""
    page = PAGE.read_text("utf-8")
    for name, text in sections.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        before, found, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise SystemExit(f"{PAGE} has no section {begin} ... {end}: put it back.")
        page = f"{before}{begin}\n{text}\n{end}{after}"
    PAGE.write_text(page, "utf-8")
