"""Listens and serves in one process until it is stopped, with granian. Knows no rule of the tracker.

It uses private parts of granian (SocketHolder, _init_shared_socket) to pass it a socket: check them before an upgrade.
"""

import asyncio
import errno
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from tracker.wsgi_bridge import WsgiBridge

log = logging.getLogger("tracker")

BACKLOG = 2048
# Times that another free port is tried, if the first one is not free at all addresses.
_PORT_ATTEMPTS = 20
# Seconds for the headers of a request to arrive.
HEADER_TIMEOUT = 20
# Seconds after SIGTERM for requests that have arrived to get their response.
SHUTDOWN_TIMEOUT = 10.0
# Seconds after that for responses to be sent, and for connections with unfinished requests.
CLOSE_TIMEOUT = 1.0


class ListenError(Exception):
    """The address cannot be listened on; one line that says why."""


@dataclass(frozen=True)
class TlsFiles:
    """PEM files: a certificate with those that lead to its authority, and its private key."""

    cert: Path
    key: Path


def listen(host: str, port: int) -> list[socket.socket]:
    """Open listening sockets that no other process can share, one for each address of a host, all on one port.

    granian's own socket has SO_REUSEPORT: a second tracker on the port would start without an error, and would get
    every other request with an index of its own.

    Args:
        host: host name or IP address. An address of a name that this machine does not have is skipped, if it has
            another one.
        port: port; 0 for any that is free at all addresses.

    Returns:
        The sockets, those of IPv4 first.

    Raises:
        ListenError: the port is in use, or no address is one of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        addresses = sorted(dict.fromkeys((family, address) for family, _, _, _, address in found))
        for attempt in range(_PORT_ATTEMPTS):
            try:
                return _listen_at_all(addresses)
            except OSError as error:
                # A free port of the first address may be in use at the next one.
                last = port != 0 or len(addresses) == 1 or attempt == _PORT_ATTEMPTS - 1
                if last or error.errno != errno.EADDRINUSE:
                    raise
        raise AssertionError("the last attempt returns or raises")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        shown = f"[{host}]" if ":" in host else host
        raise ListenError(f"cannot listen on {shown}:{port}: {reason}") from error


def _listen_at_all(addresses: Sequence[tuple[socket.AddressFamily, Any]]) -> list[socket.socket]:
    listeners: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, address in addresses:
            chosen = listeners[0].getsockname()[1] if listeners else address[1]
            try:
                listeners.append(_listen_at(family, (address[0], chosen, *address[2:])))
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
                if len(addresses) > 1:
                    log.info("not listening on %s: %s", address[0], (error.strerror or "").lower())
        if missing is not None and not listeners:
            raise missing
    except OSError:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _listen_at(family: socket.AddressFamily, address: Any) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


class _Server(Server):
    """granian on a socket that is open already."""

    def __init__(self, listener: socket.socket, **settings: Any) -> None:
        super().__init__(**settings)
        self._listener = listener

    def _init_shared_socket(self) -> None:
        holder: Any = SocketHolder
        self._shd = holder(self._listener.detach(), False, BACKLOG)


def _create(bridge: WsgiBridge, listener: socket.socket, tls: TlsFiles | None) -> _Server:
    host, port = listener.getsockname()[:2]
    try:
        return _Server(
            listener,
            target=bridge,
            address=host,
            port=port,
            interface=Interfaces.RSGI,
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(header_read_timeout=HEADER_TIMEOUT * 1000, max_buffer_size=64 * 1024),
            websockets=False,
            backlog=BACKLOG,
            backpressure=4096,
            log_enabled=False,
            ssl_cert=tls.cert if tls else None,
            ssl_key=tls.key if tls else None,
        )
    except ssl.SSLError as error:
        raise ListenError(
            f"TLS_CERT and TLS_KEY cannot be used: {error.reason or 'the key is not the key of the certificate'}"
        ) from error


async def serve(
    bridge: WsgiBridge,
    listeners: Sequence[socket.socket],
    tls: TlsFiles | None,
    ready: Callable[[], None],
    stop: asyncio.Event,
) -> None:
    """Serve until `stop` is set, then finish the requests that have arrived.

    Args:
        bridge: runs the application.
        listeners: sockets to serve on; they are closed at the end.
        tls: certificate and key; None for plain HTTP.
        ready: called once requests get responses.
        stop: ends the serving when set.

    Raises:
        ListenError: the certificate and key cannot be used.
    """
    servers = [_create(bridge, listener, tls) for listener in listeners]
    serving = [asyncio.create_task(server.serve()) for server in servers]
    stopping = asyncio.create_task(stop.wait())
    # The sockets listen already, so early connections wait in their queues until granian accepts them.
    await asyncio.sleep(0)
    ready()
    await asyncio.wait({*serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    for server in servers:
        server.stop()  # type: ignore[no-untyped-call]
    failed = [task for task in serving if task.done()]
    if failed:
        failed[0].result()
        return
    try:
        async with asyncio.timeout(SHUTDOWN_TIMEOUT):
            await bridge.wait_idle()
    except TimeoutError:
        log.warning("stopped before all requests had their response")
    await asyncio.wait(serving, timeout=CLOSE_TIMEOUT)


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` at SIGTERM and at Ctrl-C."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
