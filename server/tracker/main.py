"""The tracker as a program: env file, state folder, socket, server, a clean end. The launcher calls it."""

import asyncio
import gc
import ipaddress
import json
import logging
import os
import sys
from pathlib import Path

from tracker.app_factory import TrackerParts, build
from tracker.env_file import EnvFault
from tracker.http_server import ListenError, listen, serve, stop_on_signals
from tracker.logs import configure_logging
from tracker.settings import Settings
from tracker.state_dir import StateDir, StateError
from tracker.wsgi_bridge import WsgiBridge

log = logging.getLogger("tracker")


class OutputError(Exception):
    """READY cannot be told; one line that says why."""


USAGE = "usage: python server/server.py ENV_SERVER"


def main(arguments: list[str]) -> int:
    """Serve until interrupted; the exit status."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        asked = arguments in (["--help"], ["-h"])
        sys.stdout.write(f"{USAGE}\n") if asked else sys.stderr.write(f"{USAGE}\n")
        return 0 if asked else 2
    try:
        settings = Settings.from_env_file(Path(arguments[0]))
    except EnvFault as error:
        for fault in error.lines:
            sys.stderr.write(f"server: {fault}\n")
        return 78
    configure_logging(settings.log_format)
    # The index is many small objects that live long and hold no cycles: looking through them as often as Python does by
    # itself takes more than half of the time of an announcement.
    gc.set_threshold(100_000, 50, 100)
    status = 0
    try:
        with StateDir(settings.state_dir) as state:
            parts = build(
                state.path,
                open_registration=settings.open_registration,
                ping_timeout=settings.ping_timeout,
                advertise_check=settings.advertise_check,
            )
            try:
                asyncio.run(_run(settings, parts))
            finally:
                parts.close()
    except (StateError, ListenError, OutputError) as error:
        sys.stderr.write(f"server: {error}\n")
        status = 1
    # A thread that waits for a resolver must not keep the process, and the server's own must not outlive Python.
    os._exit(status)


async def _run(settings: Settings, parts: TrackerParts) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    listener = listen(settings.host, settings.port)
    host, port = listener.getsockname()[:2]
    if settings.tls is None and not _is_loopback(host):
        log.warning("no TLS: who overhears the network learns passwords, tokens and names (set TLS_CERT and TLS_KEY)")
    gateway = WsgiBridge(parts.app, parts.body_limit, parts.pool)

    def ready() -> None:
        _tell("READY " + json.dumps({"host": host, "port": port, "pid": os.getpid()}) + "\n")
        log.info("listening on %s:%s", host, port)

    try:
        await serve(gateway, listener, settings.tls, ready, stop)
    finally:
        gateway.close()
    log.info("stopped")


def _tell(line: str) -> None:
    """Write to stdout past its buffer, which Python would try to flush once more at its end."""
    if sys.stdout is None:
        raise OutputError("stdout is closed, and READY is told there: open it, or send it to /dev/null")
    try:
        os.write(sys.stdout.fileno(), line.encode())
    except OSError as error:
        raise OutputError(f"READY cannot be told on stdout: {error.strerror}") from error


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host.split("%", 1)[0]).is_loopback
