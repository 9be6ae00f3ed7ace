"""Who holds what: names, ids and holders, both directions. Knows no time and no locks; its owner has both.

Built for a million (contents, holder) entries in a few hundred bytes each: what an entry adds is one slot in its peer's
dict and one in its contents' dict; names, ids and the pairing of the two are shared by all holders.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from heapq import nsmallest

from tracker.models import Announced, Holder, Listed, Load, Session, Version
from tracker.name_index import CAREFUL, Catalogue
from tracker.names import fold

# A holder's count of names for some contents: whole ones in the low half of the number, partial ones in the high half.
_WHOLE = 1
_PARTIAL = 1 << 32
# With so many holders some are whole ones, or will be soon: not worth counting through.
_FEW = 20


class Contents:
    """What has one id."""

    __slots__ = ("holders", "id", "labels", "odd_sizes", "size")

    def __init__(self, file_id: bytes, size: int) -> None:
        self.id = file_id
        self.size = size
        # Sizes said by peers who disagree with the first one; nearly always None.
        self.odd_sizes: dict[Shelf, int] | None = None
        self.holders: dict[Shelf, int] = {}
        self.labels: dict[str, Label] = {}

    def agreed_size(self) -> int:
        """The size that most holders say; one liar does not speak for the others."""
        if self.odd_sizes is None:
            return self.size
        said = Counter(self.odd_sizes.get(shelf, self.size) for shelf in self.holders)
        return said.most_common(1)[0][0]


class Label:
    """A name on some contents, and how many peers carry it."""

    __slots__ = ("carriers", "contents", "folded", "name")

    def __init__(self, name: str, folded: str, contents: Contents) -> None:
        self.name = name
        self.folded = folded
        self.contents = contents
        self.carriers = 0


class Shelf:
    """What one live peer has."""

    __slots__ = ("came", "files", "load", "partial", "seen", "session", "version")

    def __init__(self, session: Session, seen: float) -> None:
        self.session = session
        self.seen = self.came = seen
        self.load = Load()
        self.version: str | None = None
        # By folded name: two names that fold to one are one name at one peer.
        self.files: dict[str, Label] = {}
        self.partial: set[Label] = set()


class Holdings:
    """All contents, labels and what the shelves of live peers hold of them."""

    def __init__(self) -> None:
        self.contents: dict[bytes, Contents] = {}
        self.catalogue: Catalogue[Label] = Catalogue()
        # Pairs of contents and holder.
        self.entries = 0

    def put_all(self, shelf: Shelf, files: Iterable[Announced], slow_folds: Mapping[str, str]) -> None:
        """Give a shelf files, each in place of what it has under the name. `slow_folds`: those not ASCII, folded.

        One loop with everything at hand: at 200,000 files a second there is no time for a call for each.
        """
        all_contents, files_here, partial = self.contents, shelf.files, shelf.partial
        for name, file_id, size, complete in files:
            contents = all_contents.get(file_id)
            label = contents.labels.get(name) if contents is not None else None
            folded = label.folded if label is not None else slow_folds.get(name) or fold(name)
            if folded in files_here:
                self.drop(shelf, folded)
                # With its last carrier the label went, and perhaps the contents.
                contents = all_contents.get(file_id)
                label = contents.labels.get(name) if contents is not None else None
            if contents is None:
                contents = all_contents[file_id] = Contents(file_id, size)
            if label is None:
                # Nearly every name is its own folding: one string serves as both.
                label = contents.labels[name] = Label(name, name if folded == name else folded, contents)
                self.catalogue.add(name, file_id, label)
            label.carriers += 1
            files_here[label.folded] = label
            held = contents.holders.get(shelf, 0)
            if not held:
                self.entries += 1
            if complete:
                contents.holders[shelf] = held + _WHOLE
            else:
                contents.holders[shelf] = held + _PARTIAL
                partial.add(label)
            if size != contents.size or contents.odd_sizes is not None:
                self._note_size(contents, shelf, size)

    def drop(self, shelf: Shelf, folded: str) -> None:
        """Take from a shelf what it has under a folded name."""
        label = shelf.files.pop(folded)
        contents = label.contents
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
            if contents.odd_sizes is not None:
                self._forget_size(contents, shelf)
        label.carriers -= 1
        if not label.carriers:
            del contents.labels[label.name]
            self.catalogue.remove(label.name, contents.id)
        if not contents.holders:
            del self.contents[contents.id]

    @staticmethod
    def _note_size(contents: Contents, shelf: Shelf, size: int) -> None:
        odd = contents.odd_sizes if contents.odd_sizes is not None else {}
        odd[shelf] = size
        contents.odd_sizes = odd

    @staticmethod
    def _forget_size(contents: Contents, shelf: Shelf) -> None:
        if contents.odd_sizes is not None:
            contents.odd_sizes.pop(shelf, None)
            if not contents.odd_sizes:
                contents.odd_sizes = None


def view(label: Label) -> Version:
    """A version with all its holders."""
    contents = label.contents
    holders = [Holder(s.session, s.load, is_whole(count)) for s, count in contents.holders.items()]
    return Version(label.name, contents.id, contents.agreed_size(), holders)


def is_whole(count: int) -> bool:
    return count & (_PARTIAL - 1) != 0


def listed(label: Label) -> Listed:
    contents = label.contents
    whole = sum(1 for count in contents.holders.values() if is_whole(count))
    return Listed(label.name, contents.id, contents.agreed_size(), whole, len(contents.holders) - whole)


def _one_whole(counts: tuple[int, ...]) -> bool:
    whole = 0
    for count in counts:
        if is_whole(count):
            whole += 1
            # The first two settle nearly all.
            if whole == 2:
                return False
    return whole == 1


def scarce_among(
    everything: Iterable[Contents], accepts: Callable[[str], bool] | None, limit: int, tired: Callable[[], bool]
) -> tuple[int, int, list[Label], bool]:
    """How many contents one peer only holds whole, the size of all contents, the first labels of the former.

    And whether there are more labels: those that were not looked at when the searcher was tired are taken to be.

    Safe without the owner's lock: a tuple of a view is made in one step of the interpreter. The labels are not: their
    contents may have changed since.
    """
    size = count = 0
    found: list[Label] = []
    looked_at = 0
    enough = False
    for contents in everything:
        size += contents.size
        if len(contents.holders) <= _FEW and _one_whole(tuple(contents.holders.values())):
            count += 1
            if accepts is None:
                found += tuple(contents.labels.values())
                continue
            for label in () if enough else tuple(contents.labels.values()):
                if accepts(label.name):
                    found.append(label)
                looked_at += 1
                if looked_at % CAREFUL == 0 and tired():
                    enough = True
                    break
    first = nsmallest(limit + 1, found, key=lambda label: (label.name, label.contents.id))
    return count, size, first[:limit], enough or len(first) > limit
