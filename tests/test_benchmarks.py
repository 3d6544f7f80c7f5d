"""The benchmarks compare what there is, and write where the page expects it; they are not timed."""

from itertools import groupby
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import report
from benchmarks.cases import CASES, SETTINGS, Case
from benchmarks.measure import Result
from benchmarks.plot import plot


@pytest.mark.parametrize("cases", [CASES, SETTINGS], ids=["cases", "settings"])
def test_each_case_has_a_name_of_its_own_and_a_limit_that_is_measured_with_it(
    cases: list[Case],
) -> None:
    names = [it.name for it in cases]
    assert [name for name, same in groupby(sorted(names)) if len(list(same)) > 1] == []
    assert {it.limit for it in cases} <= set(names)
    short = {it.name for it in cases if it.is_short}
    assert {it.limit for it in cases if it.is_short} <= short


def test_the_plot_has_a_bar_for_each_case() -> None:
    results = [Result(it, 0.5, 1, 0.001, 0.001, 0.002, 10**8) for it in CASES if it.is_plotted]
    image = ElementTree.fromstring(plot(results))  # noqa: S314 - we have drawn it
    bars = [it for it in image.iter() if it.get("class") in {"service", "other"}]
    assert len(bars) == len(results) > 5


def test_the_page_keeps_what_stands_around_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = report.PAGE.read_text("utf-8")
    monkeypatch.setattr(report, "PAGE", tmp_path / "page.md")
    report.PAGE.write_text(page, "utf-8")
    report.write(figures="new 1", settings="new 2", growth="new 3")
    written = report.PAGE.read_text("utf-8")
    for text in ("new 1", "new 2", "new 3"):
        assert f":begin -->\n{text}\n<!-- " in written
    assert written.partition("<!-- figures")[0] == page.partition("<!-- figures")[0]
    assert written.rpartition("-->")[2] == page.rpartition("-->")[2]
