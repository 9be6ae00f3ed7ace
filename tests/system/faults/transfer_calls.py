"""Commands to a peer over its Control service, without pclient, which starts slower than some transfers finish."""

import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Thread
from typing import Any, cast

import grpc

import pserver_pb2 as pb
from eventually import eventually
from ports import reserve_port
from pserver_pb2_grpc import ControlStub
from system.cluster import Metadata, Peer

CALL_TIMEOUT = 90.0


@dataclass
class Outcome:
    """Results of a command; `broken_by` is the status that ended its stream early, if any."""

    downloaded: list[pb.Downloaded] = field(default_factory=list)
    uploaded: list[pb.Uploaded] = field(default_factory=list)
    faults: list[pb.Fault] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    broken_by: grpc.StatusCode | None = None

    @property
    def single_download(self) -> pb.Downloaded:
        """The only downloaded file of a command that succeeded."""
        assert not self.faults and self.broken_by is None, self
        [only] = self.downloaded
        return only

    @property
    def single_upload(self) -> pb.Uploaded:
        """The only uploaded file of a command that succeeded."""
        assert not self.faults and self.broken_by is None, self
        [only] = self.uploaded
        return only

    @property
    def code(self) -> str:
        """The code of the only fault; empty without one."""
        return "".join(fault.code for fault in self.faults)


class TransferCall:
    """A running command, whose events are collected in a thread."""

    def __init__(self, peer: Peer, call: Callable[[ControlStub, Metadata], Iterator[pb.TransferEvent]]) -> None:
        self._outcome: Future[Outcome] = Future()
        self._thread = Thread(target=self._listen, args=(peer, call), daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether its stream has ended."""
        return self._outcome.done()

    def wait(self, seconds: float = CALL_TIMEOUT) -> Outcome:
        """Wait until its stream has ended and return the results."""
        return self._outcome.result(seconds)

    def _listen(self, peer: Peer, call: Callable[[ControlStub, Metadata], Iterator[pb.TransferEvent]]) -> None:
        outcome = Outcome()
        try:
            with peer.control() as (control, metadata):
                for event in call(control, metadata):
                    outcome.downloaded += event.results.downloaded
                    outcome.uploaded += event.results.uploaded
                    outcome.faults += event.results.faults
                    outcome.notices += [event.notice] if event.notice else []
        except grpc.RpcError as error:
            outcome.broken_by = cast("grpc.Call", error).code()
        except OSError:
            # The pserver has stopped and removed its cookie.
            outcome.broken_by = grpc.StatusCode.UNAVAILABLE
        self._outcome.set_result(outcome)


def download(peer: Peer, *names: str, output: str = "") -> TransferCall:
    """Start a download."""
    command = pb.DownloadCommand(names=names, output=output)
    return TransferCall(peer, lambda control, metadata: control.DownloadFileRequest(iter([command]), metadata=metadata))


def upload(peer: Peer, *names: str, copies: int = 1) -> TransferCall:
    """Start an upload of files in the peer's home folder."""
    command = pb.UploadCommand(paths=[str(peer.home / name) for name in names], copies=copies)
    return TransferCall(peer, lambda control, metadata: control.UploadFileRequest(iter([command]), metadata=metadata))


def remove(peer: Peer, *names: str) -> None:
    """Delete the peer's own copies; must succeed."""
    with peer.control() as (control, metadata):
        for event in control.RemoveFiles(iter([pb.RemoveCommand(names=names)]), metadata=metadata, timeout=20):
            assert not event.results.faults, event


def list_files(peer: Peer, match: str = "") -> list[pb.ListedFile]:
    """Return the files in the network."""
    with peer.control() as (control, metadata):
        pages = control.ListFiles(pb.ListFilesRequest(match=match), metadata=metadata, timeout=20)
        return [file for page in pages for file in page.files]


def moved_bytes(peer: Peer, kind: str = "download") -> int:
    """Return the bytes that the peer's transfers of a kind have done: verified, or sent."""
    return sum(each.progress.done for each in peer.status().transfers if each.kind == kind)


def wait_for_bytes(peer: Peer, call: TransferCall, size: int, kind: str = "download") -> int:
    """Wait until the transfers of a kind have done `size` bytes or the call has ended; return the bytes done."""
    done = 0

    def reached() -> bool:
        nonlocal done
        done = max(done, moved_bytes(peer, kind))
        return done >= size or call.done

    eventually(reached, CALL_TIMEOUT, every=0.003)
    return done


class MetricsEndpoint:
    """A METRICS_PORT for a peer; indexing returns the sum of a metric's samples."""

    def __init__(self) -> None:
        self.port = reserve_port()

    def __getitem__(self, name: str) -> float:
        url = f"http://127.0.0.1:{self.port}/metrics"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=5) as response:
            lines = response.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.split("{")[0].split()[0] == name)


def seconds_taken(action: Callable[[], Any]) -> float:
    """Return the seconds that `action` takes."""
    began = time.monotonic()
    action()
    return time.monotonic() - began
