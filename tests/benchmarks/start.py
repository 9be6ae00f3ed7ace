"""Start of a pserver with 100,000 unchanged files in its shared folder."""

from __future__ import annotations

import time
from functools import partial

from benchmarks import ours
from benchmarks.bench import Bench
from benchmarks.report import Report
from benchmarks.small_files import make_small_files
from eventually import eventually


def start(bench: Bench) -> Report:
    """Measure the seconds until READY, until all files are shared, and until the tracker lists them."""
    count = bench.size(100_000, 2_000)
    report = Report("start", f"a pserver with {count} unchanged files; seconds since its process was started")
    with ours.cluster(bench) as cluster:
        ana = cluster.peer("ana", PING_INTERVAL=ours.PING_INTERVAL)
        make_small_files(ana.shared / "many", count, 64)
        client = ours.connect(ana)
        began = time.monotonic()
        client.share(ana.shared / "many")
        report.note(f"the first time, hashing all of them: {time.monotonic() - began:.1f} s")
        client.close()
        for number in range(1, bench.round_count(5) + 1):
            ana.terminate()
            began = time.monotonic()
            ana.start()
            ready = time.monotonic() - began
            client = ours.connect(ana)
            eventually(partial(_shares, client, count), 60, every=0.01)
            shared = time.monotonic() - began
            eventually(partial(_listed, client, count), 60, every=0.05)
            report.run(
                f"run {number}", {"READY": ready, "shares all": shared, "tracker lists all": time.monotonic() - began}
            )
            client.close()
        report.medians()
    for label in ("READY", "shares all"):
        report.verdict(f"{label}: {report.median(label):.2f} s", report.median(label), at_most=3)
    return report


def _shares(client: ours.DaemonClient, count: int) -> bool:
    return client.status().files >= count


def _listed(client: ours.DaemonClient, count: int) -> bool:
    return client.count_listed_files() >= count
