"""Messages of Control <-> the terminal's own values. The only place of the terminal that knows the messages' fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pserver_pb2 as pb
from cli import models
from cli.errors import CliError

_PHASES = {
    pb.Progress.PHASE_UNSPECIFIED: "preparing",
    pb.Progress.PHASE_PREPARING: "preparing",
    pb.Progress.PHASE_COPYING: "copying",
    pb.Progress.PHASE_HASHING: "hashing",
    pb.Progress.PHASE_MOVING: "moving",
    pb.Progress.PHASE_WAITING: "waiting",
    pb.Progress.PHASE_PUBLISHING: "publishing",
    pb.Progress.PHASE_QUEUED: "queued",
}

# Bytes of words that go in one message; a pserver takes twice as many. No word of a command line has more than 128 KiB.
_PART = 1 << 20


def parts(words: Iterable[str]) -> Iterator[tuple[list[str], bool]]:
    """The words of an order as they go to the pserver: so many messages as it takes, at least one; and whether more
    come after these.
    """
    part: list[str] = []
    size = 0
    for word in words:
        length = len(word.encode())
        if part and size + length > _PART:
            yield part, True
            part, size = [], 0
        part.append(word)
        # With what a message spends on each.
        size += length + 4
    yield part, False


def events(message: pb.TransferEvent) -> Iterator[models.Event]:
    """What one message tells; results come many in one."""
    match message.WhichOneof("event"):
        case "started":
            yield models.Started(message.started.transfer)
        case "progress":
            yield progress(message.progress)
        case "notice":
            yield models.Notice(message.notice)
        case "results":
            yield from (_downloaded(item) for item in message.results.downloaded)
            yield from (_uploaded(item) for item in message.results.uploaded)
            yield from (_removed(item) for item in message.results.removed)
            yield from (_fault(item) for item in message.results.faults)


def progress(message: pb.Progress) -> models.Progress:
    """Where a transfer stands."""
    return models.Progress(
        phase=_PHASES.get(message.phase, "preparing"),
        name=message.name,
        done=message.done,
        total=message.total,
        files_done=message.files_done,
        files_total=message.files_total,
        rate=message.rate,
        sources=tuple(
            models.Source(source.address, source.rate, source.bytes, source.state, source.reason)
            for source in message.sources
        ),
    )


def _downloaded(message: pb.Downloaded) -> models.Downloaded:
    return models.Downloaded(
        name=message.name,
        id=message.id,
        size=message.size,
        path=message.path,
        seconds=message.seconds,
        holders=tuple(message.holders),
        resumed_bytes=message.resumed_bytes,
        present=message.already_present,
    )


def _uploaded(message: pb.Uploaded) -> models.Uploaded:
    return models.Uploaded(message.name, message.id, message.size, tuple(message.copies))


def _removed(message: pb.Removed) -> models.Removed:
    return models.Removed(message.name, message.id, message.size)


def _fault(message: pb.Fault) -> CliError:
    return CliError(message.code or "internal", message.message, name=message.name or None, ids=tuple(message.ids))


def listed_file(message: pb.ListedFile) -> models.ListedFile:
    """One version of a name."""
    return models.ListedFile(message.name, message.id, message.size, message.holders, message.partial)


def listed_peer(message: pb.ListedPeer) -> models.ListedPeer:
    """A live peer."""
    load = message.load
    return models.ListedPeer(
        url=message.address,
        user=message.user,
        files=message.files,
        last_seen=message.last_seen,
        uploads=load.uploads,
        downloads=load.downloads,
        free_bytes=load.free_bytes,
        rate=load.rate,
    )


def status(message: pb.StatusResponse) -> models.Status:
    """This peer."""
    return models.Status(
        user=message.user,
        url=message.address,
        tracker=message.tracker,
        tracker_reached=message.tracker_reached,
        tracker_fault=message.tracker_fault,
        shared_dir=message.shared_dir,
        state_dir=message.state_dir,
        files=message.files,
        bytes=message.bytes,
        quota_used=message.quota_used,
        quota=message.quota,
        not_shared=tuple((item.name, item.reason) for item in message.not_shared),
        not_shared_total=message.not_shared_total,
        transfers=tuple(
            models.Transfer(item.transfer, item.kind, progress(item.progress)) for item in message.transfers
        ),
    )
