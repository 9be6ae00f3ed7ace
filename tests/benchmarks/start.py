"""Start of a pserver whose shared folder has 100,000 files that did not change."""

from __future__ import annotations

import time
from functools import partial

from benchmarks import ours
from benchmarks.bench import Bench
from benchmarks.report import Report
from benchmarks.small_files import make_small_files
from eventually import eventually


def start(bench: Bench) -> Report:
    """Seconds until it says READY, until it shares them all, until the tracker lists them."""
    count = bench.size(100_000, 2_000)
    report = Report("start", f"a pserver with {count} unchanged files; seconds since its process was started")
    with ours.cluster(bench) as cluster:
        ana = cluster.peer("ana", PING_INTERVAL=ours.PING_INTERVAL)
        make_small_files(ana.shared / "many", count, 64)
        line = ours.line(ana)
        began = time.monotonic()
        line.share(ana.shared / "many")
        report.note(f"the first time, hashing all of them: {time.monotonic() - began:.1f} s")
        line.close()
        for number in range(1, bench.times(5) + 1):
            ana.terminate()
            began = time.monotonic()
            ana.start()
            ready = time.monotonic() - began
            line = ours.line(ana)
            eventually(partial(_shares, line, count), 60, every=0.01)
            shared = time.monotonic() - began
            eventually(partial(_listed, line, count), 60, every=0.05)
            report.run(
                f"run {number}", {"READY": ready, "shares all": shared, "tracker lists all": time.monotonic() - began}
            )
            line.close()
        report.medians()
    for label in ("READY", "shares all"):
        report.verdict(f"{label}: {report.median(label):.2f} s", report.median(label), at_most=3)
    return report


def _shares(line: ours.Line, count: int) -> bool:
    return line.status().files >= count


def _listed(line: ours.Line, count: int) -> bool:
    return line.listed() >= count
