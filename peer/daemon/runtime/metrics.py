"""What a pserver measures of itself: rates of transfers, and metrics for Prometheus on METRICS_PORT of this machine.

Metrics contain no names and no addresses.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

# The addresses of localhost: the metrics need no login, so only programs on this machine can read them.
_ADDRESS, _ADDRESS_IPV6 = "127.0.0.1", "::1"
# Seconds after which bytes count for 1/e, about a third.
TIME_CONSTANT = 3.0


@dataclass(slots=True)
class Rate:
    """Bytes per second of the last few seconds, exponentially weighted. `clock` returns seconds that never decrease."""

    clock: Callable[[], float]
    bytes: float = 0.0
    seconds: float = 0.0
    last_update: float = field(default=0.0)

    def __post_init__(self) -> None:
        self.last_update = self.clock()

    def add(self, size: int) -> None:
        """Count `size` bytes now."""
        self._decay()
        self.bytes += size

    def now(self) -> float:
        """Return the bytes per second."""
        self._decay()
        # Less than a byte is the rest of an old transfer.
        return self.bytes / self.seconds if self.seconds > 0 and self.bytes >= 1 else 0.0

    def _decay(self) -> None:
        now = self.clock()
        elapsed, self.last_update = now - self.last_update, now
        fade = math.exp(-elapsed / TIME_CONSTANT)
        self.bytes *= fade
        self.seconds = self.seconds * fade + elapsed


class Metrics:
    """The counters of one pserver. Every part counts its own events here."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.bytes_sent = Counter("p2p_sent_bytes", "Payload sent to other peers", registry=self._registry)
        self.bytes_received = Counter(
            "p2p_received_bytes", "Payload that other peers sent and that verified", registry=self._registry
        )
        self.pieces_verified = Counter("p2p_pieces_verified", "Pieces that verified", registry=self._registry)
        self.corrupt_pieces = Counter("p2p_pieces_refused", "Pieces that did not verify", registry=self._registry)
        self.bytes_hashed = Counter(
            "p2p_hashed_bytes",
            "Bytes of shared files that were read to find or check their ids",
            registry=self._registry,
        )
        self.transfers = Counter("p2p_transfers", "Transfers that ended", ["kind", "outcome"], registry=self._registry)
        self.holders_dropped = Counter(
            "p2p_holders_dropped", "Holders that a download lost, and why", ["why"], registry=self._registry
        )

    def add_gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Add a gauge.

        Args:
            name: its name for Prometheus.
            text: its help text.
            read: returns the value at each scrape. A scrape runs in a thread of its own.
        """
        Gauge(name, text, registry=self._registry).set_function(read)

    def count_received(self, size: int, pieces: int = 1) -> None:
        """Count `size` bytes of payload, in `pieces` pieces, that verified."""
        self.bytes_received.inc(size)
        self.pieces_verified.inc(pieces)

    def count_corrupt_piece(self) -> None:
        """Count a piece that did not verify, and the holder that was dropped for it."""
        self.corrupt_pieces.inc()
        self.count_dropped_holder("bad_piece")

    def count_dropped_holder(self, why: str) -> None:
        """Count a holder that a download lost; `why` is bad_piece, silent or failed."""
        self.holders_dropped.labels(why).inc()

    def count_transfer(self, kind: str, outcome: str) -> None:
        """Count a finished transfer; `outcome` is done, failed or cancelled."""
        self.transfers.labels(kind, outcome).inc()

    def serve(self, port: int) -> tuple[int, Callable[[], None]]:
        """Serve the metrics by HTTP in a thread.

        Args:
            port: where to listen; 0 for any free port.

        Returns:
            The port, and a blocking function that stops the server.

        Raises:
            OSError: if the port is in use.
        """
        servers = [start_http_server(port, addr=_ADDRESS, registry=self._registry)]
        own_port = servers[0][0].server_port
        try:
            servers.append(start_http_server(own_port, addr=_ADDRESS_IPV6, registry=self._registry))
        except OSError as error:
            # Many machines have no IPv6.
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                _stop(servers)
                raise
        return own_port, lambda: _stop(servers)


def _stop(servers: list[tuple[WSGIServer, Thread]]) -> None:
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join(1.0)


class SentBytes:
    """Payload sent to other peers: the counter for the operator, and the rate that pings report."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float]) -> None:
        """`clock` returns seconds that never go back."""
        self._counter = metrics.bytes_sent
        self._rate = Rate(clock)

    def add(self, size: int) -> None:
        """Count `size` bytes that were sent now."""
        self._rate.add(size)
        self._counter.inc(size)

    def rate(self) -> float:
        """Return the bytes per second of the last few seconds."""
        return self._rate.now()
