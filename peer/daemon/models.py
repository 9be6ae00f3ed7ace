"""Values that the tracker sends and receives: sessions, versions, holders, receivers and index entries.

A command for ten thousand files makes tens of thousands of the named tuples. One takes a third of the time of a frozen
dataclass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Session:
    """A login at the tracker. It is stored in a file of mode 0600, survives restarts, and ends at logout."""

    user: str
    token: str = field(repr=False)
    peer_id: str
    # The key with which the tracker signs tickets for this holder.
    ticket_key: bytes = field(repr=False)
    # The tracker's clock minus this machine's clock, in seconds, at its last response.
    clock_offset: float
    # The `host:port` of this peer at the tracker.
    address: str
    # What the tracker asks for, in seconds between two pings; None if it is unknown.
    ping_interval: float | None = None


class Attributes(NamedTuple):
    """What travels with a name, and is no part of the id."""

    # The time of the last modification in Unix seconds; None if it is unknown.
    modified: float | None = None
    # Whether the owner of the file may execute it; None on a file system that does not tell.
    executable: bool | None = False


NO_ATTRIBUTES = Attributes()


class Version(NamedTuple):
    """One id under one name; `size` is in bytes."""

    name: str
    id: str
    size: int
    attributes: Attributes = NO_ATTRIBUTES


class Holder(NamedTuple):
    """A peer that has a file, and the ticket to request it there."""

    address: str
    ticket: str
    complete: bool
    # Why the tracker ranks it where it does.
    reason: str
    # Whether it has the content under the name of the version, not under other names only. A tracker of protocol 1 does
    # not say; then every holder counts.
    has_name: bool = True

    def __repr__(self) -> str:
        """Return everything but the ticket, which is a secret."""
        shown = f"complete={self.complete}, reason={self.reason!r}, has_name={self.has_name}"
        return f"Holder(address={self.address!r}, {shown})"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A version in the network, and its holders, best first."""

    version: Version
    holders: tuple[Holder, ...]


@dataclass(frozen=True, slots=True)
class PushTarget:
    """A receiver that the tracker chose for a copy, and the ticket to push to it."""

    # Empty from a tracker of protocol 1, which chooses receivers for an id.
    name: str
    id: str
    address: str
    ticket: str = field(repr=False)
    reason: str


@dataclass(frozen=True, slots=True)
class PingResponse:
    """The tracker's response to a ping."""

    # Changes when the tracker loses its index.
    epoch: str
    # Whether the tracker needs the complete index of this peer.
    send_index: bool
    # Ids of this peer's files that a requester reported as corrupt.
    recheck: tuple[str, ...]
    # The tracker's clock, in Unix seconds.
    server_time: float
    # What the tracker asks for, in seconds between two pings; None from a tracker that says it at a login only.
    ping_interval: float | None
    # The session's `host:port` if the ping announced an address; otherwise empty.
    address: str


class IndexEntry(NamedTuple):
    """One file of this peer in the index: complete or partial."""

    name: str
    id: str
    size: int
    complete: bool
    # None for a partial file.
    attributes: Attributes | None = None
