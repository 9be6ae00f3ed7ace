"""The tracker's rules once somebody is in: liveness, index, query, upload, report. Knows no HTTP."""

import secrets
from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from random import Random
from typing import NamedTuple

from tracker import fetch_detection, placement, tickets
from tracker.activity_log import ActivityLog, Placement
from tracker.clock import SteadyClock
from tracker.corruption_reports import CorruptionReports
from tracker.errors import NoActivePeer, NoSuchFile, NotAllowed, SendIndex
from tracker.events import Events
from tracker.index import Index
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
from tracker.names import check_name, fold, printable

# Versions told in one answer, of each name or id that was asked for, and of each however many were.
MAX_VERSIONS, MAX_PER_QUERY, MIN_PER_QUERY = 5000, 100, 5
# Tickets in one answer: 3.6 MB of them. All versions, or all files to be placed, have an equal share.
MAX_TICKETS = 10_000


class PingResult(NamedTuple):
    """The answer to a ping."""

    send_index: bool
    recheck: list[bytes]


class HolderOffer(NamedTuple):
    """A holder and the ticket to it."""

    holder: Holder
    ticket: str
    why: str


class UploadTarget(NamedTuple):
    """A peer to push to, and the ticket to it."""

    id: bytes
    address: str
    ticket: str
    why: str


class Tracker:
    """Who is alive, who holds what, and who may ask whom for it."""

    def __init__(
        self,
        index: Index,
        reports: CorruptionReports,
        clock: SteadyClock,
        events: Events,
        rng: Random,
        journal: ActivityLog,
    ) -> None:
        self.epoch = secrets.token_hex(8)
        self.started = clock.server_time()
        self.activity = journal
        self._index = index
        self._reports = reports
        self._clock = clock
        self._events = events
        self._rng = rng

    def server_time(self) -> float:
        """Unix seconds of the tracker's own steady clock."""
        return self._clock.server_time()

    def ping(self, session: Session, epoch: str, index_version: str, load: Load | None) -> PingResult:
        """The peer is alive.

        Raises:
            NotLoggedIn: the session has just ended.
        """
        try:
            self._index.touch(session, load)
        except SendIndex:
            # Its peer stopped cleanly while it was on its way, and stays gone until the next ping.
            return PingResult(True, [])
        send_index = epoch != self.epoch or self._index.index_version(session.peer_id) != index_version
        return PingResult(send_index, self._reports.pop_rechecks(session.peer_id))

    def put_index(self, session: Session, version: str, files: Collection[IndexEntry]) -> None:
        """Replace the peer's whole list.

        Raises:
            BadName, TooLarge: nothing is changed.
            NotLoggedIn, SendIndex: the session ended, or the peer stopped, since the request came; likewise.
        """
        self._check_new_names(files)
        fetched = fetch_detection.detect_fetches(self._index, self._reports, session, files, self.server_time())
        self._index.replace(session, version, files)
        self.activity.add_fetches(fetched)
        self._reports.on_announced(session.peer_id, {file_id for _, file_id, _, _ in files})
        self._events("reindexed", url=session.address, files=len(files))

    def patch_index(
        self,
        session: Session,
        base: str,
        version: str,
        add: Collection[IndexEntry],
        remove: Sequence[tuple[str, bytes]],
    ) -> None:
        """Change the peer's list.

        Raises:
            BadName, TooLarge, SendIndex: nothing is changed.
            NotLoggedIn: the session ended since the request came; likewise.
        """
        self._check_new_names(add)
        fetched = fetch_detection.detect_fetches(self._index, self._reports, session, add, self.server_time())
        self._index.patch(session, base, version, add, remove)
        self.activity.add_fetches(fetched)
        if add:
            self._reports.on_announced(session.peer_id, {file_id for _, file_id, _, _ in add})

    def find_names(
        self, session: Session, names: Collection[str], local: bool
    ) -> list[tuple[Version, list[HolderOffer]]]:
        """The versions of these names, each with holders, best first; `near`: asked from the tracker's own machine.

        Where TICKETS are not enough for all holders, each version has the same number of them: ten of a thousand.

        Raises:
            BadName: one of the names.
            NoSuchFile: none of them is held by anybody.
        """
        most = _max_per_item(names)
        found = [version for name in dict.fromkeys(names) for version in self._index.by_name(check_name(name), most)]
        if not found:
            raise NoSuchFile(f"nobody alive has {_describe(names)}")
        return self._offers(session, found, local)

    def find_ids(
        self, session: Session, ids: Collection[bytes], local: bool
    ) -> list[tuple[Version, list[HolderOffer]]]:
        """As find_names, by id: one entry for each name that the contents go by."""
        most = _max_per_item(ids)
        found = [version for file_id in dict.fromkeys(ids) for version in self._index.by_id(file_id, most)]
        if not found:
            raise NoSuchFile(f"nobody alive has {_describe([file_id.hex() for file_id in ids])}")
        return self._offers(session, found, local)

    def choose_targets(
        self, session: Session, files: Collection[tuple[str, bytes, int]], copies: int, local: bool
    ) -> list[UploadTarget]:
        """Live peers that should take copies of (name, id, size), best first for each id.

        At most TICKETS: of many files with many copies each has fewer targets than `copies`, two of 5,000 at the least.

        Raises:
            BadName: one of the names.
            NoActivePeer: there is no target for any of the files.
        """
        for name, _, _ in files:
            check_name(name)
        others = [
            peer
            for peer in self._index.online_peers()
            if peer.session.peer_id != session.peer_id and (local or not peer.session.loopback)
        ]
        ranked = placement.rank_receivers(others, min(size for _, _, size in files), session.user, self._rng)
        signer = tickets.TicketSigner(session.peer_id, session.user, self.server_time())
        copies = min(copies, MAX_TICKETS // len(files))
        planned: Counter[str] = Counter()
        targets: list[UploadTarget] = []
        seen: set[bytes] = set()
        for name, file_id, size in files:
            if file_id in seen:
                continue
            seen.add(file_id)
            users = self._index.users_with_copy(file_id) | {session.user}
            chosen = placement.choose_receivers(
                ranked,
                size,
                copies,
                max(placement.SAMPLE_SIZE, placement.MAX_CANDIDATE_CHECKS // len(files)),
                planned,
                users,
                partial(self._fit, fold(name), file_id),
            )
            for peer in chosen:
                holder, why = peer.session, placement.explain_receiver(peer, users)
                ticket = signer.sign(holder.ticket_key, holder.peer_id, file_id, tickets.WRITE)
                targets.append(UploadTarget(file_id, holder.address, ticket, why))
                self.activity.add_placement(
                    Placement(self.server_time(), name, file_id, size, session.address, holder.address, why)
                )
        if not targets:
            raise NoActivePeer("no active peer can take a copy: none is alive, has room and lacks the file")
        self._events("placed", files=len(seen), targets=len(targets), asker=session.address)
        return targets

    def report(self, session: Session, file_id: bytes, address: str, reason: str) -> bool:
        """Note that a holder's bytes did not verify; False if there is no such holder any more.

        Raises:
            NotAllowed: the reporter was given no ticket for it.
        """
        if not self._reports.may_report(session.peer_id, file_id):
            raise NotAllowed("only a peer that was given a ticket for these contents may report their holder")
        accused = [s for s in self._index.sessions_at(address) if self._index.holder(file_id, s.peer_id) is not None]
        for holder in accused:
            if holder.peer_id != session.peer_id:
                self._reports.report_corrupt(session.user, holder.peer_id, file_id)
        self._events("reported", url=address, by=session.address, id=file_id.hex(), reason=reason)
        return bool(accused)

    def page(self, match: str, after: PageCursor | None, limit: int) -> tuple[list[ListedVersion], PageCursor | None]:
        """The catalogue after a place, and where it goes on."""
        return self._index.page(match, after, limit)

    def online_peers(self) -> list[OnlinePeer]:
        """Everybody alive."""
        return self._index.online_peers()

    def some_holders(self, file_id: bytes, limit: int) -> list[Holder]:
        """Up to so many holders of these contents."""
        return self._index.some_holders(file_id, limit)

    def single_copies(self, match: str, limit: int) -> SingleCopies:
        """What would be lost with one peer."""
        return self._index.single_copies(match, limit)

    def totals(self) -> Totals:
        """How much there is."""
        return self._index.totals()

    def _fit(self, folded: str, file_id: bytes, peer: OnlinePeer) -> bool:
        return self._index.can_receive(peer.session.peer_id, folded, file_id)

    def _check_new_names(self, files: Collection[IndexEntry]) -> None:
        for name in self._index.unknown_names(name for name, _, _, _ in files):
            check_name(name)

    def _offers(self, session: Session, found: list[Version], near: bool) -> list[tuple[Version, list[HolderOffer]]]:
        signer = tickets.TicketSigner(session.peer_id, session.user, self.server_time())
        most = min(placement.MAX_HOLDERS, MAX_TICKETS // len(found))
        return [(version, self._offer(session, signer, version, near, most)) for version in found]

    def _offer(
        self, session: Session, signer: tickets.TicketSigner, version: Version, near: bool, most: int
    ) -> list[HolderOffer]:
        file_id = version.id
        self._reports.note_tickets(session.peer_id, file_id)
        doubted = self._reports.suspect_check(session.user, file_id)
        me = session.peer_id
        dialled = [h for h in version.holders if h.session.peer_id != me and (near or not h.session.loopback)]
        return [
            HolderOffer(
                holder,
                signer.sign(holder.session.ticket_key, holder.session.peer_id, file_id, tickets.READ),
                placement.explain_holder(holder, doubted(holder.session.peer_id)),
            )
            for holder in placement.order_holders(dialled, doubted, self._rng, most)
        ]


def _max_per_item(asked: Collection[object]) -> int:
    """How many versions of a name, or names of an id, are told of each that is asked for.

    An account can carry one id under a million names, and a thousand of its peers a name in as many versions: all of
    them, each with tickets, would be hundreds of megabytes and the tracker's time for minutes.
    """
    return min(MAX_PER_QUERY, max(MIN_PER_QUERY, MAX_VERSIONS // len(asked)))


def _describe(asked: Collection[str]) -> str:
    first, others = printable(next(iter(asked))), len(asked) - 1
    if others < 2:
        return f"{first} or the other" if others else first
    return f"{first} or any of the {others} others"
