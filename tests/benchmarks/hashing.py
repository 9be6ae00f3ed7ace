"""First hashing of a shared folder, compared with b3sum with the same number of threads and without mmap."""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks import ours, rivals
from benchmarks.bench import MIB, Bench
from benchmarks.processes import run
from benchmarks.report import Report, interleave

# Hashing threads of a pserver.
_THREADS = 2
_FILES = 16


def hashing(bench: Bench) -> Report:
    """Measure the speed of hashing new files."""
    size = bench.size(128 * MIB, 8 * MIB)
    total = size * _FILES
    report = Report("hashing", f"{_FILES} files of {size // MIB} MiB, new to the pserver; {_THREADS} threads; seconds")
    rivals.require_programs(b3sum="b3sum")
    with ours.cluster(bench) as cluster:
        ana = cluster.peer("ana", PING_INTERVAL=ours.PING_INTERVAL)
        files = [bench.file(ana.shared / f"{n:02}.bin", size + n) for n in range(_FILES)]
        client = ours.connect(ana)
        rounds = iter(range(1, 1000))

        def ours_() -> dict[str, float]:
            # A new mtime makes the pserver hash them again.
            stamp = time.time() - next(rounds)
            for path in files:
                os.utime(path, (stamp, stamp))
            began = time.monotonic()
            client.share(*files)
            return {"ours": time.monotonic() - began}

        names = bench.folder / "names"
        names.write_text("".join(f"{path}\n" for path in files))

        def b3sum() -> dict[str, float]:
            many: list[str | Path] = ["xargs", "-a", names, "-n", "1", "-P", str(_THREADS), "b3sum", "--no-mmap"]
            return {"b3sum": run(many).seconds}

        interleave(report, {"ours": ours_, "b3sum": b3sum}, bench.round_count(5))
    report.note(
        f"MiB/s: ours {total / MIB / report.median('ours'):.0f}, b3sum {total / MIB / report.median('b3sum'):.0f}"
    )
    report.ratio("b3sum", "ours", at_least=0.7, title=f"speed, ours / b3sum --no-mmap, {_THREADS} at once")
    return report
