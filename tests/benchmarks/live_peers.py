"""Very many peers that ping a tracker in time: sessions made ahead, pings over HTTP at a steady rate."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tracker.accounts import Accounts
from tracker.auth import MAX_SESSIONS_PER_USER
from tracker.passwords import Passwords
from tracker.state_dir import StateDir, load_secret

# Connections, kept, that the peers' pings share. Each is one ping at a time, so a slow tracker is felt at once.
CONNECTIONS = 64


def make_sessions(state: Path, count: int) -> list[str]:
    """Fill the folder of a tracker that does not run yet; return a token for each session.

    The rows are those of as many logins, written by the tracker's own code, without a password hash for each. It
    flushes each to the disk: so this is done in memory, and the folder copied.
    """
    tokens = [secrets.token_urlsafe(32) for _ in range(count)]
    now = time.time()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        with StateDir(Path(memory) / "state") as made:
            accounts = Accounts(made.path / "accounts.sqlite3", load_secret(made.path / "secret"), now)
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
    """Have each session ping once in `interval` seconds, evenly spread.

    Returns the milliseconds from when each ping was due to its answer: if pings are late, that counts.

    Raises:
        RuntimeError: a ping was refused.
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
    """Over one connection, the pings that no other connection has taken."""
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
