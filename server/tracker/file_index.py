"""Names, ids and their holders, in both directions. Knows neither time nor locks: memory_index.py has both.

Built for a million pairs of id and holder in a few hundred bytes each. A pair adds one item to the dict of its peer and
one to the dict of its content. Names, ids and their pairs are stored once for all holders.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from heapq import nsmallest
from typing import NamedTuple

from tracker.models import Holder, IndexEntry, ListedVersion, Load, Session, Version
from tracker.name_index import DEADLINE_CHECK_INTERVAL, NameIndex
from tracker.names import fold

# A holder can have one content under several names, some complete, some partial. Both counts are in one integer: the
# complete ones in the low 32 bits, the partial ones above.
_COMPLETE = 1
_PARTIAL = 1 << 32
# Content with more holders than these is not scanned: some of them are complete, or will be soon.
_MAX_COUNTED_HOLDERS = 20


class ContentEntry:
    """The content of one id: its size, names and holders."""

    __slots__ = ("disputed_sizes", "holders", "id", "names", "size")

    def __init__(self, file_id: bytes, size: int) -> None:
        self.id = file_id
        self.size = size
        # Sizes by peers that announce another one than the first; nearly always None.
        self.disputed_sizes: dict[PeerFiles, int] | None = None
        self.holders: dict[PeerFiles, int] = {}
        self.names: dict[str, NameEntry] = {}

    def majority_size(self) -> int:
        """Return the size that most holders announce, so that one wrong announcement has no effect."""
        if self.disputed_sizes is None:
            return self.size
        sizes = Counter(self.disputed_sizes.get(peer, self.size) for peer in self.holders)
        return sizes.most_common(1)[0][0]


class NameEntry:
    """A name of some content, and how many peers have the content under it."""

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


class SingleCopyScan(NamedTuple):
    """Result of find_single_copies.

    Attributes:
        contents: ids that exactly one peer has complete.
        total_size: bytes of all content, each id once.
        entries: the first names of those ids, in order of name and id.
        more: whether there may be more names.
    """

    contents: int
    total_size: int
    entries: list[NameEntry]
    more: bool


class FileIndex:
    """All content and names of online peers. Not thread-safe."""

    def __init__(self) -> None:
        self.by_id: dict[bytes, ContentEntry] = {}
        self.names: NameIndex[NameEntry] = NameIndex()
        # Pairs of content and holder.
        self.entry_count = 0

    def add_files(self, peer: PeerFiles, files: Iterable[IndexEntry], folded_names: Mapping[str, str]) -> None:
        """Add files to a peer; each replaces what the peer has under its name.

        One loop without calls per file: it has to add 200,000 files a second.

        Args:
            peer: the peer.
            files: what it announces.
            folded_names: folded form of the names that are not ASCII.
        """
        by_id, peer_files, partial = self.by_id, peer.files, peer.partial
        for name, file_id, size, complete in files:
            content = by_id.get(file_id)
            entry = content.names.get(name) if content is not None else None
            folded = entry.folded if entry is not None else folded_names.get(name) or fold(name)
            if folded in peer_files:
                self.remove_file(peer, folded)
                # Its last entry is gone, and perhaps the content with it.
                content = by_id.get(file_id)
                entry = content.names.get(name) if content is not None else None
            if content is None:
                content = by_id[file_id] = ContentEntry(file_id, size)
            if entry is None:
                # Nearly every name is equal to its folded form: one string serves as both.
                entry = content.names[name] = NameEntry(name, name if folded == name else folded, content)
                self.names.add(name, file_id, entry)
            entry.peer_count += 1
            peer_files[entry.folded] = entry
            held = content.holders.get(peer, 0)
            if not held:
                self.entry_count += 1
            if complete:
                content.holders[peer] = held + _COMPLETE
            else:
                content.holders[peer] = held + _PARTIAL
                partial.add(entry)
            if size != content.size or content.disputed_sizes is not None:
                self._add_disputed_size(content, peer, size)

    def remove_file(self, peer: PeerFiles, folded: str) -> None:
        """Remove what a peer has under a folded name."""
        entry = peer.files.pop(folded)
        content = entry.content
        count = content.holders[peer]
        if entry in peer.partial:
            peer.partial.discard(entry)
            count -= _PARTIAL
        else:
            count -= _COMPLETE
        if count:
            content.holders[peer] = count
        else:
            del content.holders[peer]
            self.entry_count -= 1
            if content.disputed_sizes is not None:
                self._drop_disputed_size(content, peer)
        entry.peer_count -= 1
        if not entry.peer_count:
            del content.names[entry.name]
            self.names.remove(entry.name, content.id)
        if not content.holders:
            del self.by_id[content.id]

    @staticmethod
    def _add_disputed_size(content: ContentEntry, peer: PeerFiles, size: int) -> None:
        sizes = content.disputed_sizes if content.disputed_sizes is not None else {}
        sizes[peer] = size
        content.disputed_sizes = sizes

    @staticmethod
    def _drop_disputed_size(content: ContentEntry, peer: PeerFiles) -> None:
        if content.disputed_sizes is not None:
            content.disputed_sizes.pop(peer, None)
            if not content.disputed_sizes:
                content.disputed_sizes = None


def version_of(entry: NameEntry) -> Version:
    """Return a version with all its holders."""
    content = entry.content
    holders = [Holder(peer.session, peer.load, is_complete(count)) for peer, count in content.holders.items()]
    return Version(entry.name, content.id, content.majority_size(), holders)


def is_complete(count: int) -> bool:
    """Return whether a value of ContentEntry.holders includes a complete file."""
    return count & (_PARTIAL - 1) != 0


def listed_version(entry: NameEntry) -> ListedVersion:
    """Return a version with the numbers of its holders."""
    content = entry.content
    complete = sum(1 for count in content.holders.values() if is_complete(count))
    return ListedVersion(entry.name, content.id, content.majority_size(), complete, len(content.holders) - complete)


def _has_one_complete(counts: tuple[int, ...]) -> bool:
    complete = 0
    for count in counts:
        if is_complete(count):
            complete += 1
            # Nearly all content has two complete holders among its first.
            if complete == 2:
                return False
    return complete == 1


def find_single_copies(
    contents: Iterable[ContentEntry], matches: Callable[[str], bool] | None, limit: int, timed_out: Callable[[], bool]
) -> SingleCopyScan:
    """Find what exactly one peer has complete.

    Needs no lock: `tuple(view)` is atomic under the GIL. The entries of the result may have changed since.

    Args:
        contents: a copy of all content.
        matches: which names to return; None for all.
        limit: names to return.
        timed_out: whether the search has to stop; names not checked by then count as more.
    """
    size = count = 0
    found: list[NameEntry] = []
    checked = 0
    stopped = False
    for content in contents:
        size += content.size
        if len(content.holders) <= _MAX_COUNTED_HOLDERS and _has_one_complete(tuple(content.holders.values())):
            count += 1
            if matches is None:
                found += tuple(content.names.values())
                continue
            for entry in () if stopped else tuple(content.names.values()):
                if matches(entry.name):
                    found.append(entry)
                checked += 1
                if checked % DEADLINE_CHECK_INTERVAL == 0 and timed_out():
                    stopped = True
                    break
    first = nsmallest(limit + 1, found, key=lambda entry: (entry.name, entry.content.id))
    return SingleCopyScan(count, size, first[:limit], stopped or len(first) > limit)
