"""Thousands of peers that ping a tracker at a steady rate, with sessions that were written in advance."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tracker.app_factory import open_accounts
from tracker.auth import MAX_SESSIONS_PER_USER
from tracker.passwords import Passwords
from tracker.state_dir import StateDir

# Persistent connections that the peers share, one ping at a time on each. A slow tracker delays pings at once.
CONNECTIONS = 64


def make_sessions(state: Path, count: int) -> list[str]:
    """Write a tracker's STATE_DIR with `count` sessions before it starts; return their tokens.

    The tracker's own code writes the same rows as logins do, with one password hash for all. Each row is flushed to
    the disk, so the folder is made in memory and copied.
    """
    tokens = [secrets.token_urlsafe(32) for _ in range(count)]
    now = time.time()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        with StateDir(Path(memory) / "state") as made:
            accounts = open_accounts(made.path, now)
            password = Passwords().hash("correct horse")
            for number, token in enumerate(tokens):
                user = f"user{number // MAX_SESSIONS_PER_USER}"
                if number % MAX_SESSIONS_PER_USER == 0:
                    accounts.register(user, password, now)
                accounts.open_session(token, secrets.token_hex(16), user, f"127.0.0.1:{1024 + number}", True, now)
            accounts.close()
        shutil.copytree(Path(memory) / "state", state)
    return tokens


def ping_all(port: int, tokens: Sequence[str], interval: float, rounds: int) -> list[float]:
    """Ping for each session once in `interval` seconds, evenly spread.

    Returns:
        For each ping the milliseconds from its due time to the response, so a late ping counts.

    Raises:
        RuntimeError: if a ping is refused.
    """
    return asyncio.run(_ping_all(port, tokens, interval, rounds))


async def _ping_all(port: int, tokens: Sequence[str], interval: float, rounds: int) -> list[float]:
    took: list[float] = []
    began = asyncio.get_running_loop().time() + 0.1
    total = len(tokens) * rounds
    due = ((began + n * interval / len(tokens), tokens[n % len(tokens)]) for n in range(total))
    async with asyncio.timeout(interval * rounds * 2 + 30), asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(_ping_some(port, due, took))
    return took


async def _ping_some(port: int, due: Iterator[tuple[float, str]], took: list[float]) -> None:
    """Send pings over one connection, each taken from the common iterator `due`."""
    body = json.dumps({"epoch": "", "index_version": "0", "load": {"uploads": 1, "free_bytes": 10**9, "rate": 1.5}})
    now = asyncio.get_running_loop().time
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for at, token in due:
            await asyncio.sleep(at - now())
            writer.write(
                f"PUT /ping HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if not head.startswith(b"http/1.1 200 "):
                raise RuntimeError(head.decode())
            length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
            took.append((now() - at) * 1000)
    finally:
        writer.close()
