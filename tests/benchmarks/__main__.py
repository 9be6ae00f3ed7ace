"""Measures this checkout against other tools, side by side on this machine: ./bootstrap/bench NAME ...

Every ratio is of medians of runs that took turns, since a machine's speed drifts. Other tools are installed if
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
from benchmarks.bench import Bench, machine
from benchmarks.ours import Failed
from benchmarks.report import Report
from benchmarks.rivals import Missing

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
    """Run the benchmarks that were named; return the exit status."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "names", nargs="+", metavar="NAME", choices=[*BENCHMARKS, "all"], help=f"{', '.join(BENCHMARKS)}, all"
    )
    parser.add_argument(
        "--trial", action="store_true", help="small sizes and few rounds: tries the benchmarks themselves"
    )
    parser.add_argument("--rounds", type=int, help="how many rounds, instead of each benchmark's own number")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "p2p-bench"
    parser.add_argument("--folder", type=Path, default=cache, help="where files go: on a real disk (%(default)s)")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print(machine(arguments.folder))
    verdicts: list[str] = []
    for name in BENCHMARKS if "all" in arguments.names else arguments.names:
        with tempfile.TemporaryDirectory(dir=arguments.folder, prefix=f"{name}-") as folder:
            try:
                report = BENCHMARKS[name](Bench(Path(folder), arguments.trial, arguments.rounds))
                verdicts += report.verdicts
            except (AssertionError, Failed, RuntimeError) as error:
                verdicts.append(f"{name}: did not run to its end: {error}")
            except Missing as lack:
                verdicts.append(f"{name}: left out: {lack}")
    print("\nIn short:", *verdicts, sep="\n   ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
