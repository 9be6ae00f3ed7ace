"""Compares this checkout with other tools on this machine: ./bootstrap/bench NAME ...

Each ratio is one of medians. Runs are interleaved, since the speed of a machine drifts. Other tools are installed if
missing, as root on Debian.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import crowd, hashing, memory, one_file, small_files, start, three, tracker
from benchmarks.bench import Bench, describe_machine
from benchmarks.ours import CommandFailed
from benchmarks.report import Report
from benchmarks.rivals import NotAvailable

BENCHMARKS: dict[str, Callable[[Bench], Report]] = {
    "single": one_file.single,
    "tls": one_file.tls,
    "three": three.three,
    "crowd": crowd.crowd,
    "small": small_files.small,
    "cpu": one_file.cpu,
    "memory": memory.memory,
    "start": start.start,
    "hashing": hashing.hashing,
    "tracker": tracker.tracker,
}


def main() -> int:
    """Run the named benchmarks; return the exit status."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "names", nargs="+", metavar="NAME", choices=[*BENCHMARKS, "all"], help=f"{', '.join(BENCHMARKS)}, all"
    )
    parser.add_argument(
        "--trial", action="store_true", help="small sizes and few rounds, to test the benchmarks themselves"
    )
    parser.add_argument("--rounds", type=int, help="number of rounds, in place of each benchmark's own")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "p2p-bench"
    parser.add_argument("--folder", type=Path, default=cache, help="folder of test files, on a real disk (%(default)s)")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print(describe_machine(arguments.folder))
    verdicts: list[str] = []
    for name in BENCHMARKS if "all" in arguments.names else arguments.names:
        with tempfile.TemporaryDirectory(dir=arguments.folder, prefix=f"{name}-") as folder:
            try:
                report = BENCHMARKS[name](Bench(Path(folder), arguments.trial, arguments.rounds))
                verdicts += report.verdicts
            except (AssertionError, CommandFailed, RuntimeError) as error:
                verdicts.append(f"{name}: failed: {error}")
            except NotAvailable as lack:
                verdicts.append(f"{name}: skipped: {lack}")
    print("\nSummary:", *verdicts, sep="\n   ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
