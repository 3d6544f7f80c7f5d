"""Measure a rendered service beside the same answers written by hand, in turns, in one run.

    uv run poe benchmarks            # all cases; writes docs/performance.md
    uv run poe benchmarks --short    # some of them, only printed
    uv run poe benchmarks --growth   # memory, long lists, a herd; writes docs/performance.md

What counts is the processor time of the server for each request, as a ratio to that of the limit in
the same run: it holds on a busy machine, where requests per second swing tenfold. Nothing fails on
a time.
"""

import argparse
import os
import sys

from benchmarks import report
from benchmarks.cases import CASES, SETTINGS, USERS, Case
from benchmarks.growth import ROWS, growth
from benchmarks.measure import bench, jwts_needed, measure, measure_starts
from benchmarks.project import render
from benchmarks.servers import OTHER_CPUS


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(
        prog="uv run poe benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--short", action="store_true", help="fewer cases, and only print")
    parser.add_argument("--growth", action="store_true", help="measure what must not grow")
    parser.add_argument("--rounds", type=int, default=7, help="how often each case is measured")
    parser.add_argument("--only", help="only print the cases whose names contain this text")
    options = parser.parse_args()
    if sys.platform != "linux":
        sys.exit("The benchmarks read processor times from /proc, which only Linux has.")
    # Everything that this process starts, but for the servers under measurement.
    os.sched_setaffinity(0, OTHER_CPUS)
    render()
    if options.growth:
        with bench(ROWS, 0) as running:
            text = growth(running)
        print(text)
        report.write(growth=f"{text}\n\nMeasured: {report.machine()}")
        return
    is_whole = not options.short and options.only is None
    cases = [it for it in CASES if it.is_short or not options.short]
    settings = [] if options.short else SETTINGS
    if options.only is not None:
        cases, settings = _with(options.only, cases), _with(options.only, settings)
    needed = jwts_needed(cases, options.rounds) + jwts_needed(settings, options.rounds)
    with bench(USERS, needed) as running:
        starts = [] if options.only else measure_starts(running, options.rounds)
        results = measure(running, cases, options.rounds)
        figures = report.table(results)
        if starts:
            figures += f"\n\n{report.starts_table(starts)}"
        figures += f"\n\nMeasured: {report.machine()}"
        print(figures)
        if is_whole:
            report.draw(results)
            report.write(figures=figures)
        if settings:
            text = report.settings_table(measure(running, settings, options.rounds))
            print(f"\n{text}")
            if is_whole:
                report.write(settings=text)


def _with(text: str, cases: list[Case]) -> list[Case]:
    """Return the cases whose names contain the text, and those that they are compared with."""
    by_name = {it.name: it for it in cases}
    wanted = [it for it in cases if text in it.name]
    needed = {it.name for it in wanted} | {it.limit for it in wanted}
    needed |= {by_name[name].limit for name in needed}
    return [it for it in cases if it.name in needed]


if __name__ == "__main__":
    main()
