"""Runs wrk, which sends requests over a few connections as fast as a server responds. Knows no server."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from benchmarks.rivals import require_programs

CONNECTIONS = 16
_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


class Load(NamedTuple):
    """Requests per second, and the 99th percentile of their milliseconds."""

    rate: float
    p99: float
    # Whether the server keeps connections open; otherwise wrk reconnects.
    kept: bool


def wrk(url: str, script: Path, seconds: int) -> Load:
    """Load a server for `seconds` with a Lua script.

    Raises:
        RuntimeError: if a response is an error.
    """
    require_programs(wrk="wrk")
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", str(script), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 30).stdout
    errors = re.findall(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    connect, read, write, late = map(int, errors[0]) if errors else (0, 0, 0, 0)
    if "Non-2xx" in said or connect or write or late:
        raise RuntimeError(said)
    [rate] = re.findall(r"Requests/sec:\s+([0-9.]+)", said)
    [(p99, unit)] = re.findall(r"99%\s+([0-9.]+)(us|ms|s)", said)
    return Load(float(rate), float(p99) * _MILLISECONDS[unit], kept=not read)
