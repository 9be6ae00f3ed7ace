"""What every benchmark is handed: its folder, its sizes. The folder is on a real disk, for all contestants alike."""

from __future__ import annotations

import os
import platform
import random
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from system.payload import make_file

MIB = 1 << 20
# Where the kernel tells its host of free memory: two seconds after some was freed.
_REPORTING = Path("/sys/module/page_reporting")
_REPORTING_SECONDS = 3.0


@dataclass(frozen=True)
class Bench:
    """One benchmark's room."""

    folder: Path
    # A try of the benchmark itself: small sizes, few rounds; its figures mean nothing.
    trial: bool
    rounds: int | None

    def size(self, full: int, trial: int) -> int:
        """A size or a number, smaller in a trial."""
        return trial if self.trial else full

    def times(self, full: int) -> int:
        """How many rounds."""
        return self.rounds or (min(full, 2) if self.trial else full)

    def file(self, path: Path, size: int) -> Path:
        """Write random bytes, bring them to the disk, leave them in the page cache."""
        make_file(path, size, random.Random(size))
        os.sync()
        return path


def quick_file(path: Path, number: int, size: int) -> Path:
    """Write a file unlike those of other numbers, quickly: its pieces are all alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    block = random.Random(number).randbytes(MIB)
    with path.open("wb") as file:
        for at in range(0, size, MIB):
            file.write(block[: size - at])
    return path


def same_start(folder: Path, size: int) -> None:
    """Leave nothing for the disk to do, and as much free memory as a run will fill that the machine really has.

    A virtual machine's host gives memory at the first touch, and takes it back two seconds after it was freed
    (free page reporting): whoever writes then pays for it, 1.9 s for a GiB where it costs 0.2 s otherwise. So what
    earlier runs freed is left to the host first; then a file of that size is written and deleted, and what it had
    will do for the two seconds that a run takes.
    """
    os.sync()
    if _REPORTING.exists():
        time.sleep(_REPORTING_SECONDS)
    path = folder / "memory.tmp"
    block = bytes(MIB)
    with path.open("wb") as file:
        for _ in range(size * 5 // 4 // MIB):
            file.write(block)
    path.unlink()


def emptied(path: Path) -> Path:
    """Make an empty folder, and leave nothing for the disk to do."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    os.sync()
    return path


def machine(folder: Path) -> str:
    """One line about what all this runs on."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")), "?")
    kind = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=True).stdout.strip()
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores, {model}; Linux {platform.release()}; Python {platform.python_version()}; "
        f"files on {kind}; load at the start {load:.1f}"
    )
