"""Listens and serves in one process until told to stop. granian reads the sockets; no rule of the tracker is here."""

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
HEADER_TIMEOUT = 20
# A request that has arrived gets this long after SIGTERM to be answered; then its answer this long to leave, which is
# also how long connections that never finish a request are waited for.
SHUTDOWN_TIMEOUT = 10.0
CLOSE_TIMEOUT = 1.0


class ListenError(Exception):
    """The address cannot be listened on; one line that says why."""


@dataclass(frozen=True)
class TlsFiles:
    cert: Path
    key: Path


def listen(host: str, port: int) -> socket.socket:
    """A listening socket that nobody else can share.

    granian's own would set SO_REUSEPORT: a second tracker would start beside the first without a word and take every
    other request to an index of its own.

    Raises:
        ListenError: the port is taken, or the address is not this machine's.
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
        raise ListenError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    return listener


class _Server(Server):
    """granian on a socket of ours."""

    def __init__(self, listener: socket.socket, **settings: Any) -> None:
        super().__init__(**settings)
        self._listener = listener

    def _init_shared_socket(self) -> None:
        holder: Any = SocketHolder
        self._shd = holder(self._listener.detach(), False, BACKLOG)


def _started(listener: socket.socket, **settings: Any) -> _Server:
    try:
        return _Server(listener, **settings)
    except ssl.SSLError as error:
        raise ListenError(
            f"TLS_CERT and TLS_KEY cannot be used: {error.reason or 'they do not go together'}"
        ) from error


async def serve(
    gateway: WsgiBridge, listener: socket.socket, tls: TlsFiles | None, ready: Callable[[], None], stop: asyncio.Event
) -> None:
    """Serve until `stop` is set, then answer what is under way. `ready` is called once requests are answered."""
    host, port = listener.getsockname()[:2]
    server = _started(
        listener,
        target=gateway,
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
    # The socket listens already: whoever connects now waits in its queue for the moment it takes to begin.
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
            await gateway.wait_idle()
    except TimeoutError:
        log.warning("stopped with requests under way")
    await asyncio.wait({serving}, timeout=CLOSE_TIMEOUT)


def stop_on_signals(stop: asyncio.Event) -> None:
    """SIGTERM and Ctrl-C ask for a clean end."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
