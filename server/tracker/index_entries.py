"""What the index in memory consists of: content, its names, and the peers that have it.

Built for a million pairs of id and holder in a few hundred bytes each. A pair adds one item to the dict of its peer and
one to the dict of its content. Names, ids and their pairs are stored once for all holders.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from tracker.models import Holder, ListedVersion, Load, Session, Version

# A holder can have one content under several names, some complete, some partial. Both counts are in one integer: the
# complete ones in the low 32 bits, the partial ones above.
COMPLETE = 1
PARTIAL = 1 << 32


class ContentEntry:
    """The content of one id: its size, names and holders."""

    __slots__ = ("disputed_sizes", "holders", "id", "names", "size")

    def __init__(self, file_id: bytes, size: int) -> None:
        self.id = file_id
        self.size = size
        # Sizes by peers that announce another one than the first; nearly always None.
        self.disputed_sizes: dict[PeerFiles, int] | None = None
        self.holders: dict[PeerFiles, int] = {}
        # By exact name.
        self.names: dict[str, NameEntry] = {}

    def majority_size(self) -> int:
        """Return the size that most holders announce, so that one wrong announcement has no effect."""
        if self.disputed_sizes is None:
            return self.size
        sizes = Counter(self.disputed_sizes.get(peer, self.size) for peer in self.holders)
        return sizes.most_common(1)[0][0]

    def add_disputed_size(self, peer: "PeerFiles", size: int) -> None:
        """Record that a peer announces another size than the first."""
        if self.disputed_sizes is None:
            self.disputed_sizes = {}
        self.disputed_sizes[peer] = size

    def drop_disputed_size(self, peer: "PeerFiles") -> None:
        """Forget the size that a peer announced."""
        if self.disputed_sizes is not None:
            self.disputed_sizes.pop(peer, None)
            if not self.disputed_sizes:
                self.disputed_sizes = None


class NameEntry:
    """A name of some content in one spelling, and how many peers have the content under it."""

    __slots__ = ("content", "folded", "name", "peer_count")

    def __init__(self, name: str, folded: str, content: ContentEntry) -> None:
        self.name = name
        self.folded = folded
        self.content = content
        self.peer_count = 0


class PeerFiles:
    """What one online peer has; `last_ping` and `online_since` are times of the monotonic clock."""

    __slots__ = ("files", "index_version", "last_ping", "load", "online_since", "partial", "position", "session")

    def __init__(self, session: Session, now: float, position: int) -> None:
        self.session = session
        # In the index's list of peers.
        self.position = position
        self.last_ping = self.online_since = now
        self.load = Load()
        self.index_version: str | None = None
        # By folded name: names equal after folding are one name at one peer.
        self.files: dict[str, NameEntry] = {}
        self.partial: set[NameEntry] = set()


# One version of a name: its entries, one for each spelling. Nearly every version has one.
Spellings = Sequence[NameEntry]


def is_complete(count: int) -> bool:
    """Return whether a value of ContentEntry.holders includes a complete file."""
    return count & (PARTIAL - 1) != 0


def group_spellings(entries: Iterable[NameEntry]) -> Collection[Spellings]:
    """Group names of one content that are equal after folding."""
    groups: dict[str, list[NameEntry]] = {}
    for entry in entries:
        groups.setdefault(entry.folded, []).append(entry)
    return groups.values()


def version_of(spellings: Spellings, wanted: str = "") -> Version:
    """Return a version with all its holders, in the spelling `wanted` if a peer has that, else in the most used one."""
    entry = _shown(spellings, wanted)
    content = entry.content
    holders = [Holder(peer.session, peer.load, is_complete(count)) for peer, count in content.holders.items()]
    return Version(entry.name, content.id, content.majority_size(), holders)


def listed_version(spellings: Spellings) -> ListedVersion:
    """Return a version with the numbers of its holders, in its most used spelling."""
    entry = _shown(spellings)
    content = entry.content
    complete = sum(1 for count in content.holders.values() if is_complete(count))
    return ListedVersion(entry.name, content.id, content.majority_size(), complete, len(content.holders) - complete)


def _shown(spellings: Spellings, wanted: str = "") -> NameEntry:
    if len(spellings) == 1:
        return spellings[0]
    return min(spellings, key=lambda entry: (entry.name != wanted, -entry.peer_count, entry.name))
