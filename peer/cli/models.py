"""What the terminal knows of its pserver: plain values, no protobuf, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass

from cli.errors import CliError


@dataclass(frozen=True)
class Started:
    """A transfer has its number; the first event of each."""

    transfer: int


@dataclass(frozen=True)
class Notice:
    """One line worth reading that is no failure."""

    text: str


@dataclass(frozen=True)
class Source:
    """A peer at the other end of a transfer; rate in bytes per second."""

    url: str
    rate: float
    bytes: int
    state: str
    why: str


@dataclass(frozen=True)
class Progress:
    """Where a transfer stands; done and total are bytes of this phase, rate is in bytes per second."""

    phase: str
    name: str
    done: int
    total: int
    files_done: int
    files_total: int
    rate: float
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Downloaded:
    """A file that is here, whole and verified; `present`: it was before."""

    name: str
    id: str
    size: int
    path: str
    seconds: float
    holders: tuple[str, ...]
    resumed_bytes: int
    present: bool


@dataclass(frozen=True)
class Uploaded:
    """A file that is shared; `copies` are the other peers that hold it whole."""

    name: str
    id: str
    size: int
    copies: tuple[str, ...]


@dataclass(frozen=True)
class Removed:
    """One's own copy that is gone."""

    name: str
    id: str
    size: int


Result = Downloaded | Uploaded | Removed | CliError
Event = Started | Notice | Progress | Result


@dataclass(frozen=True)
class Login:
    """Who is logged in now, and whether the account is new."""

    user: str
    registered: bool


@dataclass(frozen=True)
class ListedFile:
    """One version of a name in the network, with the numbers of its whole and partial holders."""

    name: str
    id: str
    size: int
    holders: int
    partial: int


@dataclass(frozen=True)
class ListedPeer:
    """A live peer; last_seen in seconds ago, rate in bytes per second."""

    url: str
    user: str
    files: int
    last_seen: float
    uploads: int
    downloads: int
    free_bytes: int
    rate: float


@dataclass(frozen=True)
class Transfer:
    """A transfer under way."""

    transfer: int
    kind: str
    progress: Progress


@dataclass(frozen=True)
class Status:
    """This peer; `user` is empty when logged out."""

    user: str
    url: str
    tracker: str
    tracker_reached: bool
    tracker_fault: str
    shared_dir: str
    state_dir: str
    files: int
    bytes: int
    quota_used: int
    quota: int
    not_shared: tuple[tuple[str, str], ...]
    not_shared_total: int
    transfers: tuple[Transfer, ...]
