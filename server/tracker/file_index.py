"""Who holds what: names, ids and holders, both directions. Knows no time and no locks; its owner has both.

Built for a million (contents, holder) entries in a few hundred bytes each: what an entry adds is one slot in its peer's
dict and one in its contents' dict; names, ids and the pairing of the two are shared by all holders.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from heapq import nsmallest

from tracker.models import Holder, IndexEntry, ListedVersion, Load, Session, Version
from tracker.name_index import DEADLINE_CHECK_INTERVAL, NameIndex
from tracker.names import fold

# A holder's count of names for some contents: whole ones in the low half of the number, partial ones in the high half.
_WHOLE = 1
_PARTIAL = 1 << 32
# With so many holders some are whole ones, or will be soon: not worth counting through.
_FEW = 20


class ContentEntry:
    """What has one id."""

    __slots__ = ("disputed_sizes", "holders", "id", "names", "size")

    def __init__(self, file_id: bytes, size: int) -> None:
        self.id = file_id
        self.size = size
        # Sizes said by peers who disagree with the first one; nearly always None.
        self.disputed_sizes: dict[PeerFiles, int] | None = None
        self.holders: dict[PeerFiles, int] = {}
        self.names: dict[str, NameEntry] = {}

    def majority_size(self) -> int:
        """The size that most holders say; one liar does not speak for the others."""
        if self.disputed_sizes is None:
            return self.size
        said = Counter(self.disputed_sizes.get(shelf, self.size) for shelf in self.holders)
        return said.most_common(1)[0][0]


class NameEntry:
    """A name on some contents, and how many peers carry it."""

    __slots__ = ("content", "folded", "name", "peer_count")

    def __init__(self, name: str, folded: str, contents: ContentEntry) -> None:
        self.name = name
        self.folded = folded
        self.content = contents
        self.peer_count = 0


class PeerFiles:
    """What one live peer has."""

    __slots__ = ("files", "index_version", "last_ping", "load", "online_since", "partial", "session")

    def __init__(self, session: Session, seen: float) -> None:
        self.session = session
        self.last_ping = self.online_since = seen
        self.load = Load()
        self.index_version: str | None = None
        # By folded name: two names that fold to one are one name at one peer.
        self.files: dict[str, NameEntry] = {}
        self.partial: set[NameEntry] = set()


class FileIndex:
    """All contents, labels and what the shelves of live peers hold of them."""

    def __init__(self) -> None:
        self.contents: dict[bytes, ContentEntry] = {}
        self.names: NameIndex[NameEntry] = NameIndex()
        # Pairs of contents and holder.
        self.entries = 0

    def add_files(self, shelf: PeerFiles, files: Iterable[IndexEntry], slow_folds: Mapping[str, str]) -> None:
        """Give a shelf files, each in place of what it has under the name. `slow_folds`: those not ASCII, folded.

        One loop with everything at hand: at 200,000 files a second there is no time for a call for each.
        """
        all_contents, files_here, partial = self.contents, shelf.files, shelf.partial
        for name, file_id, size, complete in files:
            contents = all_contents.get(file_id)
            label = contents.names.get(name) if contents is not None else None
            folded = label.folded if label is not None else slow_folds.get(name) or fold(name)
            if folded in files_here:
                self.remove_file(shelf, folded)
                # With its last carrier the label went, and perhaps the contents.
                contents = all_contents.get(file_id)
                label = contents.names.get(name) if contents is not None else None
            if contents is None:
                contents = all_contents[file_id] = ContentEntry(file_id, size)
            if label is None:
                # Nearly every name is its own folding: one string serves as both.
                label = contents.names[name] = NameEntry(name, name if folded == name else folded, contents)
                self.names.add(name, file_id, label)
            label.peer_count += 1
            files_here[label.folded] = label
            held = contents.holders.get(shelf, 0)
            if not held:
                self.entries += 1
            if complete:
                contents.holders[shelf] = held + _WHOLE
            else:
                contents.holders[shelf] = held + _PARTIAL
                partial.add(label)
            if size != contents.size or contents.disputed_sizes is not None:
                self._note_size(contents, shelf, size)

    def remove_file(self, shelf: PeerFiles, folded: str) -> None:
        """Take from a shelf what it has under a folded name."""
        label = shelf.files.pop(folded)
        contents = label.content
        count = contents.holders[shelf]
        if label in shelf.partial:
            shelf.partial.discard(label)
            count -= _PARTIAL
        else:
            count -= _WHOLE
        if count:
            contents.holders[shelf] = count
        else:
            del contents.holders[shelf]
            self.entries -= 1
            if contents.disputed_sizes is not None:
                self._forget_size(contents, shelf)
        label.peer_count -= 1
        if not label.peer_count:
            del contents.names[label.name]
            self.names.remove(label.name, contents.id)
        if not contents.holders:
            del self.contents[contents.id]

    @staticmethod
    def _note_size(contents: ContentEntry, shelf: PeerFiles, size: int) -> None:
        odd = contents.disputed_sizes if contents.disputed_sizes is not None else {}
        odd[shelf] = size
        contents.disputed_sizes = odd

    @staticmethod
    def _forget_size(contents: ContentEntry, shelf: PeerFiles) -> None:
        if contents.disputed_sizes is not None:
            contents.disputed_sizes.pop(shelf, None)
            if not contents.disputed_sizes:
                contents.disputed_sizes = None


def version_of(label: NameEntry) -> Version:
    """A version with all its holders."""
    contents = label.content
    holders = [Holder(s.session, s.load, is_complete(count)) for s, count in contents.holders.items()]
    return Version(label.name, contents.id, contents.majority_size(), holders)


def is_complete(count: int) -> bool:
    return count & (_PARTIAL - 1) != 0


def listed_version(label: NameEntry) -> ListedVersion:
    contents = label.content
    whole = sum(1 for count in contents.holders.values() if is_complete(count))
    return ListedVersion(label.name, contents.id, contents.majority_size(), whole, len(contents.holders) - whole)


def _one_whole(counts: tuple[int, ...]) -> bool:
    whole = 0
    for count in counts:
        if is_complete(count):
            whole += 1
            # The first two settle nearly all.
            if whole == 2:
                return False
    return whole == 1


def find_single_copies(
    everything: Iterable[ContentEntry], accepts: Callable[[str], bool] | None, limit: int, tired: Callable[[], bool]
) -> tuple[int, int, list[NameEntry], bool]:
    """How many contents one peer only holds whole, the size of all contents, the first labels of the former.

    And whether there are more labels: those that were not looked at when the searcher was tired are taken to be.

    Safe without the owner's lock: a tuple of a view is made in one step of the interpreter. The labels are not: their
    contents may have changed since.
    """
    size = count = 0
    found: list[NameEntry] = []
    looked_at = 0
    enough = False
    for contents in everything:
        size += contents.size
        if len(contents.holders) <= _FEW and _one_whole(tuple(contents.holders.values())):
            count += 1
            if accepts is None:
                found += tuple(contents.names.values())
                continue
            for label in () if enough else tuple(contents.names.values()):
                if accepts(label.name):
                    found.append(label)
                looked_at += 1
                if looked_at % DEADLINE_CHECK_INTERVAL == 0 and tired():
                    enough = True
                    break
    first = nsmallest(limit + 1, found, key=lambda label: (label.name, label.content.id))
    return count, size, first[:limit], enough or len(first) > limit
