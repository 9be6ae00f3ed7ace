"""What the tracker talks about. Plain values; no rules, no I/O."""

from dataclasses import dataclass
from typing import NamedTuple


class Load(NamedTuple):
    """What a peer said of itself in its last ping; zeros for what it has not said."""

    uploads: int = 0
    downloads: int = 0
    free_bytes: int = 0
    # Bytes per second sent lately.
    rate: float = 0.0
    # Whether free_bytes was said at all: an unknown disk is not a full one.
    free_bytes_known: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Session:
    """One login of one pserver."""

    # 32 hex digits, made anew at each login.
    peer_id: str
    user: str
    # host:port, as announced.
    address: str
    # The address leads to the machine it is dialled from: only askers on the tracker's own machine are sent there.
    loopback: bool
    # SHA-256 of the token, hex; the token itself is never kept.
    token_digest: str
    # The secret that only the tracker and this session share.
    ticket_key: bytes
    # server_time of the login.
    since: float


# A file as a peer announces it: name, id (32 bytes), size, whether it is whole. A bare tuple: lists hold thousands.
IndexEntry = tuple[str, bytes, int, bool]
# Where in the catalogue, ordered by name and id, a page ended.
PageCursor = tuple[str, bytes]


class Holder(NamedTuple):
    """A live peer that has some contents, whole or in part."""

    session: Session
    load: Load
    complete: bool


class Version(NamedTuple):
    """One version of a name, and who holds its contents under whatever name."""

    name: str
    id: bytes
    size: int
    holders: list[Holder]


class ListedVersion(NamedTuple):
    """One version of a name in the catalogue: how many hold it whole, and in part."""

    name: str
    id: bytes
    size: int
    holders: int
    partial: int


class OnlinePeer(NamedTuple):
    """A live peer. `last_seen` and `alive_for` are seconds: since its last ping, and since it came."""

    session: Session
    load: Load
    files: int
    last_seen: float
    online_for: float = 0.0


class SingleCopies(NamedTuple):
    """What one peer only holds whole: how many `contents`, and the first of them by name. `size` is of all contents."""

    contents: int
    size: int
    first: list[ListedVersion]
    more: bool


class Totals(NamedTuple):
    """`files` counts different contents, `names` versions of names, `entries` (contents, holder) pairs."""

    peers: int
    files: int
    names: int
    entries: int
