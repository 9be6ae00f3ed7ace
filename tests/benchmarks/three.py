"""One file from three holders with an UPLOAD_LIMIT, compared with one such holder."""

from __future__ import annotations

import os

from benchmarks import ours
from benchmarks.bench import MIB, Bench
from benchmarks.report import Report, interleave

_NAME = "big.bin"
_LIMIT = "50M"


def three(bench: Bench) -> Report:
    """Measure how much faster three holders are than one."""
    size = bench.size(1024 * MIB, 64 * MIB)
    report = Report("three", f"{size // MIB} MiB from holders with UPLOAD_LIMIT {_LIMIT} each; seconds")
    source = bench.file(bench.folder / "source" / _NAME, size)
    with ours.cluster(bench) as cluster:
        # Holders are found by id, so the file of the single holder must be a different one.
        alone = bench.file(bench.folder / "source" / "alone.bin", size + 1)
        for name in ("h1", "h2", "h3"):
            peer = cluster.peer(name, UPLOAD_LIMIT=_LIMIT, PING_INTERVAL=ours.PING_INTERVAL)
            os.link(source, peer.shared / "three.bin")
            if name == "h1":
                os.link(alone, peer.shared / "one.bin")
            client = ours.connect(peer)
            client.share(*peer.shared.glob("*.bin"))
            client.close()
        client = ours.connect(cluster.peer("ben", PING_INTERVAL=ours.PING_INTERVAL))

        def fetch(name: str) -> float:
            os.sync()
            seconds = client.download(name)
            client.remove(name)
            return seconds

        interleave(
            report,
            {"three": lambda: {"three": fetch("three.bin")}, "one": lambda: {"one": fetch("one.bin")}},
            bench.round_count(3),
            warm_up=False,
        )
    report.ratio("one", "three", at_least=2.8, title="speed, three holders / one")
    return report
