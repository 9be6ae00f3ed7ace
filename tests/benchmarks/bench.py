"""The parameters and files of a benchmark. Its folder is on a real disk, the same one for all contestants."""

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
# Exists if the kernel reports free memory to its host, which takes it two seconds after it was freed.
_REPORTING = Path("/sys/module/page_reporting")
_REPORTING_SECONDS = 3.0


@dataclass(frozen=True)
class Bench:
    """Parameters of one benchmark.

    Attributes:
        trial: small sizes and few rounds, to test the benchmark itself; the figures mean nothing.
        rounds: number of rounds, if given on the command line.
    """

    folder: Path
    trial: bool
    rounds: int | None

    def size(self, full: int, trial: int) -> int:
        """Return `full`, or `trial` in a trial."""
        return trial if self.trial else full

    def round_count(self, full: int) -> int:
        """Return the number of rounds; `full` by default."""
        return self.rounds or (min(full, 2) if self.trial else full)

    def file(self, path: Path, size: int) -> Path:
        """Write and sync a file of random bytes, which stays in the page cache; return the path."""
        make_file(path, size, random.Random(size))
        os.sync()
        return path


def quick_file(path: Path, number: int, size: int) -> Path:
    """Write a file quickly, with equal pieces that differ from those of other numbers; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    block = random.Random(number).randbytes(MIB)
    with path.open("wb") as file:
        for at in range(0, size, MIB):
            file.write(block[: size - at])
    return path


def prepare_run(folder: Path, size: int) -> None:
    """Sync the disk, and make the host of a virtual machine back `size` bytes of free memory.

    With free page reporting, a host takes memory back two seconds after it was freed and returns it at the first
    access. Writing 1 GiB then takes 1.9 s instead of 0.2 s. So this waits until earlier memory has gone to the host,
    then writes and deletes a file of that size; its memory stays for the two seconds of a run.
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


def empty_folder(path: Path) -> Path:
    """Make or empty a folder, and sync the disk; return the path."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    os.sync()
    return path


def describe_machine(folder: Path) -> str:
    """Return one line about hardware, kernel, Python and file system."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")), "?")
    kind = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=True).stdout.strip()
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores, {model}; Linux {platform.release()}; Python {platform.python_version()}; "
        f"files on {kind}; load at start {load:.1f}"
    )
