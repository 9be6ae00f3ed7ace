"""Ten thousand small files in one download, compared with an rsync daemon."""

from __future__ import annotations

import itertools
import os
import random
from pathlib import Path

from benchmarks import ours, rivals
from benchmarks.bench import Bench, empty_folder
from benchmarks.processes import run
from benchmarks.report import Report, interleave
from system.cluster import Peer

_SIZE = 4096
_FOLDER = "small"


def make_small_files(folder: Path, count: int, size: int) -> None:
    """Write `count` files of `size` bytes, a hundred in each folder."""
    rng = random.Random(count)
    for n in range(count):
        path = folder / f"{n // 100:03}" / f"{n:06}.bin"
        if n % 100 == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(rng.randbytes(size))
    os.sync()


def small(bench: Bench) -> Report:
    """Measure the speed of verified, durable small files."""
    count = bench.size(10_000, 500)
    report = Report("small", f"{count} files of 4 KiB in one download, durable; seconds")
    source = bench.folder / "source"
    make_small_files(source / _FOLDER, count, _SIZE)
    with ours.cluster(bench) as cluster, rivals.rsync_daemon(bench.folder / "rsync", source) as url:
        ana = cluster.peer("ana", SHARED_DIR=source, PING_INTERVAL=ours.PING_INTERVAL)
        ours.connect(ana).share(source / _FOLDER)
        numbers = itertools.count()

        # Nothing is deleted between runs, since ext4 creates files slowly for minutes after deletions.
        def newcomer() -> Peer:
            peer = cluster.peer(f"ben{next(numbers)}", PING_INTERVAL=ours.PING_INTERVAL)
            os.sync()
            return peer

        def order() -> dict[str, float]:
            ben = newcomer()
            client = ours.connect(ben)
            sample = ours.timed_download(client, [ana, ben], f"{_FOLDER}/")
            client.close()
            ben.terminate()
            return {"ours": sample.seconds, "ours, CPU": sample.cpu}

        def command() -> dict[str, float]:
            ben = newcomer()
            sample = run(ben.command("download", f"{_FOLDER}/", "--quiet"))
            again = run(ben.command("download", f"{_FOLDER}/", "--quiet"))
            ben.terminate()
            return {"ours, as a command": sample.seconds, "ours, as a command, again": again.seconds}

        def rsync() -> dict[str, float]:
            copy = empty_folder(bench.folder / f"copy{next(numbers)}")
            sample = run(["rsync", "-a", url, copy])
            durable = run(["sync", "-f", copy])
            return {"rsync": sample.seconds, "rsync + sync": sample.plus(durable).seconds}

        interleave(report, {"ours": order, "ours, as a command": command, "rsync": rsync}, bench.round_count(5))
    report.ratio("rsync + sync", "ours", title="speed, ours over an open connection / rsync + sync")
    report.ratio("rsync + sync", "ours, as a command", title="speed, ours as a command / rsync + sync")
    report.ratio("rsync", "ours, as a command", at_least=0.3, title="speed, ours as a command / rsync not durable")
    return report
