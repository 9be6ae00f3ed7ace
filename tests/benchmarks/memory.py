"""Memory of one pserver with 64 uploads and 64 downloads running."""

from __future__ import annotations

import os
import time

from benchmarks import ours
from benchmarks.bench import MIB, Bench, quick_file
from benchmarks.processes import resident_memory
from benchmarks.report import Report
from eventually import eventually

# A peer serves at most 8 streams to another peer, and 64 in all.
_PEERS = 8
_FILES = 8


def memory(bench: Bench) -> Report:
    """Measure the peak of resident memory while all transfers run."""
    peers, files = bench.size(_PEERS, 2), bench.size(_FILES, 4)
    size = bench.size(40 * MIB, 16 * MIB)
    report = Report(
        "memory", f"a pserver with {peers * files} uploads and {peers * files} downloads of {size // MIB} MiB"
    )
    with ours.cluster(bench) as cluster:
        # Slow enough to run all transfers at the same time.
        middle = cluster.peer("middle", UPLOAD_LIMIT="100M", PING_INTERVAL=ours.PING_INTERVAL)
        for n in range(peers):
            others = cluster.peer(f"p{n}", UPLOAD_LIMIT="12M", PING_INTERVAL=ours.PING_INTERVAL)
            for m in range(files):
                quick_file(others.shared / f"from-{n}-{m}.bin", n * files + m, size)
                quick_file(middle.shared / f"to-{n}-{m}.bin", 1000 + n * files + m, size)
            client = ours.connect(others)
            client.share(*others.shared.glob("from-*"))
            client.close()
        client = ours.connect(middle)
        client.share(*middle.shared.glob("to-*"))
        idle = resident_memory(middle.program.pid)
        clients = {n: ours.connect(cluster.peers[f"p{n}"]) for n in range(peers)}
        for m in range(files):
            for n in range(peers):
                client.start_download(f"from-{n}-{m}.bin")
                clients[n].start_download(f"to-{n}-{m}.bin")

        def running() -> tuple[int, int]:
            kinds = [each.kind for each in client.status().transfers]
            return kinds.count("serving"), kinds.count("download")

        wanted = peers * files
        eventually(lambda: min(running()) >= wanted * 3 // 4, 30)
        most = 0
        counted: list[tuple[int, int]] = []
        while min(now := running()) >= wanted * 3 // 4:
            counted.append(now)
            most = max(most, resident_memory(middle.program.pid))
            time.sleep(0.1)
        report.note(
            f"{len(counted)} samples; uploads {_range([up for up, _ in counted])}, "
            f"downloads {_range([down for _, down in counted])}"
        )
        report.note(
            f"MiB: idle {idle // MIB}, most {most // MIB}, peak {resident_memory(middle.program.pid, 'VmHWM') // MIB}"
        )
        os.sync()
    report.verdict(f"resident MiB: {most // MIB}", most / MIB, at_most=500)
    return report


def _range(figures: list[int]) -> str:
    return f"{min(figures)} to {max(figures)}"
