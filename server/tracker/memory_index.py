"""The index in memory: both directions, from names and ids to holders and from peers to their files. No I/O.

Built for a million (contents, holder) entries in a few hundred bytes each: what an entry adds is one slot in its peer's
dict and one in its contents' dict; names, ids and the pairing of the two are shared by all holders.
"""

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable
from itertools import islice

from tracker.catalogue import Catalogue
from tracker.errors import SendIndex, TooLarge
from tracker.model import Announced, Holder, Listed, Load, PeerView, Session, Totals, Version
from tracker.names import fold

# A holder's count of names for some contents: whole ones in the low half of the number, partial ones in the high half.
_WHOLE = 1
_PARTIAL = 1 << 32


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

    __slots__ = ("files", "load", "partial", "seen", "session", "version")

    def __init__(self, session: Session, seen: float) -> None:
        self.session = session
        self.seen = seen
        self.load = Load()
        self.version: str | None = None
        # By folded name: two names that fold to one are one name at one peer.
        self.files: dict[str, Label] = {}
        self.partial: set[Label] = set()


class MemoryIndex:
    """The Index of one process (see tracker.index)."""

    def __init__(
        self,
        now: Callable[[], float],
        timeout: float,
        files_per_user: int = 1_000_000,
        expired: Callable[[Session], None] = lambda session: None,
    ) -> None:
        self._now = now
        self._timeout = timeout
        self._files_per_user = files_per_user
        self._expired = expired
        self._lock = threading.RLock()
        # In order of last ping, so that those who are overdue stand at the head.
        self._shelves: OrderedDict[str, Shelf] = OrderedDict()
        self._urls: dict[str, set[str]] = {}
        self._contents: dict[bytes, Contents] = {}
        self._catalogue: Catalogue[Label] = Catalogue()
        self._files_of: Counter[str] = Counter()
        self._entries = 0

    def touch(self, session: Session, load: Load | None = None) -> None:
        with self._lock:
            shelf = self._touched(session)
            if load is not None:
                shelf.load = load

    def leave(self, peer_id: str) -> None:
        with self._lock:
            self._purge()
            self._forget(peer_id)

    def alive(self, peer_id: str) -> bool:
        with self._lock:
            self._purge()
            return peer_id in self._shelves

    def version(self, peer_id: str) -> str | None:
        with self._lock:
            self._purge()
            shelf = self._shelves.get(peer_id)
            return shelf.version if shelf else None

    def replace(self, session: Session, version: str, files: Collection[Announced]) -> None:
        with self._lock:
            shelf = self._touched(session)
            others = self._files_of[session.user] - len(shelf.files)
            self._check_room(others + len(files))
            for folded in list(shelf.files):
                self._drop(shelf, folded)
            for file in files:
                self._put(shelf, file)
            self._files_of[session.user] = others + len(shelf.files)
            shelf.version = version

    def patch(
        self,
        session: Session,
        base: str,
        version: str,
        add: Collection[Announced],
        remove: Iterable[tuple[str, bytes]],
    ) -> None:
        with self._lock:
            shelf = self._touched(session)
            withdrawn = list(remove)
            if shelf.version is None or shelf.version != base:
                if shelf.version == version and self._holds_after(shelf, add, withdrawn):
                    return
                raise SendIndex(
                    "this change does not follow on the list held here: send the whole list with PUT /index"
                )
            others = self._files_of[session.user] - len(shelf.files)
            self._check_room(others + len(shelf.files) + len(add) - len(withdrawn))
            for name, file_id in withdrawn:
                folded = fold(name)
                label = shelf.files.get(folded)
                if label is not None and label.name == name and label.contents.id == file_id:
                    self._drop(shelf, folded)
            for file in add:
                self._put(shelf, file)
            self._files_of[session.user] = others + len(shelf.files)
            shelf.version = version

    def by_name(self, name: str) -> list[Version]:
        with self._lock:
            self._purge()
            labels = self._catalogue.versions(name)
            return [self._view(label) for label in sorted(labels, key=lambda label: label.contents.id)]

    def by_id(self, file_id: bytes) -> list[Version]:
        with self._lock:
            self._purge()
            contents = self._contents.get(file_id)
            return [self._view(contents.labels[name]) for name in sorted(contents.labels)] if contents else []

    def holder(self, file_id: bytes, peer_id: str) -> Holder | None:
        with self._lock:
            self._purge()
            shelf, contents = self._shelves.get(peer_id), self._contents.get(file_id)
            if shelf is None or contents is None or shelf not in contents.holders:
                return None
            return Holder(shelf.session, shelf.load, _is_whole(contents.holders[shelf]))

    def whole_users(self, file_id: bytes) -> set[str]:
        with self._lock:
            self._purge()
            contents = self._contents.get(file_id)
            if contents is None:
                return set()
            return {s.session.user for s, count in islice(contents.holders.items(), 100) if _is_whole(count)}

    def fit(self, peer_id: str, name: str, file_id: bytes) -> bool:
        with self._lock:
            self._purge()
            shelf = self._shelves.get(peer_id)
            if shelf is None:
                return False
            contents = self._contents.get(file_id)
            if contents is not None and _is_whole(contents.holders.get(shelf, 0)):
                return False
            label = shelf.files.get(fold(name))
            return label is None or label.contents.id == file_id

    def peers(self) -> list[PeerView]:
        with self._lock:
            self._purge()
            now = self._now()
            return [
                PeerView(shelf.session, shelf.load, len(shelf.files), now - shelf.seen)
                for shelf in self._shelves.values()
            ]

    def peer_at(self, url: str) -> list[Session]:
        with self._lock:
            self._purge()
            return [self._shelves[peer_id].session for peer_id in self._urls.get(url, ())]

    def page(self, match: str, after: tuple[str, bytes] | None, limit: int) -> tuple[list[Listed], bool]:
        with self._lock:
            self._purge()
            names = self._catalogue.names_in_order()
        # The search itself needs no lock: it reads a list that is never changed, only replaced.
        rows: list[Listed] = []
        for name in self._catalogue.matching(names, match, after[0] if after else None):
            with self._lock:
                self._purge()
                for label in sorted(self._catalogue.versions(name), key=lambda label: label.contents.id):
                    if after is None or (name, label.contents.id) > after:
                        rows.append(_listed(label))
            if len(rows) > limit:
                return rows[:limit], True
        return rows, False

    def totals(self) -> Totals:
        with self._lock:
            self._purge()
            return Totals(len(self._shelves), len(self._contents), self._catalogue.count, self._entries)

    # Below, the lock is held.

    def _purge(self) -> None:
        due = self._now() - self._timeout
        while self._shelves:
            peer_id, shelf = next(iter(self._shelves.items()))
            if shelf.seen > due:
                return
            self._forget(peer_id)
            self._expired(shelf.session)

    def _touched(self, session: Session) -> Shelf:
        self._purge()
        shelf = self._shelves.get(session.peer_id)
        now = self._now()
        if shelf is None:
            shelf = self._shelves[session.peer_id] = Shelf(session, now)
            self._urls.setdefault(session.url, set()).add(session.peer_id)
        else:
            shelf.seen = now
            self._shelves.move_to_end(session.peer_id)
        return shelf

    def _forget(self, peer_id: str) -> None:
        shelf = self._shelves.pop(peer_id, None)
        if shelf is None:
            return
        at_url = self._urls[shelf.session.url]
        at_url.discard(peer_id)
        if not at_url:
            del self._urls[shelf.session.url]
        user = shelf.session.user
        self._files_of[user] -= len(shelf.files)
        if not self._files_of[user]:
            del self._files_of[user]
        for folded in list(shelf.files):
            self._drop(shelf, folded)

    def _check_room(self, files: int) -> None:
        if files > self._files_per_user:
            raise TooLarge(f"an account may share at most {self._files_per_user} files: share fewer")

    def _put(self, shelf: Shelf, file: Announced) -> None:
        name, file_id, size, complete = file
        folded = fold(name)
        if folded == name:
            folded = name
        if folded in shelf.files:
            self._drop(shelf, folded)
        contents = self._contents.get(file_id)
        if contents is None:
            contents = self._contents[file_id] = Contents(file_id, size)
        label = contents.labels.get(name)
        if label is None:
            label = contents.labels[name] = Label(name, folded, contents)
            self._catalogue.add(name, file_id, label)
        label.carriers += 1
        shelf.files[label.folded] = label
        held = contents.holders.get(shelf, 0)
        if not held:
            self._entries += 1
        if complete:
            contents.holders[shelf] = held + _WHOLE
        else:
            contents.holders[shelf] = held + _PARTIAL
            shelf.partial.add(label)
        if size != contents.size or contents.odd_sizes is not None:
            self._note_size(contents, shelf, size)

    def _drop(self, shelf: Shelf, folded: str) -> None:
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
            self._entries -= 1
            if contents.odd_sizes is not None:
                self._forget_size(contents, shelf)
        label.carriers -= 1
        if not label.carriers:
            del contents.labels[label.name]
            self._catalogue.remove(label.name, contents.id)
        if not contents.holders:
            del self._contents[contents.id]

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

    @staticmethod
    def _holds_after(shelf: Shelf, add: Collection[Announced], withdrawn: list[tuple[str, bytes]]) -> bool:
        added = set()
        for name, file_id, _, complete in add:
            label = shelf.files.get(fold(name))
            if label is None or label.name != name or label.contents.id != file_id:
                return False
            if complete == (label in shelf.partial):
                return False
            added.add((name, file_id))
        for name, file_id in withdrawn:
            label = shelf.files.get(fold(name))
            held = label is not None and (label.name, label.contents.id) == (name, file_id)
            if held and (name, file_id) not in added:
                return False
        return True

    @staticmethod
    def _view(label: Label) -> Version:
        contents = label.contents
        holders = [Holder(s.session, s.load, _is_whole(count)) for s, count in contents.holders.items()]
        return Version(label.name, contents.id, contents.agreed_size(), holders)


def _is_whole(count: int) -> bool:
    return count & (_PARTIAL - 1) != 0


def _listed(label: Label) -> Listed:
    contents = label.contents
    whole = sum(1 for count in contents.holders.values() if _is_whole(count))
    return Listed(label.name, contents.id, contents.agreed_size(), whole, len(contents.holders) - whole)
