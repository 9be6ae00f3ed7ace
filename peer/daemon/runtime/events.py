"""What a transfer tells: where it stands, what became of each file. Values only; jobs has the transfers themselves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from daemon.errors import AmbiguousName, PeerError


class Phase(Enum):
    """What a transfer is doing."""

    PREPARING = "preparing"
    COPYING = "copying"
    HASHING = "hashing"
    MOVING = "moving"
    # Another transfer of the same contents goes first.
    QUEUED = "queued"
    # Every holder is lost.
    WAITING = "waiting"
    PUBLISHING = "publishing"


@dataclass(frozen=True, slots=True)
class SourceView:
    """A peer at the other end, as people see it. Bytes, and bytes per second."""

    url: str
    rate: float
    bytes: int
    state: str
    why: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a transfer stands."""

    phase: Phase
    name: str
    done: int
    total: int
    files_done: int
    files_total: int
    rate: float
    sources: tuple[SourceView, ...]


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file that is here now."""

    name: str
    id: str
    size: int
    path: str
    seconds: float
    holders: tuple[str, ...]
    resumed_bytes: int
    present: bool


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A file that is shared, and where else it is whole."""

    name: str
    id: str
    size: int
    copies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Removed:
    """This peer's own copy that is gone."""

    name: str
    id: str
    size: int


@dataclass(frozen=True, slots=True)
class Fault:
    """A file that failed."""

    code: str
    message: str
    name: str
    ids: tuple[str, ...] = ()

    @classmethod
    def of(cls, error: PeerError, name: str = "") -> Fault:
        """Return what to tell of an error."""
        ids = error.ids if isinstance(error, AmbiguousName) else ()
        return cls(error.code, error.message, error.name or name, ids)


@dataclass(frozen=True, slots=True)
class Notice:
    """A line worth reading that is no failure."""

    text: str


Result = Downloaded | Uploaded | Removed | Fault
Event = Result | Notice
