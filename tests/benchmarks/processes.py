"""Processes of a benchmark: CPU time, memory and ports. Knows no contestant."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")


class Sample(NamedTuple):
    """One run: wall-clock seconds, and CPU seconds (user and system) of all processes involved."""

    seconds: float
    cpu: float = 0.0

    def plus(self, other: Sample) -> Sample:
        """Return the sums of both."""
        return Sample(self.seconds + other.seconds, self.cpu + other.cpu)


def run(command: Sequence[str | Path], folder: Path | None = None) -> Sample:
    """Run a command and return its times.

    Raises:
        RuntimeError: if its exit status is not 0.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=folder
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"exit status {process.returncode}: {command}")
    return Sample(seconds, usage.ru_utime + usage.ru_stime)


def fsync_file(path: Path) -> Sample:
    """Call fsync on a file and return its time."""
    began = time.monotonic()
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    return Sample(time.monotonic() - began)


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU seconds of running processes so far, with those of finished threads."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def children(pid: int) -> list[int]:
    """Return the process ids of a process's children."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def resident_memory(pid: int, key: str = "VmRSS") -> int:
    """Return the resident memory of a process in bytes; its peak for the key `VmHWM`."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith(key + ":")).split()[1]) * 1024


def free_port() -> int:
    """Return a free port for a program that cannot choose one itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_listening(port: int, seconds: float = 10.0) -> None:
    """Wait until a port accepts connections.

    Raises:
        OSError: if it does not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
