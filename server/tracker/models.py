"""Values that pass between the tracker's modules. No rules, no I/O."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple


class Source(NamedTuple):
    """Where a request comes from, as tracker.proxies decided.

    Attributes:
        address: IP address of the client; of the last proxy if the client is unknown.
        known: False if the request came through a proxy that is not trusted. Its client may be anywhere.
    """

    address: str
    known: bool = True


class AnnouncedAddress(NamedTuple):
    """An address that a peer may have: `host:port`, and whether it is a loopback address."""

    address: str
    loopback: bool


class Load(NamedTuple):
    """The load of a peer in its last ping; 0 for what the ping did not include."""

    uploads: int = 0
    downloads: int = 0
    free_bytes: int = 0
    # Bytes per second sent.
    rate: float = 0.0
    # False: the ping had no free_bytes, so 0 does not mean a full disk.
    free_bytes_known: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Session:
    """One login of one pserver."""

    # 32 hex digits, new for each session.
    peer_id: str
    user: str
    # `host:port`, as announced.
    address: str
    # A loopback address, which is offered only to requesters on the tracker's own machine.
    loopback: bool
    # SHA-256 of the token, hex; the token itself is not stored.
    token_digest: str
    # 32 bytes that only the tracker and this pserver know.
    ticket_key: bytes
    # server_time of the login.
    since: float


# An announced file: name, id (32 bytes), size in bytes, complete, modified (Unix seconds), executable. The last two are
# None if the peer does not say. A bare tuple, because lists have thousands.
IndexEntry = tuple[str, bytes, int, bool, float | None, bool | None]
# A name, folded by tracker.names, and an id.
FoldedName = tuple[str, bytes]
# Peer id, folded name and id: whether the peer can store the content under the name.
ReceiverCheck = tuple[str, str, bytes]
# The last name, folded, and id of a page.
PageCursor = tuple[str, bytes]


class Holder(NamedTuple):
    """An online peer that has an id, complete or partial.

    `has_name` is about the holders of a Version: whether the peer has the id under the version's name too.
    """

    session: Session
    load: Load
    complete: bool
    has_name: bool = True


class Version(NamedTuple):
    """One version of a name, with all holders of its id, also under other names.

    `modified` is in Unix seconds, None if unknown. It and `executable` belong to the name, not to the content.
    """

    name: str
    id: bytes
    size: int
    holders: list[Holder]
    modified: float | None
    executable: bool


class Copies(NamedTuple):
    """What exists of some content under a name.

    Attributes:
        users: users that have it complete.
        content_holders: some peers that have the content complete, and nothing under this name.
    """

    users: Set[str]
    content_holders: Sequence[Holder]


class UploadTarget(NamedTuple):
    """A receiver for a name of the content `id`, the ticket for the content, and why it was chosen."""

    name: str
    id: bytes
    address: str
    ticket: str
    why: str


class ListedVersion(NamedTuple):
    """One version of a name, with the numbers of complete (`holders`) and partial holders; else as Version."""

    name: str
    id: bytes
    size: int
    holders: int
    partial: int
    modified: float | None
    executable: bool


class OnlinePeer(NamedTuple):
    """An online peer; `last_seen` is seconds since its last ping, `online_for` seconds since its first."""

    session: Session
    load: Load
    files: int
    last_seen: float
    online_for: float = 0.0


class SingleCopies(NamedTuple):
    """Files that exactly one online peer has complete.

    Attributes:
        contents: number of their ids.
        size: bytes of everything in the index, each id once.
        first: the first of their names.
        more: whether there may be more names.
    """

    contents: int
    size: int
    first: list[ListedVersion]
    more: bool


class Totals(NamedTuple):
    """`files` counts ids, `names` versions of names, `entries` pairs of id and holder."""

    peers: int
    files: int
    names: int
    entries: int
