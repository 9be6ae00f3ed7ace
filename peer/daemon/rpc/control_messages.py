"""Between Control's messages and our own values: progress, results, lists, status."""

from __future__ import annotations

from collections.abc import Iterable

import pserver_pb2 as pb
from daemon.models import ListedFile, ListedPeer
from daemon.runtime.events import Downloaded, Event, Fault, Notice, Phase, Progress, Removed, SourceView, Uploaded
from daemon.runtime.transfers import Transfer
from daemon.storage.walk import UnshareableEntry

_PHASES = {
    Phase.PREPARING: pb.Progress.PHASE_PREPARING,
    Phase.COPYING: pb.Progress.PHASE_COPYING,
    Phase.HASHING: pb.Progress.PHASE_HASHING,
    Phase.MOVING: pb.Progress.PHASE_MOVING,
    Phase.QUEUED: pb.Progress.PHASE_QUEUED,
    Phase.WAITING: pb.Progress.PHASE_WAITING,
    Phase.PUBLISHING: pb.Progress.PHASE_PUBLISHING,
}
_UINT64_MAX = 2**64 - 1
# Results go into a message until they have so many bytes: names of arguments may be long, and are in faults twice.
_RESULTS_BYTES = 1 << 20


def text(value: str) -> str:
    r"""Return text as a message can hold it: a byte of a file's name that is not UTF-8 stands as `\udce9`."""
    return value.encode("utf-8", "backslashreplace").decode()


def progress(value: Progress) -> pb.Progress:
    """Where a transfer stands."""
    return pb.Progress(
        phase=_PHASES[value.phase],
        name=text(value.name),
        done=value.done,
        # Sizes are what others say until a manifest is here: their sum may be more than the field takes.
        total=min(value.total, _UINT64_MAX),
        files_done=value.files_done,
        files_total=value.files_total,
        rate=value.rate,
        sources=map(_source, value.sources),
    )


def events(values: Iterable[Event]) -> Iterable[pb.TransferEvent]:
    """What happened to a transfer; results that follow each other go in few messages, each in order of their kinds."""
    results, size = pb.Results(), 0
    item: pb.Downloaded | pb.Uploaded | pb.Removed | pb.Fault
    for value in values:
        match value:
            case Downloaded():
                results.downloaded.append(item := _downloaded(value))
            case Uploaded():
                results.uploaded.append(item := _uploaded(value))
            case Removed():
                results.removed.append(item := pb.Removed(name=value.name, id=value.id, size=value.size))
            case Fault():
                results.faults.append(item := _fault(value))
            case Notice():
                yield pb.TransferEvent(notice=text(value.text))
                continue
        size += item.ByteSize()
        if size >= _RESULTS_BYTES:
            yield pb.TransferEvent(results=results)
            results, size = pb.Results(), 0
    if size:
        yield pb.TransferEvent(results=results)


def listed_file(value: ListedFile) -> pb.ListedFile:
    """A version in the network's list."""
    return pb.ListedFile(
        name=text(value.name), id=value.id, size=value.size, holders=value.holders, partial=value.partial
    )


def listed_peer(value: ListedPeer) -> pb.ListedPeer:
    """A peer in the network's list."""
    load = value.load
    return pb.ListedPeer(
        address=text(value.address),
        user=text(value.user),
        files=value.files,
        last_seen=value.last_seen,
        load=pb.Load(uploads=load.uploads, downloads=load.downloads, free_bytes=load.free_bytes, rate=load.rate),
    )


def transfer(value: Transfer) -> pb.TransferStatus:
    """A transfer, as status shows it."""
    return pb.TransferStatus(transfer=value.number, kind=value.kind, progress=progress(value.progress()))


def not_shared(value: UnshareableEntry) -> pb.NotShared:
    """A file that lies in the shared folder and is not shared."""
    return pb.NotShared(name=text(value.name), reason=text(value.reason))


def _source(value: SourceView) -> pb.Source:
    return pb.Source(
        address=text(value.url), rate=value.rate, bytes=value.bytes, state=value.state, reason=text(value.why)
    )


def _fault(value: Fault) -> pb.Fault:
    return pb.Fault(code=value.code, message=text(value.message), name=text(value.name), ids=value.ids)


def _uploaded(value: Uploaded) -> pb.Uploaded:
    return pb.Uploaded(name=text(value.name), id=value.id, size=value.size, copies=value.copies)


def _downloaded(value: Downloaded) -> pb.Downloaded:
    return pb.Downloaded(
        name=text(value.name),
        id=value.id,
        size=value.size,
        path=text(value.path),
        seconds=value.seconds,
        holders=value.holders,
        resumed_bytes=value.resumed_bytes,
        already_present=value.present,
    )
