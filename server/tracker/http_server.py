"""Listens and serves in one process until it is stopped, with granian. Knows no rule of the tracker.

It uses private parts of granian (SocketHolder, _init_shared_socket) to pass it a socket: check them before an upgrade.
"""

import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import Callable
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


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket that no other process can share.

    granian's own socket has SO_REUSEPORT: a second tracker on the port would start without an error, and would get
    every other request with an index of its own.

    Args:
        host: host name or IP address.
        port: port; 0 for any free one.

    Raises:
        ListenError: the port is in use, or the address is not one of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        shown = f"[{host}]" if ":" in host else host
        raise ListenError(f"cannot listen on {shown}:{port}: {reason}") from error
    return listener


class _Server(Server):
    """granian on a socket that is open already."""

    def __init__(self, listener: socket.socket, **settings: Any) -> None:
        super().__init__(**settings)
        self._listener = listener

    def _init_shared_socket(self) -> None:
        holder: Any = SocketHolder
        self._shd = holder(self._listener.detach(), False, BACKLOG)


def _create(listener: socket.socket, **settings: Any) -> _Server:
    try:
        return _Server(listener, **settings)
    except ssl.SSLError as error:
        raise ListenError(
            f"TLS_CERT and TLS_KEY cannot be used: {error.reason or 'the key is not the key of the certificate'}"
        ) from error


async def serve(
    bridge: WsgiBridge, listener: socket.socket, tls: TlsFiles | None, ready: Callable[[], None], stop: asyncio.Event
) -> None:
    """Serve until `stop` is set, then finish the requests that have arrived.

    Args:
        bridge: runs the application.
        listener: socket to serve on; it is closed at the end.
        tls: certificate and key; None for plain HTTP.
        ready: called once requests get responses.
        stop: ends the serving when set.

    Raises:
        ListenError: the certificate and key cannot be used.
    """
    host, port = listener.getsockname()[:2]
    server = _create(
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
    serving = asyncio.create_task(server.serve())
    stopping = asyncio.create_task(stop.wait())
    # The socket listens already, so early connections wait in its queue until granian accepts them.
    await asyncio.sleep(0)
    ready()
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if serving.done():
        serving.result()
        return
    server.stop()  # type: ignore[no-untyped-call]
    try:
        async with asyncio.timeout(SHUTDOWN_TIMEOUT):
            await bridge.wait_idle()
    except TimeoutError:
        log.warning("stopped before all requests had their response")
    await asyncio.wait({serving}, timeout=CLOSE_TIMEOUT)


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` at SIGTERM and at Ctrl-C."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
