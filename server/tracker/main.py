"""The tracker as a program: env file, state folder, socket, server, clean shutdown. server/server.py calls it."""

import asyncio
import gc
import ipaddress
import json
import logging
import os
import sys
from pathlib import Path

from tracker import PROTOCOL, VERSION
from tracker.app_factory import TrackerParts, build
from tracker.env_file import EnvFault
from tracker.errors import Incompatible
from tracker.http_server import ListenError, listen, serve, stop_on_signals
from tracker.logs import configure_logging
from tracker.settings import Settings
from tracker.state_dir import StateDir, StateError
from tracker.wsgi_bridge import WsgiBridge

log = logging.getLogger("tracker")


class OutputError(Exception):
    """READY cannot be written; one line that says why."""


_INCOMPATIBLE = 69
USAGE = "usage: python server/server.py ENV_SERVER"


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        arguments: the command line without the program: the env file, `--version` or `--help`.

    Returns:
        The exit status: 0, 2 after a usage error, 78 after a fault in the env file. After a start the process exits
        here: with 0; with 1 if the state folder, the address or stdout cannot be used; with 69 if a newer release wrote
        the state; with 74 if the disk is full.
    """
    if arguments == ["--version"]:
        sys.stdout.write(f"{VERSION}\n")
        return 0
    if len(arguments) != 1 or arguments[0].startswith("-"):
        help_wanted = arguments in (["--help"], ["-h"])
        sys.stdout.write(f"{USAGE}\n") if help_wanted else sys.stderr.write(f"{USAGE}\n")
        return 0 if help_wanted else 2
    try:
        settings = Settings.from_env_file(Path(arguments[0]))
    except EnvFault as error:
        for fault in error.lines:
            sys.stderr.write(f"server: {fault}\n")
        return 78
    configure_logging(settings.log_format)
    # The index is many long-lived small objects without cycles. With Python's default thresholds the garbage collector
    # takes more than half of the time of an announcement.
    gc.set_threshold(100_000, 50, 100)
    status = 0
    try:
        with StateDir(settings.state_dir) as state:
            parts = build(
                state.path,
                open_registration=settings.open_registration,
                ping_timeout=settings.ping_timeout,
                advertise_check=settings.advertise_check,
                trusted_proxies=settings.trusted_proxies,
            )
            try:
                asyncio.run(_run(settings, parts))
            finally:
                parts.close()
    except (StateError, Incompatible, ListenError, OutputError) as error:
        sys.stderr.write(f"server: {error}\n")
        status = _INCOMPATIBLE if isinstance(error, Incompatible) else getattr(error, "exit_status", 1)
    # Without Python's own shutdown: it would wait for a thread in a DNS lookup, and granian's threads would outlive it.
    os._exit(status)


async def _run(settings: Settings, parts: TrackerParts) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    listeners = listen(settings.host, settings.port)
    addresses = [listener.getsockname()[0] for listener in listeners]
    host, port = listeners[0].getsockname()[:2]
    if settings.tls is None and not all(map(_is_loopback, addresses)):
        log.warning("no TLS: passwords, tokens and names can be read on the network (set TLS_CERT and TLS_KEY)")
    bridge = WsgiBridge(parts.app, parts.body_limit, parts.pool, parts.source_of)

    def ready() -> None:
        fields = {"host": host, "port": port, "pid": os.getpid(), "version": VERSION, "protocol": PROTOCOL}
        _write_stdout("READY " + json.dumps(fields) + "\n")
        if sys.stderr is not None and sys.stderr.isatty():
            sys.stderr.write(f"Dashboard: {_dashboard_url(host, port, settings.tls is not None)}\n")
        log.info("listening on %s, port %s", ", ".join(addresses), port)

    try:
        await serve(bridge, listeners, settings.tls, ready, stop)
    finally:
        bridge.close()
    log.info("stopped")


def _dashboard_url(host: str, port: int, tls: bool) -> str:
    """Return the dashboard's address for a browser on this machine."""
    address = ipaddress.ip_address(host.split("%", 1)[0])
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    shown = f"[{address}]" if address.version == 6 else str(address)
    return f"{'https' if tls else 'http'}://{shown}:{port}/"


def _write_stdout(line: str) -> None:
    """Write to stdout without its buffer, which Python would flush once more when it exits."""
    if sys.stdout is None:
        raise OutputError("READY cannot be written to stdout: it is closed; open it, or redirect it to /dev/null")
    try:
        os.write(sys.stdout.fileno(), line.encode())
    except OSError as error:
        raise OutputError(f"READY cannot be written to stdout: {error.strerror}") from error


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host.split("%", 1)[0]).is_loopback
