"""What the tracker and other peers tell us, as plain values.

Named tuples are what an order of ten thousand files makes tens of thousands of: each costs a third of a frozen
dataclass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Session:
    """A login at the tracker. It outlives this process in a file of mode 0600, and ends at logout."""

    user: str
    token: str = field(repr=False)
    peer_id: str
    # Under which the tracker signs tickets for this peer.
    ticket_key: bytes = field(repr=False)
    # The tracker's clock minus this machine's, in seconds, when last heard.
    clock_offset: float
    # host:port under which the tracker knows this peer.
    address: str


class Version(NamedTuple):
    """Contents under a name."""

    name: str
    id: str
    size: int


class Holder(NamedTuple):
    """A peer that has an id, with the permission to ask it."""

    address: str
    ticket: str
    # Has all of it.
    complete: bool
    # Why it stands where it stands among the holders.
    reason: str

    def __repr__(self) -> str:
        """Show all but the ticket."""
        return f"Holder(url={self.address!r}, complete={self.complete}, why={self.reason!r})"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A version and who holds it, best first."""

    version: Version
    holders: tuple[Holder, ...]


@dataclass(frozen=True, slots=True)
class PushTarget:
    """A peer that should take a copy."""

    id: str
    address: str
    ticket: str = field(repr=False)
    reason: str


@dataclass(frozen=True, slots=True)
class PingResponse:
    """The tracker's answer to a ping."""

    epoch: str
    send_index: bool
    recheck: tuple[str, ...]
    server_time: float


class IndexEntry(NamedTuple):
    """A line of the index: a version that this peer holds, whole or in part."""

    name: str
    id: str
    size: int
    complete: bool
