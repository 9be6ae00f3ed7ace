"""The index in memory: liveness, locks and limits around the holdings. No I/O; the clock is handed in."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice

from tracker.errors import SendIndex, TooLarge
from tracker.file_index import (
    FileIndex,
    NameEntry,
    PeerFiles,
    find_single_copies,
    is_complete,
    listed_version,
    version_of,
)
from tracker.models import (
    Holder,
    IndexEntry,
    ListedVersion,
    Load,
    OnlinePeer,
    PageCursor,
    Session,
    SingleCopies,
    Totals,
    Version,
)
from tracker.name_index import compile_pattern
from tracker.names import fold

# Seconds that one search may take: a pattern can be made to cost milliseconds a name, and there may be a million.
SEARCH_TIMEOUT = 0.5
# No id comes after it.
_AFTER_ALL = b"\xff" * 32


class MemoryIndex:
    """The Index of one process (see tracker.index)."""

    def __init__(
        self,
        now: Callable[[], float],
        ping_timeout: float,
        files_per_user: int = 1_000_000,
        on_expired: Callable[[Session], None] = lambda session: None,
        check_session: Callable[[Session], None] = lambda session: None,
    ) -> None:
        self._now = now
        self._timeout = ping_timeout
        self._files_per_user = files_per_user
        self._expired = on_expired
        # Raises for a session that no longer speaks for its peer. Asked under the lock: what it lets in, `leave` finds.
        self._check = check_session
        self._lock = threading.RLock()
        # In order of last ping, so that those who are overdue stand at the head.
        self._shelves: OrderedDict[str, PeerFiles] = OrderedDict()
        self._urls: dict[str, set[str]] = {}
        self._holdings = FileIndex()
        self._files_of: Counter[str] = Counter()

    def touch(self, session: Session, load: Load | None = None) -> None:
        with self._lock:
            shelf = self._refresh(session)
            if load is not None:
                shelf.load = load

    def remove_peer(self, peer_id: str) -> None:
        with self._lock:
            self._expire_silent()
            self._forget(peer_id)

    def is_online(self, peer_id: str) -> bool:
        with self._lock:
            self._expire_silent()
            return peer_id in self._shelves

    def index_version(self, peer_id: str) -> str | None:
        with self._lock:
            self._expire_silent()
            shelf = self._shelves.get(peer_id)
            return shelf.index_version if shelf else None

    def replace(self, session: Session, version: str, files: Collection[IndexEntry]) -> None:
        slow = _slow_folds(files)
        with self._lock:
            shelf = self._refresh(session)
            others = self._files_of[session.user] - len(shelf.files)
            self._check_room(others + len(files))
            for name in list(shelf.files):
                self._holdings.remove_file(shelf, name)
            self._holdings.add_files(shelf, files, slow)
            self._files_of[session.user] = others + len(shelf.files)
            shelf.index_version = version

    def patch(
        self,
        session: Session,
        base: str,
        version: str,
        add: Collection[IndexEntry],
        remove: Iterable[tuple[str, bytes]],
    ) -> None:
        slow = _slow_folds(add)
        with self._lock:
            shelf = self._refresh(session)
            withdrawn = list(remove)
            if shelf.index_version is None or shelf.index_version != base:
                if shelf.index_version == version and self._holds_after(shelf, add, slow, withdrawn):
                    return
                raise SendIndex(
                    "this change does not follow on the list held here: send the whole list with PUT /index"
                )
            others = self._files_of[session.user] - len(shelf.files)
            going = {label.folded for name, file_id in withdrawn if (label := self._carried(shelf, name, file_id))}
            if others + len(shelf.files) + len(add) > self._files_per_user:
                # Only who is near the limit waits for every name to be looked up.
                coming = {slow.get(name) or fold(name) for name, _, _, _ in add}
                replaced = coming & shelf.files.keys()
                self._check_room(others + len(shelf.files) + len(coming) - len(replaced | going))
            for name in going:
                self._holdings.remove_file(shelf, name)
            self._holdings.add_files(shelf, add, slow)
            self._files_of[session.user] = others + len(shelf.files)
            shelf.index_version = version

    def by_name(self, name: str, limit: int) -> list[Version]:
        with self._lock:
            self._expire_silent()
            labels = islice(self._holdings.names.versions(name), limit)
            return [version_of(label) for label in sorted(labels, key=lambda label: label.content.id)]

    def by_id(self, file_id: bytes, limit: int) -> list[Version]:
        with self._lock:
            self._expire_silent()
            contents = self._holdings.contents.get(file_id)
            if contents is None:
                return []
            return [version_of(contents.names[name]) for name in sorted(islice(contents.names, limit))]

    def holder(self, file_id: bytes, peer_id: str) -> Holder | None:
        with self._lock:
            self._expire_silent()
            shelf, contents = self._shelves.get(peer_id), self._holdings.contents.get(file_id)
            if shelf is None or contents is None or shelf not in contents.holders:
                return None
            return Holder(shelf.session, shelf.load, is_complete(contents.holders[shelf]))

    def some_holders(self, file_id: bytes, limit: int) -> list[Holder]:
        with self._lock:
            self._expire_silent()
            contents = self._holdings.contents.get(file_id)
            held = islice(contents.holders.items(), limit) if contents is not None else ()
            return [Holder(shelf.session, shelf.load, is_complete(count)) for shelf, count in held]

    def users_with_copy(self, file_id: bytes) -> set[str]:
        with self._lock:
            self._expire_silent()
            contents = self._holdings.contents.get(file_id)
            if contents is None:
                return set()
            return {s.session.user for s, count in islice(contents.holders.items(), 100) if is_complete(count)}

    def can_receive(self, peer_id: str, folded: str, file_id: bytes) -> bool:
        with self._lock:
            self._expire_silent()
            shelf = self._shelves.get(peer_id)
            if shelf is None:
                return False
            contents = self._holdings.contents.get(file_id)
            if contents is not None and is_complete(contents.holders.get(shelf, 0)):
                return False
            label = shelf.files.get(folded)
            return label is None or label.content.id == file_id

    def online_peers(self) -> list[OnlinePeer]:
        with self._lock:
            self._expire_silent()
            now = self._now()
            return [
                OnlinePeer(shelf.session, shelf.load, len(shelf.files), now - shelf.last_ping, now - shelf.online_since)
                for shelf in self._shelves.values()
            ]

    def sessions_at(self, url: str) -> list[Session]:
        with self._lock:
            self._expire_silent()
            return [self._shelves[peer_id].session for peer_id in self._urls.get(url, ())]

    def unknown_names(self, names: Iterable[str]) -> list[str]:
        with self._lock:
            catalogue = self._holdings.names
            return [name for name in names if name not in catalogue]

    def page(self, match: str, after: PageCursor | None, limit: int) -> tuple[list[ListedVersion], PageCursor | None]:
        with self._lock:
            self._expire_silent()
            names = self._holdings.names.names_in_order()
        # The search itself needs no lock: it reads a list that is never changed, only replaced.
        rows: list[ListedVersion] = []
        for name, fits in self._holdings.names.matching(names, match, after[0] if after else None, self._deadline()):
            if not fits:
                return rows, (name, _AFTER_ALL)
            with self._lock:
                self._expire_silent()
                labels = sorted(self._holdings.names.versions(name), key=lambda label: label.content.id)
                rows += [listed_version(label) for label in labels if after is None or (name, label.content.id) > after]
            if len(rows) > limit:
                return rows[:limit], (rows[limit - 1].name, rows[limit - 1].id)
        return rows, None

    def single_copies(self, match: str, limit: int) -> SingleCopies:
        with self._lock:
            self._expire_silent()
            everything = list(self._holdings.contents.values())
        count, size, labels, more = find_single_copies(everything, compile_pattern(match), limit, self._deadline())
        with self._lock:
            rows = [row for row in map(listed_version, labels) if row.holders == 1]
        return SingleCopies(count, size, rows, more)

    def totals(self) -> Totals:
        with self._lock:
            self._expire_silent()
            return Totals(
                len(self._shelves), len(self._holdings.contents), self._holdings.names.count, self._holdings.entries
            )

    def _deadline(self) -> Callable[[], bool]:
        """Tell when a search that begins now has taken its time."""
        until = self._now() + SEARCH_TIMEOUT
        return lambda: self._now() > until

    # Below, the lock is held.

    def _expire_silent(self) -> None:
        due = self._now() - self._timeout
        while self._shelves:
            peer_id, shelf = next(iter(self._shelves.items()))
            if shelf.last_ping > due:
                return
            self._forget(peer_id)
            self._expired(shelf.session)

    def _refresh(self, session: Session) -> PeerFiles:
        self._check(session)
        self._expire_silent()
        shelf = self._shelves.get(session.peer_id)
        now = self._now()
        if shelf is None:
            shelf = self._shelves[session.peer_id] = PeerFiles(session, now)
            self._urls.setdefault(session.address, set()).add(session.peer_id)
        else:
            shelf.last_ping = now
            self._shelves.move_to_end(session.peer_id)
        return shelf

    def _forget(self, peer_id: str) -> None:
        shelf = self._shelves.pop(peer_id, None)
        if shelf is None:
            return
        at_url = self._urls[shelf.session.address]
        at_url.discard(peer_id)
        if not at_url:
            del self._urls[shelf.session.address]
        user = shelf.session.user
        self._files_of[user] -= len(shelf.files)
        if not self._files_of[user]:
            del self._files_of[user]
        for folded in list(shelf.files):
            self._holdings.remove_file(shelf, folded)

    def _check_room(self, files: int) -> None:
        if files > self._files_per_user:
            raise TooLarge(f"an account may share at most {self._files_per_user} files: share fewer")

    def _holds_after(
        self, shelf: PeerFiles, add: Collection[IndexEntry], slow: Mapping[str, str], withdrawn: list[tuple[str, bytes]]
    ) -> bool:
        added = set()
        for name, file_id, _, complete in add:
            label = shelf.files.get(slow.get(name) or fold(name))
            if label is None or label.name != name or label.content.id != file_id:
                return False
            if complete == (label in shelf.partial):
                return False
            added.add((name, file_id))
        return not any(
            self._carried(shelf, name, file_id) for name, file_id in withdrawn if (name, file_id) not in added
        )

    def _carried(self, shelf: PeerFiles, name: str, file_id: bytes) -> NameEntry | None:
        """What a shelf has under exactly this name. Without folding it: nobody judges names to remove."""
        contents = self._holdings.contents.get(file_id)
        label = contents.names.get(name) if contents is not None else None
        return label if label is not None and shelf.files.get(label.folded) is label else None


def _slow_folds(files: Iterable[IndexEntry]) -> dict[str, str]:
    """Names that are not ASCII, folded. Not under the lock: thousands with marks in an odd order take a second."""
    return {name: fold(name) for name, _, _, _ in files if not name.isascii()}
