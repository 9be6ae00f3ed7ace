"""What Control reports of a pserver and its network: release, status and lists, and their protobuf forms. No I/O.

The pserver makes these values and calls `to_pb`; its pclient calls `from_pb` and shows them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import pserver_pb2 as pb
from common.control_messages import Progress, text
from common.printable import printable
from common.version import Release


def release_to_pb(release: Release) -> pb.Release:
    """Return the message of a release."""
    return pb.Release(version=release.version, oldest_protocol=release.oldest, newest_protocol=release.newest)


def release_from_pb(message: pb.Release) -> Release:
    """Return the release of a message. A program before 0.2.0 sends none."""
    if not message.newest_protocol:
        return Release()
    return Release(printable(message.version), message.oldest_protocol, message.newest_protocol)


class ListedFile(NamedTuple):
    """One version of a name in the network's list. A tuple: a page has thousands."""

    name: str
    id: str
    size: int
    # Numbers of complete and of partial holders.
    holders: int
    partial: int
    # The time of the last modification in Unix seconds; None if it is unknown.
    modified: float | None = None
    executable: bool = False

    def to_pb(self) -> pb.ListedFile:
        return pb.ListedFile(
            name=text(self.name),
            id=self.id,
            size=self.size,
            holders=self.holders,
            partial=self.partial,
            modified=self.modified,
            executable=self.executable,
        )

    @classmethod
    def from_pb(cls, message: pb.ListedFile) -> ListedFile:
        modified = message.modified if message.HasField("modified") else None
        return cls(
            message.name, message.id, message.size, message.holders, message.partial, modified, message.executable
        )


@dataclass(frozen=True, slots=True)
class Load:
    """What a peer reports of itself in a ping."""

    uploads: int = 0
    downloads: int = 0
    free_bytes: int = 0
    # Bytes per second sent lately.
    rate: float = 0.0

    def to_pb(self) -> pb.Load:
        return pb.Load(uploads=self.uploads, downloads=self.downloads, free_bytes=self.free_bytes, rate=self.rate)

    @classmethod
    def from_pb(cls, message: pb.Load) -> Load:
        return cls(message.uploads, message.downloads, message.free_bytes, message.rate)


@dataclass(frozen=True, slots=True)
class ListedPeer:
    """An online peer."""

    address: str
    user: str
    files: int
    # Seconds since its last ping.
    last_seen: float
    load: Load

    def to_pb(self) -> pb.ListedPeer:
        return pb.ListedPeer(
            address=text(self.address),
            user=text(self.user),
            files=self.files,
            last_seen=self.last_seen,
            load=self.load.to_pb(),
        )

    @classmethod
    def from_pb(cls, message: pb.ListedPeer) -> ListedPeer:
        return cls(message.address, message.user, message.files, message.last_seen, Load.from_pb(message.load))


class NotShared(NamedTuple):
    """A file of the shared folder that is not shared, and why."""

    name: str
    reason: str
    # The file will be shared without the user's help.
    pending: bool = False

    def to_pb(self) -> pb.NotShared:
        return pb.NotShared(name=text(self.name), reason=text(self.reason), pending=self.pending)

    @classmethod
    def from_pb(cls, message: pb.NotShared) -> NotShared:
        return cls(message.name, message.reason, message.pending)


@dataclass(frozen=True, slots=True)
class TransferStatus:
    """A running transfer."""

    # Its number, for WatchTransfer and CancelTransfer.
    transfer: int
    # "upload", "download" or "removal" for a command; "push" or "serving" for a stream of another peer.
    kind: str
    progress: Progress

    def to_pb(self) -> pb.TransferStatus:
        return pb.TransferStatus(transfer=self.transfer, kind=self.kind, progress=self.progress.to_pb())

    @classmethod
    def from_pb(cls, message: pb.TransferStatus) -> TransferStatus:
        return cls(message.transfer, message.kind, Progress.from_pb(message.progress))


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The state of a pserver."""

    # Empty when logged out.
    user: str
    # The addresses of this peer, as announced, and of the tracker.
    address: str
    tracker: str
    # Whether the tracker answered the last request, and the error if not.
    tracker_reached: bool
    tracker_fault: str
    shared_dir: str
    state_dir: str
    # Number and bytes of the complete files that are shared.
    files: int
    bytes: int
    # Bytes of replicas, and the limit.
    quota_used: int
    quota: int
    # The first files that are not shared, and the number of all of them.
    not_shared: tuple[NotShared, ...]
    not_shared_total: int
    # What `.p2pignore` leaves out: folders, and entries beside those in the folders.
    ignored_files: int
    ignored_folders: int
    transfers: tuple[TransferStatus, ...]
    # What needs the user's attention, one line each; `tracker_fault` is one of them.
    faults: tuple[str, ...]

    def to_pb(self) -> pb.StatusResponse:
        return pb.StatusResponse(
            user=self.user,
            address=self.address,
            tracker=self.tracker,
            tracker_reached=self.tracker_reached,
            tracker_fault=text(self.tracker_fault),
            shared_dir=text(self.shared_dir),
            state_dir=text(self.state_dir),
            files=self.files,
            bytes=self.bytes,
            quota_used=self.quota_used,
            quota=self.quota,
            not_shared=[item.to_pb() for item in self.not_shared],
            not_shared_total=self.not_shared_total,
            ignored_files=self.ignored_files,
            ignored_folders=self.ignored_folders,
            transfers=[item.to_pb() for item in self.transfers],
            faults=map(text, self.faults),
        )

    @classmethod
    def from_pb(cls, message: pb.StatusResponse) -> Status:
        return cls(
            user=message.user,
            address=message.address,
            tracker=message.tracker,
            tracker_reached=message.tracker_reached,
            tracker_fault=message.tracker_fault,
            shared_dir=message.shared_dir,
            state_dir=message.state_dir,
            files=message.files,
            bytes=message.bytes,
            quota_used=message.quota_used,
            quota=message.quota,
            not_shared=tuple(map(NotShared.from_pb, message.not_shared)),
            not_shared_total=message.not_shared_total,
            ignored_files=message.ignored_files,
            ignored_folders=message.ignored_folders,
            transfers=tuple(map(TransferStatus.from_pb, message.transfers)),
            faults=tuple(message.faults),
        )
