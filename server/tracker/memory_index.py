"""The index in memory: liveness, locks and limits around file_index.py. No I/O; the clock is an argument."""

import secrets
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from random import Random

from tracker.errors import SendIndex, TooLarge
from tracker.file_index import FileIndex, find_single_copies
from tracker.index_entries import PeerFiles, Spellings, group_spellings, is_complete, listed_version, version_of
from tracker.models import (
    Copies,
    FoldedName,
    Holder,
    IndexEntry,
    ListedVersion,
    Load,
    OnlinePeer,
    PageCursor,
    ReceiverCheck,
    Session,
    SingleCopies,
    Totals,
    Version,
)
from tracker.name_index import compile_pattern
from tracker.names import fold, name_fault
from tracker.online_peers import OnlinePeers

# Seconds for one search. A pattern can be made to cost milliseconds per name, and there may be a million names.
SEARCH_TIMEOUT = 0.5
# Holders of one content that are asked which of its names they have.
_MAX_COPIES = 100
_NO_COPIES = Copies(frozenset(), ())
# Every id sorts before it.
_AFTER_ALL_IDS = b"\xff" * 32


class MemoryIndex:
    """The Index of one process. tracker.index describes the methods."""

    def __init__(
        self,
        now: Callable[[], float],
        server_time: Callable[[], float],
        ping_timeout: float,
        files_per_user: int = 1_000_000,
        on_expired: Callable[[Session], None] = lambda session: None,
        check_session: Callable[[Session], None] = lambda session: None,
        rng: Random | None = None,
    ) -> None:
        """Create an empty index.

        Args:
            now: monotonic clock, in seconds.
            server_time: the tracker's clock, in Unix seconds.
            ping_timeout: seconds without a ping after which a peer is removed.
            files_per_user: entries that all peers of one account may have together.
            on_expired: called with the session of a peer that is removed for its silence.
            check_session: raises NotLoggedIn or SendIndex for a session that has ended or stopped. It is called with
                the lock held, so a change it permits is complete before `remove_peer` runs.
            rng: chooses the peers of `some_peers`; guards nothing.
        """
        self.epoch = secrets.token_hex(8)
        self._now = now
        self._server_time = server_time
        self._ping_timeout = ping_timeout
        self._files_per_user = files_per_user
        self._on_expired = on_expired
        self._check_session = check_session
        self._lock = threading.RLock()
        self._peers = OnlinePeers(rng or Random())  # noqa: S311 - samples peers, guards nothing
        self._files = FileIndex()
        self._files_per_account: Counter[str] = Counter()

    def ping(self, session: Session, epoch: str, index_version: str, load: Load | None = None) -> bool:
        with self._lock:
            try:
                peer = self._refresh(session)
            except SendIndex:
                return True
            if load is not None:
                peer.load = load
            return peer.index_version != index_version or epoch != self.epoch

    def remove_peer(self, peer_id: str) -> None:
        with self._lock:
            self._expire_silent()
            self._remove(peer_id)

    def move_peer(self, session: Session) -> None:
        with self._lock:
            self._peers.move(session)

    def online(self, peer_ids: Collection[str]) -> set[str]:
        with self._lock:
            self._expire_silent()
            return {peer_id for peer_id in peer_ids if peer_id in self._peers}

    def replace(self, session: Session, version: str, files: Collection[IndexEntry]) -> None:
        folded_names = _fold_non_ascii(name for name, *_ in files)
        with self._lock:
            peer = self._refresh(session)
            others = self._files_per_account[session.user] - len(peer.files)
            self._check_file_limit(others + len(files))
            for name in list(peer.files):
                self._files.remove_file(peer, name)
            self._files.add_files(peer, files, folded_names)
            self._files_per_account[session.user] = others + len(peer.files)
            peer.index_version = version

    def patch(
        self,
        session: Session,
        base: str,
        version: str,
        add: Collection[IndexEntry],
        remove: Iterable[tuple[str, bytes]],
    ) -> None:
        folded_names = _fold_non_ascii(name for name, *_ in add)
        removed = _folded_removals(remove)
        with self._lock:
            peer = self._refresh(session)
            if peer.index_version is None or peer.index_version != base:
                if peer.index_version == version and self._is_applied(peer, add, folded_names, removed):
                    return
                raise SendIndex(
                    "this change does not apply to the present index: send the complete index with PUT /index"
                )
            others = self._files_per_account[session.user] - len(peer.files)
            going = {folded for folded, file_id in removed if _has_file(peer, folded, file_id)}
            if others + len(peer.files) + len(add) > self._files_per_user:
                # Names are counted exactly only near the limit, because that takes a lookup for each.
                coming = {folded_names.get(name) or fold(name) for name, *_ in add}
                replaced = coming & peer.files.keys()
                self._check_file_limit(others + len(peer.files) + len(coming) - len(replaced | going))
            for name in going:
                self._files.remove_file(peer, name)
            self._files.add_files(peer, add, folded_names)
            self._files_per_account[session.user] = others + len(peer.files)
            peer.index_version = version

    # Thousands of names, ids or holders in one request hold the lock for a moment each, not all together.

    def by_names(self, names: Iterable[str], limit: int) -> list[Version]:
        return [version for name in names for version in self._by_name(name, limit)]

    def by_ids(self, ids: Iterable[bytes], limit: int) -> list[Version]:
        return [version for file_id in ids for version in self._by_id(file_id, limit)]

    def some_holders(self, ids: Iterable[bytes], limit: int) -> list[list[Holder]]:
        return [self._some_holders(file_id, limit) for file_id in ids]

    def copies(self, files: Iterable[FoldedName], limit: int) -> list[Copies]:
        return [self._copies(folded, file_id, limit) for folded, file_id in files]

    def holders(self, pairs: Iterable[tuple[str, bytes]]) -> list[Holder | None]:
        with self._lock:
            self._expire_silent()
            return [self._holder(peer_id, file_id) for peer_id, file_id in pairs]

    def holders_at(self, address: str, file_id: bytes) -> list[Holder]:
        with self._lock:
            self._expire_silent()
            found = [self._holder(peer_id, file_id) for peer_id in self._peers.at(address)]
            return [holder for holder in found if holder is not None]

    def can_receive(self, checks: Collection[ReceiverCheck]) -> list[bool]:
        with self._lock:
            self._expire_silent()
            return [self._can_receive(*check) for check in checks]

    def online_peers(self) -> list[OnlinePeer]:
        with self._lock:
            self._expire_silent()
            now = self._now()
            return [_as_online(peer, now) for peer in self._peers]

    def some_peers(self, limit: int) -> list[OnlinePeer]:
        with self._lock:
            self._expire_silent()
            now = self._now()
            return [_as_online(peer, now) for peer in self._peers.sample(limit)]

    def unknown_names(self, files: Iterable[IndexEntry]) -> list[str]:
        with self._lock:
            by_id = self._files.by_id
            return [
                each[0] for each in files if (content := by_id.get(each[1])) is None or each[0] not in content.names
            ]

    def page(self, match: str, after: PageCursor | None, limit: int) -> tuple[list[ListedVersion], PageCursor | None]:
        with self._lock:
            self._expire_silent()
            names = self._files.names.names_in_order()
        # The search needs no lock: the list is replaced when names change, never modified.
        rows: list[ListedVersion] = []
        last = after
        for folded, matches in self._files.names.matching(names, match, after[0] if after else None, self._deadline()):
            if not matches:
                return rows, (folded, _AFTER_ALL_IDS)
            with self._lock:
                self._expire_silent()
                for version in sorted(self._files.names.versions(folded), key=_id_of):
                    place = folded, _id_of(version)
                    if after is not None and place <= after:
                        continue
                    if len(rows) == limit:
                        return rows, last
                    rows.append(listed_version(version, self._server_time()))
                    last = place
        return rows, None

    def single_copies(self, match: str, limit: int) -> SingleCopies:
        with self._lock:
            self._expire_silent()
            contents = list(self._files.by_id.values())
        scan = find_single_copies(contents, compile_pattern(match), limit, self._deadline())
        with self._lock:
            now = self._server_time()
            rows = [row for version in scan.versions if (row := listed_version(version, now)).holders == 1]
        return SingleCopies(scan.contents, scan.total_size, rows, scan.more)

    def totals(self) -> Totals:
        with self._lock:
            self._expire_silent()
            return Totals(len(self._peers), len(self._files.by_id), self._files.names.count, self._files.entry_count)

    def _by_name(self, name: str, limit: int) -> list[Version]:
        folded = fold(name)
        with self._lock:
            self._expire_silent()
            found = self._files.names.versions(folded, limit)
            now = self._server_time()
            return [version_of(each, now, name) for each in sorted(found, key=_id_of)]

    def _by_id(self, file_id: bytes, limit: int) -> list[Version]:
        with self._lock:
            self._expire_silent()
            content = self._files.by_id.get(file_id)
            if content is None:
                return []
            found = group_spellings(islice(content.names.values(), limit))
            now = self._server_time()
            return [version_of(each, now) for each in sorted(found, key=lambda spellings: spellings[0].folded)]

    def _some_holders(self, file_id: bytes, limit: int) -> list[Holder]:
        with self._lock:
            self._expire_silent()
            content = self._files.by_id.get(file_id)
            held = islice(content.holders.items(), limit) if content is not None else ()
            return [_as_holder(peer, count) for peer, count in held]

    def _copies(self, folded: str, file_id: bytes, limit: int) -> Copies:
        with self._lock:
            self._expire_silent()
            content = self._files.by_id.get(file_id)
            if content is None:
                return _NO_COPIES
            users: set[str] = set()
            others: list[Holder] = []
            for peer, count in islice(content.holders.items(), _MAX_COPIES):
                entry = peer.files.get(folded)
                if entry is None:
                    if is_complete(count) and len(others) < limit:
                        others.append(Holder(peer.session, peer.load, complete=True, has_name=False))
                elif entry.content is content and entry not in peer.partial:
                    users.add(peer.session.user)
            return Copies(users, others)

    def _deadline(self) -> Callable[[], bool]:
        """Return a function that says whether the search that begins now has timed out."""
        until = self._now() + SEARCH_TIMEOUT
        return lambda: self._now() > until

    # The methods below are called with the lock held.

    def _expire_silent(self) -> None:
        due = self._now() - self._ping_timeout
        while peer := self._peers.silent_since(due):
            self._remove(peer.session.peer_id)
            self._on_expired(peer.session)

    def _refresh(self, session: Session) -> PeerFiles:
        self._check_session(session)
        self._expire_silent()
        return self._peers.refresh(session, self._now())

    def _remove(self, peer_id: str) -> None:
        peer = self._peers.remove(peer_id)
        if peer is None:
            return
        user = peer.session.user
        self._files_per_account[user] -= len(peer.files)
        if not self._files_per_account[user]:
            del self._files_per_account[user]
        for folded in list(peer.files):
            self._files.remove_file(peer, folded)

    def _holder(self, peer_id: str, file_id: bytes) -> Holder | None:
        peer, content = self._peers.get(peer_id), self._files.by_id.get(file_id)
        if peer is None or content is None or peer not in content.holders:
            return None
        return _as_holder(peer, content.holders[peer])

    def _can_receive(self, peer_id: str, folded: str, file_id: bytes) -> bool:
        peer = self._peers.get(peer_id)
        if peer is None:
            return False
        entry = peer.files.get(folded)
        return entry is None or (entry.content.id == file_id and entry in peer.partial)

    def _check_file_limit(self, files: int) -> None:
        if files > self._files_per_user:
            raise TooLarge(f"an account may share at most {self._files_per_user} files: share fewer")

    def _is_applied(
        self,
        peer: PeerFiles,
        add: Collection[IndexEntry],
        folded_names: Mapping[str, str],
        removed: list[tuple[str, bytes]],
    ) -> bool:
        """Return whether the peer has what the change adds, and nothing of what it removes: a repeated request."""
        added = set()
        for name, file_id, _, complete, modified, executable in add:
            folded = folded_names.get(name) or fold(name)
            entry = peer.files.get(folded)
            if entry is None or entry.name != name or entry.content.id != file_id:
                return False
            if complete == (entry in peer.partial) or entry.announced_by(peer) != (modified, executable):
                return False
            added.add((folded, file_id))
        return not any(_has_file(peer, *each) for each in removed if each not in added)


def _has_file(peer: PeerFiles, folded: str, file_id: bytes) -> bool:
    entry = peer.files.get(folded)
    return entry is not None and entry.content.id == file_id


def _id_of(spellings: Spellings) -> bytes:
    return spellings[0].content.id


def _as_holder(peer: PeerFiles, count: int) -> Holder:
    return Holder(peer.session, peer.load, is_complete(count))


def _as_online(peer: PeerFiles, now: float) -> OnlinePeer:
    return OnlinePeer(peer.session, peer.load, len(peer.files), now - peer.last_ping, now - peer.online_since)


# Called without the lock: thousands of long names can take a second.


def _fold_non_ascii(names: Iterable[str]) -> dict[str, str]:
    """Fold the names that are not ASCII."""
    return {name: fold(name) for name in names if not name.isascii()}


def _folded_removals(removals: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Fold the names of a removal. A name that breaks a rule is in no index, and could take a second to fold."""
    return [(fold(name), file_id) for name, file_id in removals if name.isascii() or not name_fault(name)]
