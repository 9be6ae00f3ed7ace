"""Our own programs as contestants: a cluster of real processes, and a line to a pserver's Control that is open already.

A transfer's time is from the order on that line to the result: the file is published and durable then. A command of
pclient takes its own start besides; where that matters both are measured.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc

import pserver_pb2 as pb
from benchmarks.bench import Bench
from benchmarks.processes import Sample, cpu_seconds
from pserver_pb2_grpc import ControlStub
from system.certificates import Certificates
from system.cluster import Cluster, Peer

# As in the programs' own env files.
PING_INTERVAL = 10
_ORDER_SECONDS = 900.0


@contextmanager
def cluster(bench: Bench, certificates: Certificates | None = None) -> Iterator[Cluster]:
    """A tracker, and peers as they are asked for."""
    folder = bench.folder / "ours"
    folder.mkdir()
    made = Cluster(folder, certificates)
    try:
        made.start_tracker()
        yield made
    except BaseException:
        print(*(f"--- {node.program.name}\n{node.program.tail(15)}" for node in made.peers.values()), sep="\n")
        raise
    finally:
        for node in [*made.peers.values(), made.tracker]:
            node.program.stop(grace=5)


class Failed(Exception):
    """An order did not go well."""


class Line:
    """A connection to a pserver's Control."""

    def __init__(self, target: str, state: Path, credentials: grpc.ChannelCredentials | None = None) -> None:
        options = [("grpc.enable_http_proxy", 0)]
        self._channel = (
            grpc.insecure_channel(target, options)
            if credentials is None
            else grpc.secure_channel(target, credentials, options)
        )
        self._control = ControlStub(self._channel)
        self._metadata = (("p2p-cookie", (state / "cookie").read_text().strip()),)
        self.status()

    def status(self) -> pb.StatusResponse:
        """What `status` shows."""
        return self._control.Status(pb.StatusRequest(), metadata=self._metadata, timeout=10)

    def login(self, user: str) -> None:
        """Log in, with a new account."""
        self._control.Login(pb.LoginRequest(user=user, password="correct horse"), metadata=self._metadata, timeout=30)

    def share(self, *paths: Path) -> None:
        """Have files and folders shared, and announced."""
        order = pb.UploadCommand(paths=[str(path) for path in paths], copies=0)
        self._run(self._control.UploadFileRequest(iter([order]), metadata=self._metadata, timeout=_ORDER_SECONDS))

    def download(self, *names: str) -> float:
        """Fetch; return the seconds it took."""
        began = time.monotonic()
        order = pb.DownloadCommand(names=names)
        self._run(self._control.DownloadFileRequest(iter([order]), metadata=self._metadata, timeout=_ORDER_SECONDS))
        return time.monotonic() - began

    def begin(self, *names: str) -> pb.TransferEvent:
        """Order a download and leave it to itself."""
        events = self._control.DownloadFileRequest(
            iter([pb.DownloadCommand(names=names)]), metadata=self._metadata, timeout=_ORDER_SECONDS
        )
        return next(iter(events))

    def listed(self) -> int:
        """How many files the tracker lists."""
        replies = self._control.ListFiles(pb.ListFilesRequest(), metadata=self._metadata, timeout=60)
        return sum(len(reply.files) for reply in replies)

    def remove(self, *names: str) -> None:
        """Delete own copies."""
        parts = (pb.RemoveCommand(names=names[at : at + 1000]) for at in range(0, len(names), 1000))
        self._run(self._control.RemoveFiles(parts, metadata=self._metadata, timeout=_ORDER_SECONDS))

    def close(self) -> None:
        """Hang up."""
        self._channel.close()

    @staticmethod
    def _run(events: Iterator[pb.TransferEvent]) -> None:
        for event in events:
            for fault in event.results.faults:
                raise Failed(f"{fault.name}: {fault.code}: {fault.message}")


def line(peer: Peer, certificates: Certificates | None = None) -> Line:
    """A line to a peer of the cluster."""
    return Line(peer.address, peer.state, certificates.channel_credentials() if certificates else None)


def timed(at: Line, peers: Sequence[Peer], *names: str) -> Sample:
    """Download; count the CPU time of these peers."""
    pids = [peer.program.pid for peer in peers]
    before = cpu_seconds(pids)
    seconds = at.download(*names)
    return Sample(seconds, cpu_seconds(pids) - before)
