"""Look-ups and pings per second of the tracker, from wrk."""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.report import Report


def tracker(bench: Bench) -> Report:
    report = Report("tracker", "not yet")
    return report
