"""Other trackers as contestants: bittorrent-tracker on Node, and opentracker."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.processes import free_port, wait_until_listening
from benchmarks.rivals import NotAvailable, cache, require_programs

_BITTORRENT_TRACKER = "bittorrent-tracker@11.2.3"
# HTTP only, without statistics. The package's own command would load WebRTC, which needs a compiler.
_LAUNCHER = """import Server from {module}
new Server({{ udp: false, ws: false, stats: false }}).listen({port}, "127.0.0.1")
"""
# A swarm's info hash from its number, for wrk: 20 bytes that need no escaping in a URL.
LUA_INFO_HASH = "%020d"


@contextmanager
def bittorrent_tracker(folder: Path) -> Iterator[str]:
    """Run bittorrent-tracker; yield its URL."""
    module = _installed()
    port = free_port()
    launcher = folder / "bittorrent-tracker.mjs"
    launcher.write_text(_LAUNCHER.format(module=json.dumps(str(module)), port=port))
    with _running(["node", launcher], port) as url:
        yield url


@contextmanager
def opentracker(folder: Path, swarms: int) -> Iterator[str]:
    """Run opentracker for swarms 0 to `swarms` - 1; yield its URL. Debian's build serves listed swarms only."""
    require_programs(opentracker="opentracker")
    home = folder / "opentracker"
    home.mkdir()
    listed = home / "whitelist"
    listed.write_text("".join(f"{(LUA_INFO_HASH % swarm).encode().hex()}\n" for swarm in range(swarms)))
    port = free_port()
    command: list[str | Path] = [
        "opentracker",
        "-i",
        "127.0.0.1",
        "-p",
        str(port),
        "-P",
        str(port),
        "-d",
        home,
        "-w",
        listed.name,
    ]
    with _running(command, port) as url:
        yield url


def _installed() -> Path:
    require_programs(node="nodejs", npm="npm")
    home = cache() / "npm"
    module = home / "node_modules" / "bittorrent-tracker" / "server.js"
    if not module.exists():
        home.mkdir(parents=True, exist_ok=True)
        install: list[str | Path] = [
            "npm",
            "install",
            "--prefix",
            home,
            "--ignore-scripts",
            "--omit=optional",
            "--no-audit",
            "--no-fund",
        ]
        done = subprocess.run([*install, _BITTORRENT_TRACKER], capture_output=True, text=True, check=False, timeout=300)
        if done.returncode:
            raise NotAvailable(f"could not install {_BITTORRENT_TRACKER}: {done.stderr[-300:]}")
    return module


@contextmanager
def _running(command: Sequence[str | Path], port: int) -> Iterator[str]:
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_listening(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)
