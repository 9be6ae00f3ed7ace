"""Runs wrk: as many requests as a server answers over a few connections, kept if it keeps them. Knows no server."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from benchmarks.rivals import need

CONNECTIONS = 16
_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


class Load(NamedTuple):
    """Requests per second, and what all but a hundredth of them took at most, in milliseconds."""

    rate: float
    p99: float
    # Whether the server kept its connections; wrk opens them anew otherwise.
    kept: bool


def wrk(url: str, script: Path, seconds: int) -> Load:
    """Load a server by a Lua script.

    Raises:
        RuntimeError: not every answer was a good one.
    """
    need(wrk="wrk")
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", str(script), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 30).stdout
    errors = re.findall(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    connect, read, write, late = map(int, errors[0]) if errors else (0, 0, 0, 0)
    if "Non-2xx" in said or connect or write or late:
        raise RuntimeError(said)
    [rate] = re.findall(r"Requests/sec:\s+([0-9.]+)", said)
    [(p99, unit)] = re.findall(r"99%\s+([0-9.]+)(us|ms|s)", said)
    return Load(float(rate), float(p99) * _MILLISECONDS[unit], kept=not read)
