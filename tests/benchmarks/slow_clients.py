"""Clients that send one byte a second, and the time of a ping beside them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

_HEAD = b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


@contextmanager
def slow_clients(port: int, count: int) -> Iterator[None]:
    """Keep connections open, half of them in a request's head, half in its body, until the server closes them."""
    stop = threading.Event()
    with ExitStack() as stack:
        connections = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(count)]
        for number, connection in enumerate(connections):
            connection.sendall(_HEAD if number % 2 else _HEAD + b"Content-Length: 10000\r\n\r\n")

        def drip() -> None:
            while not stop.wait(1):
                for connection in list(connections):
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        connections.remove(connection)

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def slowest_milliseconds(request: Callable[[], object], seconds: float) -> float:
    """Repeat a request for `seconds`; return the milliseconds of the slowest."""
    worst, until = 0.0, time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        request()
        worst = max(worst, time.monotonic() - began)
    return worst * 1000
