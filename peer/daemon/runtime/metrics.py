"""Figures of a pserver for Prometheus, on METRICS_PORT of this machine alone. No names and no addresses in them."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

# Whoever reaches a port gets nothing but a refusal: the figures are for what runs on this machine.
_ADDRESS = "127.0.0.1"


class Metrics:
    """The counters; whoever moves something counts it."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.bytes_sent = Counter("p2p_sent_bytes", "Payload sent to other peers", registry=self._registry)
        self.bytes_received = Counter(
            "p2p_received_bytes", "Payload that other peers sent and that verified", registry=self._registry
        )
        self.pieces_verified = Counter("p2p_pieces_verified", "Pieces that verified", registry=self._registry)
        self.corrupt_pieces = Counter("p2p_pieces_refused", "Pieces that did not verify", registry=self._registry)
        self.transfers = Counter("p2p_transfers", "Transfers that ended", ["kind", "outcome"], registry=self._registry)
        self.holders_dropped = Counter(
            "p2p_holders_dropped", "Holders that a download lost, and why", ["why"], registry=self._registry
        )

    def add_gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Show a value that is read when it is asked for."""
        Gauge(name, text, registry=self._registry).set_function(read)

    def count_received(self, size: int, pieces: int = 1) -> None:
        """Count payload that verified."""
        self.bytes_received.inc(size)
        self.pieces_verified.inc(pieces)

    def count_corrupt_piece(self) -> None:
        """Count a piece that did not verify, and the holder that it cost."""
        self.corrupt_pieces.inc()
        self.count_dropped_holder("bad_piece")

    def count_dropped_holder(self, why: str) -> None:
        """Count a holder that a download lost: bad_piece, silent or failed."""
        self.holders_dropped.labels(why).inc()

    def count_transfer(self, kind: str, outcome: str) -> None:
        """Count a transfer: done, failed or cancelled."""
        self.transfers.labels(kind, outcome).inc()

    def serve(self, port: int) -> tuple[int, Callable[[], None]]:
        """Answer scrapes; return the port (0 asks for any free one) and what ends it. Raises OSError if it is taken."""
        server, thread = start_http_server(port, addr=_ADDRESS, registry=self._registry)

        def stop() -> None:
            server.shutdown()
            thread.join(1.0)

        return server.server_port, stop
