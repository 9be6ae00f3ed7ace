"""Our own programs as contestants: a cluster of real processes, and a connection to a pserver's Control service.

The time of a transfer is from the request on an open connection to the result, when the file is published and durable.
pclient needs time for its own start besides; where that matters, both are measured.
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

# Seconds; the default of the env file.
PING_INTERVAL = 10
_COMMAND_TIMEOUT = 900.0


@contextmanager
def cluster(bench: Bench, certificates: Certificates | None = None) -> Iterator[Cluster]:
    """Yield a cluster with a running tracker."""
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


class CommandFailed(Exception):
    """A command failed; the message has the fault."""


class DaemonClient:
    """An open connection to a pserver's Control service. Its methods raise CommandFailed."""

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
        """Return the pserver's status."""
        return self._control.Status(pb.StatusRequest(), metadata=self._metadata, timeout=10)

    def login(self, user: str) -> None:
        """Log in with a new account."""
        self._control.Login(pb.LoginRequest(user=user, password="correct horse"), metadata=self._metadata, timeout=30)

    def share(self, *paths: Path) -> None:
        """Share and announce files and folders."""
        order = pb.UploadCommand(paths=[str(path) for path in paths], copies=0)
        self._run(self._control.UploadFileRequest(iter([order]), metadata=self._metadata, timeout=_COMMAND_TIMEOUT))

    def download(self, *names: str) -> float:
        """Download; return the seconds."""
        began = time.monotonic()
        order = pb.DownloadCommand(names=names)
        self._run(self._control.DownloadFileRequest(iter([order]), metadata=self._metadata, timeout=_COMMAND_TIMEOUT))
        return time.monotonic() - began

    def start_download(self, *names: str) -> pb.TransferEvent:
        """Start a download and return its first event."""
        events = self._control.DownloadFileRequest(
            iter([pb.DownloadCommand(names=names)]), metadata=self._metadata, timeout=_COMMAND_TIMEOUT
        )
        return next(iter(events))

    def count_listed_files(self) -> int:
        """Return the number of files that the tracker lists."""
        replies = self._control.ListFiles(pb.ListFilesRequest(), metadata=self._metadata, timeout=60)
        return sum(len(reply.files) for reply in replies)

    def remove(self, *names: str) -> None:
        """Delete the peer's own copies."""
        parts = (pb.RemoveCommand(names=names[at : at + 1000]) for at in range(0, len(names), 1000))
        self._run(self._control.RemoveFiles(parts, metadata=self._metadata, timeout=_COMMAND_TIMEOUT))

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    @staticmethod
    def _run(events: Iterator[pb.TransferEvent]) -> None:
        for event in events:
            for fault in event.results.faults:
                raise CommandFailed(f"{fault.name}: {fault.code}: {fault.message}")


def connect(peer: Peer, certificates: Certificates | None = None) -> DaemonClient:
    """Connect to a peer of the cluster."""
    return DaemonClient(peer.address, peer.state, certificates.channel_credentials() if certificates else None)


def timed_download(at: DaemonClient, peers: Sequence[Peer], *names: str) -> Sample:
    """Download; return the time, and the CPU time of `peers`."""
    pids = [peer.program.pid for peer in peers]
    before = cpu_seconds(pids)
    seconds = at.download(*names)
    return Sample(seconds, cpu_seconds(pids) - before)
