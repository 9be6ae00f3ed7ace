"""One file from three holders of limited uplink, against one such holder."""

from __future__ import annotations

import os

from benchmarks import ours
from benchmarks.bench import MIB, Bench
from benchmarks.report import Report, interleave

_NAME = "big.bin"
_LIMIT = "50M"


def three(bench: Bench) -> Report:
    """How much faster three holders are than one."""
    size = bench.size(1024 * MIB, 64 * MIB)
    report = Report("three", f"{size // MIB} MiB from holders with UPLOAD_LIMIT {_LIMIT} each; seconds")
    source = bench.file(bench.folder / "source" / _NAME, size)
    with ours.cluster(bench) as cluster:
        # Contents go by their id, so that the one holder's file must be another.
        alone = bench.file(bench.folder / "source" / "alone.bin", size + 1)
        for name in ("h1", "h2", "h3"):
            peer = cluster.peer(name, UPLOAD_LIMIT=_LIMIT, PING_INTERVAL=ours.PING_INTERVAL)
            os.link(source, peer.shared / "three.bin")
            if name == "h1":
                os.link(alone, peer.shared / "one.bin")
            line = ours.line(peer)
            line.share(*peer.shared.glob("*.bin"))
            line.close()
        line = ours.line(cluster.peer("ben", PING_INTERVAL=ours.PING_INTERVAL))

        def fetch(name: str) -> float:
            os.sync()
            seconds = line.download(name)
            line.remove(name)
            return seconds

        interleave(
            report,
            {"three": lambda: {"three": fetch("three.bin")}, "one": lambda: {"one": fetch("one.bin")}},
            bench.times(3),
            warm_up=False,
        )
    report.ratio("one", "three", at_least=2.8, title="speed, three holders / one")
    return report
