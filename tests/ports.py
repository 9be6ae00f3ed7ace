"""TCP ports for programs under test, reserved so that no other test process takes them."""

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import IO

_FIRST_PORT = 10_240
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
# Locks of the ports that this process has reserved. The kernel releases them when the process ends.
_reserved: list[IO[bytes]] = []


def reserve_ports(count: int) -> list[int]:
    """Return `count` ports on which nothing listens, reserved until this process ends.

    The ports are below the ephemeral range, so neither an outgoing connection nor a program that asks for port 0 gets
    one of them. A lock file for each port keeps other test processes of this user away.
    """
    folder = Path(tempfile.gettempdir()) / f"p2p-test-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    candidates = range(_FIRST_PORT, _first_ephemeral_port())
    found: list[int] = []
    while len(found) < count:
        port = random.choice(candidates)
        lock = (folder / str(port)).open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            lock.close()
            continue
        _reserved.append(lock)
        found.append(port)
    return found


def reserve_port() -> int:
    """Return one port as `reserve_ports` does."""
    [port] = reserve_ports(1)
    return port


def _first_ephemeral_port() -> int:
    try:
        first = int(_EPHEMERAL_RANGE.read_text().split()[0])
    except OSError:
        first = 32_768
    return max(first, _FIRST_PORT + 1_000)
