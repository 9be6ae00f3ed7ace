"""What the index in memory consists of: content, its names, and the peers that have it.

Built for a million pairs of id and holder in a few hundred bytes each. A pair adds one item to the dict of its peer and
one to the dict of its content. Names, ids and their pairs are stored once for all holders.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from tracker.models import Holder, ListedVersion, Load, Session, Version

V = TypeVar("V")

# A holder can have one content under several names, some complete, some partial. Both counts are in one integer: the
# complete ones in the low 32 bits, the partial ones above.
COMPLETE = 1
PARTIAL = 1 << 32
# Seconds by which a time of modification may be in the tracker's future; a later one counts as unknown.
FUTURE_TOLERANCE = 60.0
# Before this, a time is no date that programs can show.
_YEAR_1 = -62_135_596_800.0


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
        self.disputed_sizes = _with(self.disputed_sizes, peer, size)

    def drop_disputed_size(self, peer: "PeerFiles") -> None:
        """Forget the size that a peer announced."""
        self.disputed_sizes = _without(self.disputed_sizes, peer)


class NameEntry:
    """A name of some content in one spelling, and how many peers have the content under it."""

    __slots__ = (
        "content",
        "disputed_executable",
        "disputed_modified",
        "executable",
        "folded",
        "modified",
        "name",
        "peer_count",
    )

    def __init__(
        self, name: str, folded: str, content: ContentEntry, modified: float | None, executable: bool | None
    ) -> None:
        self.name = name
        self.folded = folded
        self.content = content
        self.peer_count = 0
        # What the first peer announces, and the peers that announce something else; there are hardly any.
        self.modified = modified
        self.executable = executable
        self.disputed_modified: dict[PeerFiles, float | None] | None = None
        self.disputed_executable: dict[PeerFiles, bool | None] | None = None

    def add_disputed(self, peer: "PeerFiles", modified: float | None, executable: bool | None) -> None:
        """Record what a peer announces otherwise than the first."""
        if modified != self.modified:
            self.disputed_modified = _with(self.disputed_modified, peer, modified)
        if executable != self.executable:
            self.disputed_executable = _with(self.disputed_executable, peer, executable)

    def drop_disputed(self, peer: "PeerFiles") -> None:
        """Forget what a peer announced otherwise."""
        self.disputed_modified = _without(self.disputed_modified, peer)
        self.disputed_executable = _without(self.disputed_executable, peer)

    def announced_by(self, peer: "PeerFiles") -> tuple[float | None, bool | None]:
        """Return `modified` and `executable` as a peer announces them that has this entry."""
        return (
            (self.disputed_modified or {}).get(peer, self.modified),
            (self.disputed_executable or {}).get(peer, self.executable),
        )


class PeerFiles:
    """What one online peer has; `last_ping` and `online_since` are times of the monotonic clock."""

    __slots__ = ("files", "index_version", "last_ping", "load", "online_since", "partial", "position", "session")

    def __init__(self, session: Session, now: float, position: int) -> None:
        self.session = session
        # In the list of tracker.online_peers.
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


def version_of(spellings: Spellings, server_time: float, wanted: str = "") -> Version:
    """Return a version with all its holders, in the spelling `wanted` if a peer has that, else in the most used one."""
    entry = _shown(spellings, wanted)
    content = entry.content
    # Without another name, every holder has this one. Nearly all content has one name.
    folded = entry.folded if len(content.names) > len(spellings) else None
    holders = [
        Holder(peer.session, peer.load, is_complete(count), folded is None or _has_name(peer, folded, content))
        for peer, count in content.holders.items()
    ]
    return Version(
        entry.name,
        content.id,
        content.majority_size(),
        holders,
        _modified(spellings, server_time),
        _executable(spellings),
    )


def listed_version(spellings: Spellings, server_time: float) -> ListedVersion:
    """Return a version with the numbers of its holders, in its most used spelling."""
    entry = _shown(spellings)
    content = entry.content
    complete = sum(1 for count in content.holders.values() if is_complete(count))
    return ListedVersion(
        entry.name,
        content.id,
        content.majority_size(),
        complete,
        len(content.holders) - complete,
        _modified(spellings, server_time),
        _executable(spellings),
    )


def _with(disputed: dict[PeerFiles, V] | None, peer: PeerFiles, value: V) -> dict[PeerFiles, V]:
    """Add what a peer announces otherwise than the first."""
    added = {} if disputed is None else disputed
    added[peer] = value
    return added


def _without(disputed: dict[PeerFiles, V] | None, peer: PeerFiles) -> dict[PeerFiles, V] | None:
    """Drop what a peer announced otherwise; None, which needs no memory, if nothing is left."""
    if disputed is not None:
        disputed.pop(peer, None)
    return disputed or None


def _has_name(peer: PeerFiles, folded: str, content: ContentEntry) -> bool:
    entry = peer.files.get(folded)
    return entry is not None and entry.content is content


def _modified(spellings: Spellings, server_time: float) -> float | None:
    """Return the time that most holders announce, the latest of equal numbers; None if none announces a valid one."""
    first = spellings[0]
    if len(spellings) == 1 and first.disputed_modified is None:
        votes: Mapping[float | None, int] = {first.modified: first.peer_count}
    else:
        votes = _votes((each.modified, each.peer_count, each.disputed_modified) for each in spellings)
    valid = [
        (count, value)
        for value, count in votes.items()
        if count and value is not None and _YEAR_1 <= value <= server_time + FUTURE_TOLERANCE
    ]
    return max(valid)[1] if valid else None


def _executable(spellings: Spellings) -> bool:
    """Return what most holders announce; true of equal numbers, because copies lose the bit more often than gain it."""
    first = spellings[0]
    if len(spellings) == 1 and first.disputed_executable is None:
        return first.executable or False
    votes = _votes((each.executable, each.peer_count, each.disputed_executable) for each in spellings)
    return votes[True] > 0 and votes[True] >= votes[False]


def _votes(announced: Iterable[tuple[V, int, dict[PeerFiles, V] | None]]) -> Counter[V]:
    """Count values: of the first announcement, the peers with the entry, and what some announce otherwise."""
    votes: Counter[V] = Counter()
    for first, peer_count, disputed in announced:
        votes[first] += peer_count - len(disputed or ())
        votes.update((disputed or {}).values())
    return votes


def _shown(spellings: Spellings, wanted: str = "") -> NameEntry:
    if len(spellings) == 1:
        return spellings[0]
    return min(spellings, key=lambda entry: (entry.name != wanted, -entry.peer_count, entry.name))
