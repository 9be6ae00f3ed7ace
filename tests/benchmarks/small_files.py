"""Ten thousand small files in one download, against rsync's daemon."""

from __future__ import annotations

import os
import random
from pathlib import Path

from benchmarks import ours, rivals
from benchmarks.bench import Bench, emptied
from benchmarks.processes import Sample, run
from benchmarks.report import Report, interleave

_SIZE = 4096
_FOLDER = "small"


def make_small_files(folder: Path, count: int, size: int) -> None:
    """Write many files, a hundred to a folder."""
    rng = random.Random(count)
    for n in range(count):
        path = folder / f"{n // 100:03}" / f"{n:06}.bin"
        if n % 100 == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(rng.randbytes(size))
    os.sync()


def small(bench: Bench) -> Report:
    """Files per second, verified and durable."""
    count = bench.size(10_000, 500)
    report = Report("small", f"{count} files of 4 KiB in one download, durable; seconds")
    source = bench.folder / "source"
    make_small_files(source / _FOLDER, count, _SIZE)
    copy = bench.folder / "copy"
    with ours.cluster(bench) as cluster, rivals.rsync_daemon(bench.folder / "rsync", source) as url:
        ana = cluster.peer("ana", SHARED_DIR=source, PING_INTERVAL=ours.PING_INTERVAL)
        ours.line(ana).share(source / _FOLDER)
        ben = cluster.peer("ben", PING_INTERVAL=ours.PING_INTERVAL)
        line = ours.line(ben)
        names = [path.relative_to(source).as_posix() for path in sorted((source / _FOLDER).rglob("*.bin"))]

        def clean() -> None:
            line.remove(*names)
            os.sync()

        def order() -> dict[str, float]:
            sample = ours.timed(line, [ana, ben], f"{_FOLDER}/")
            clean()
            return {"ours": sample.seconds, "ours, CPU": sample.cpu}

        def command() -> dict[str, float]:
            sample = run(ben.command("download", f"{_FOLDER}/", "--quiet"))
            clean()
            return {"ours, as a command": sample.seconds}

        def rsync() -> dict[str, float]:
            emptied(copy)
            sample = run(["rsync", "-a", url, copy])
            durable = _synced(copy)
            emptied(copy)
            return {"rsync": sample.seconds, "rsync + sync": sample.plus(durable).seconds}

        interleave(report, {"ours": order, "ours, as a command": command, "rsync": rsync}, bench.times(5))
    report.ratio("rsync + sync", "ours", title="speed, ours over an open line / rsync + sync")
    report.ratio("rsync + sync", "ours, as a command", title="speed, ours as a command / rsync + sync")
    report.ratio("rsync", "ours, as a command", at_least=0.3, title="speed, ours as a command / rsync not durable")
    return report


def _synced(folder: Path) -> Sample:
    return run(["sync", "-f", folder])
