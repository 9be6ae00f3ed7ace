"""What Control reports of a transfer: results, faults, notices and progress, and their protobuf forms. No I/O.

The pserver makes these values and calls `to_pb`; its pclient calls `from_pb` and shows them. Lists and status are in
`status_messages`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import pserver_pb2 as pb

# The trailing metadata that carries the hint of a failed call.
HINT_KEY = "p2p-hint"

_UINT64_MAX = 2**64 - 1
# A message of results is sent when it has this many bytes. A fault contains the name of its argument twice.
_RESULTS_BYTES = 1 << 20
# Bytes of arguments in one message. A pserver accepts twice as much; Linux allows 128 KiB for one argument.
_ARGUMENTS_BYTES = 1 << 20
# Bytes that protobuf adds to each argument, at most.
_ARGUMENT_OVERHEAD = 4


class Phase(Enum):
    """What a transfer is doing. The value is the word that `--json` shows."""

    # Queries the tracker.
    PREPARING = "preparing"
    # Copies files into the shared folder.
    COPYING = "copying"
    # Reads files to compute or check their digests.
    HASHING = "hashing"
    # Bytes move between peers.
    MOVING = "moving"
    # Another transfer of the same content goes first.
    QUEUED = "queued"
    # No source is left; the transfer goes on when a holder returns.
    WAITING = "waiting"
    # Makes files durable and gives them their names.
    PUBLISHING = "publishing"


_PHASE_FROM_PB = {pb.Progress.Phase.Value(f"PHASE_{phase.name}"): phase for phase in Phase}


class Hint(Enum):
    """What the user can do next. pclient renders it for a command or for the menu; the value travels in HINT_KEY."""

    # List the files in the network.
    LIST_FILES = "list_files"
    # Show the complete ids: only part of an id was given.
    SHOW_FULL_IDS = "show_full_ids"
    # Rename or remove the file that is in the way, or save the download under another name.
    OTHER_NAME = "other_name"
    # Download one of several versions by its id, or the newest.
    CHOOSE_VERSION = "choose_version"
    # Repeat the command: verified data is kept, and the transfer resumes.
    RESUME = "resume"
    # Repeat the command: nothing, or only part of it, was done.
    REPEAT = "repeat"
    # Repeat the command later, when more peers are online.
    REPEAT_LATER = "repeat_later"
    # Log in.
    LOG_IN = "log_in"
    # Share the file by a hard link: there is no room for a copy.
    LINK = "link"
    # Download one of several versions by its id: none of them is the newest.
    CHOOSE_BY_ID = "choose_by_id"


_HINT_FROM_PB = {pb.Hint.Value(f"HINT_{hint.name}"): hint for hint in Hint}


def hint_of(value: str) -> Hint | None:
    """The hint of a HINT_KEY value; None for a value that this program does not know."""
    return next((hint for hint in Hint if hint.value == value), None)


class Failure(Protocol):
    """What a `Fault` and the errors of both programs have in common."""

    @property
    def code(self) -> str:
        """One of the codes of docs/cli.md."""

    @property
    def message(self) -> str:
        """One line that says what is wrong."""

    @property
    def name(self) -> str:
        """The name, id, path or pattern that failed; empty if the failure is about none."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids to choose from; only with the code ambiguous_name."""

    @property
    def hint(self) -> Hint | None:
        """What the user can do next."""


@dataclass(frozen=True, slots=True)
class Started:
    """The first event of a transfer: its number."""

    transfer: int


@dataclass(frozen=True, slots=True)
class Notice:
    """A line for the user that is not a failure."""

    text: str


@dataclass(frozen=True, slots=True)
class SourceView:
    """A peer at the other end of a transfer, as the user sees it."""

    address: str
    # Bytes per second.
    rate: float
    bytes: int
    # "active", "waiting", "stalled" or "dropped".
    state: str
    # Why the source is stalled or dropped; empty otherwise.
    reason: str

    def to_pb(self) -> pb.Source:
        return pb.Source(
            address=text(self.address), rate=self.rate, bytes=self.bytes, state=self.state, reason=text(self.reason)
        )

    @classmethod
    def from_pb(cls, message: pb.Source) -> SourceView:
        return cls(message.address, message.rate, message.bytes, message.state, message.reason)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a transfer is. `done` and `total` are bytes of this phase; `rate` is in bytes per second."""

    phase: Phase
    name: str
    done: int
    total: int
    files_done: int
    files_total: int
    rate: float
    sources: tuple[SourceView, ...]

    def to_pb(self) -> pb.Progress:
        return pb.Progress(
            phase=f"PHASE_{self.phase.name}",
            name=text(self.name),
            done=self.done,
            # Peers announce sizes before a manifest proves them: their sum may exceed the field.
            total=min(self.total, _UINT64_MAX),
            files_done=self.files_done,
            files_total=self.files_total,
            rate=self.rate,
            sources=[source.to_pb() for source in self.sources],
        )

    @classmethod
    def from_pb(cls, message: pb.Progress) -> Progress:
        """The value of a message. An unknown phase is PREPARING."""
        return cls(
            phase=_PHASE_FROM_PB.get(message.phase, Phase.PREPARING),
            name=message.name,
            done=message.done,
            total=message.total,
            files_done=message.files_done,
            files_total=message.files_total,
            rate=message.rate,
            sources=tuple(map(SourceView.from_pb, message.sources)),
        )


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A complete, verified file that is now here. `already_present`: it was here before the command."""

    name: str
    id: str
    size: int
    # Absolute path of the file, or of its copy outside the shared folder.
    path: str
    seconds: float
    # Addresses of the peers that sent verified bytes.
    holders: tuple[str, ...]
    # Bytes of an earlier try that were found verified on disk.
    resumed_bytes: int
    already_present: bool
    # Indexes, from 0, of the command's arguments that mean this file.
    arguments: tuple[int, ...] = ()

    def to_pb(self) -> pb.Downloaded:
        return pb.Downloaded(
            name=text(self.name),
            id=self.id,
            size=self.size,
            path=text(self.path),
            seconds=self.seconds,
            holders=self.holders,
            resumed_bytes=self.resumed_bytes,
            already_present=self.already_present,
            arguments=self.arguments,
        )

    @classmethod
    def from_pb(cls, message: pb.Downloaded) -> Downloaded:
        return cls(
            name=message.name,
            id=message.id,
            size=message.size,
            path=message.path,
            seconds=message.seconds,
            holders=tuple(message.holders),
            resumed_bytes=message.resumed_bytes,
            already_present=message.already_present,
            arguments=tuple(message.arguments),
        )


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A shared file."""

    name: str
    id: str
    size: int
    # Addresses of the other peers that have it complete.
    copies: tuple[str, ...]
    # Indexes, from 0, of the command's arguments that mean this file.
    arguments: tuple[int, ...] = ()

    def to_pb(self) -> pb.Uploaded:
        return pb.Uploaded(
            name=text(self.name), id=self.id, size=self.size, copies=self.copies, arguments=self.arguments
        )

    @classmethod
    def from_pb(cls, message: pb.Uploaded) -> Uploaded:
        return cls(message.name, message.id, message.size, tuple(message.copies), tuple(message.arguments))


@dataclass(frozen=True, slots=True)
class Removed:
    """A copy of this peer that was deleted and withdrawn from the index."""

    name: str
    id: str
    size: int
    # Indexes, from 0, of the command's arguments that mean this file.
    arguments: tuple[int, ...] = ()

    def to_pb(self) -> pb.Removed:
        return pb.Removed(name=text(self.name), id=self.id, size=self.size, arguments=self.arguments)

    @classmethod
    def from_pb(cls, message: pb.Removed) -> Removed:
        return cls(message.name, message.id, message.size, tuple(message.arguments))


@dataclass(frozen=True, slots=True)
class Fault:
    """The failure of one argument or file of a command."""

    # One of the codes of docs/cli.md.
    code: str
    # One line that says what is wrong. What to do next is `hint`.
    message: str
    # The name, id, path or pattern that failed; empty if the fault is about none.
    name: str
    # The ids to choose from; only with the code ambiguous_name.
    ids: tuple[str, ...] = ()
    # Indexes, from 0, of the command's arguments that mean this file.
    arguments: tuple[int, ...] = ()
    hint: Hint | None = None

    @classmethod
    def of(cls, error: Failure, name: str = "", arguments: tuple[int, ...] = ()) -> Fault:
        """Make the fault of an error.

        Args:
            error: What went wrong. Its own name goes before `name`.
            name: The name, id, path or pattern that failed.
            arguments: Indexes, from 0, of the command's arguments that mean it.
        """
        return cls(error.code, error.message, error.name or name, error.ids, arguments, error.hint)

    def to_pb(self) -> pb.Fault:
        return pb.Fault(
            code=self.code,
            message=text(self.message),
            name=text(self.name),
            ids=self.ids,
            arguments=self.arguments,
            hint=f"HINT_{self.hint.name}" if self.hint else None,
        )

    @classmethod
    def from_pb(cls, message: pb.Fault) -> Fault:
        """The value of a message. A fault without a code is internal."""
        return cls(
            code=message.code or "internal",
            message=message.message,
            name=message.name,
            ids=tuple(message.ids),
            arguments=tuple(message.arguments),
            hint=_HINT_FROM_PB.get(message.hint),
        )


Result = Downloaded | Uploaded | Removed | Fault
Event = Result | Notice


def text(value: str) -> str:
    r"""Text as a message can carry it: a byte of a file name that is not UTF-8 becomes `\udce9`."""
    return value.encode("utf-8", "backslashreplace").decode()


def events_to_pb(events: Iterable[Event]) -> Iterator[pb.TransferEvent]:
    """The messages of some events of a transfer.

    Args:
        events: Results and notices, in order.

    Yields:
        One message for each notice, and one for about 1 MiB of consecutive results. Within a message results are
        grouped by kind.
    """
    results, size = pb.Results(), 0
    for event in events:
        if isinstance(event, Notice):
            yield pb.TransferEvent(notice=text(event.text))
            continue
        size += _append(results, event)
        if size >= _RESULTS_BYTES:
            yield pb.TransferEvent(results=results)
            results, size = pb.Results(), 0
    if size:
        yield pb.TransferEvent(results=results)


def _append(results: pb.Results, result: Result) -> int:
    """Append a result to those of its kind; return its size in bytes."""
    item: pb.Downloaded | pb.Uploaded | pb.Removed | pb.Fault
    match result:
        case Downloaded():
            results.downloaded.append(item := result.to_pb())
        case Uploaded():
            results.uploaded.append(item := result.to_pb())
        case Removed():
            results.removed.append(item := result.to_pb())
        case Fault():
            results.faults.append(item := result.to_pb())
    return item.ByteSize()


def events_from_pb(message: pb.TransferEvent) -> Iterator[Started | Progress | Event]:
    """The events of one message; an event of an unknown kind is left out."""
    match message.WhichOneof("event"):
        case "started":
            yield Started(message.started.transfer)
        case "progress":
            yield Progress.from_pb(message.progress)
        case "notice":
            yield Notice(message.notice)
        case "results":
            yield from map(Downloaded.from_pb, message.results.downloaded)
            yield from map(Uploaded.from_pb, message.results.uploaded)
            yield from map(Removed.from_pb, message.results.removed)
            yield from map(Fault.from_pb, message.results.faults)


def argument_batches(arguments: Iterable[str]) -> Iterator[tuple[list[str], bool]]:
    """Split the arguments of a command into messages.

    Args:
        arguments: Paths or names, in order.

    Yields:
        The arguments of each message (at least one message, of about 1 MiB), and whether more messages follow.
    """
    batch: list[str] = []
    size = 0
    for argument in arguments:
        length = len(argument.encode()) + _ARGUMENT_OVERHEAD
        if batch and size + length > _ARGUMENTS_BYTES:
            yield batch, True
            batch, size = [], 0
        batch.append(argument)
        size += length
    yield batch, False
