"""The tracker's rules once somebody is in: liveness, index, query, upload, report. Knows no HTTP."""

import secrets
from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from random import Random
from typing import NamedTuple

from tracker import fetch_detection, placement, tickets
from tracker.activity_log import Journal, Placement
from tracker.clock import SteadyClock
from tracker.corruption_reports import Reports
from tracker.errors import NoActivePeer, NoSuchFile, NotAllowed, SendIndex
from tracker.events import Events
from tracker.index import Index
from tracker.models import Announced, Holder, Listed, Load, PeerView, Place, Scarce, Session, Totals, Version
from tracker.names import check_name, fold, printable

# Versions told in one answer, of each name or id that was asked for, and of each however many were.
_TOLD, _EACH, _EACH_AT_LEAST = 5000, 100, 5
# Tickets in one answer: 3.6 MB of them. All versions, or all files to be placed, have an equal share.
TICKETS = 10_000


class Pong(NamedTuple):
    """The answer to a ping."""

    send_index: bool
    recheck: list[bytes]


class Offer(NamedTuple):
    """A holder and the ticket to it."""

    holder: Holder
    ticket: str
    why: str


class Target(NamedTuple):
    """A peer to push to, and the ticket to it."""

    id: bytes
    url: str
    ticket: str
    why: str


class Tracker:
    """Who is alive, who holds what, and who may ask whom for it."""

    def __init__(
        self, index: Index, reports: Reports, clock: SteadyClock, events: Events, rng: Random, journal: Journal
    ) -> None:
        self.epoch = secrets.token_hex(8)
        self.started = clock.server_time()
        self.journal = journal
        self._index = index
        self._reports = reports
        self._clock = clock
        self._events = events
        self._rng = rng

    def server_time(self) -> float:
        """Unix seconds of the tracker's own steady clock."""
        return self._clock.server_time()

    def ping(self, session: Session, epoch: str, index_version: str, load: Load | None) -> Pong:
        """The peer is alive.

        Raises:
            NotLoggedIn: the session has just ended.
        """
        try:
            self._index.touch(session, load)
        except SendIndex:
            # Its peer stopped cleanly while it was on its way, and stays gone until the next ping.
            return Pong(True, [])
        send_index = epoch != self.epoch or self._index.version(session.peer_id) != index_version
        return Pong(send_index, self._reports.recheck(session.peer_id))

    def put_index(self, session: Session, version: str, files: Collection[Announced]) -> None:
        """Replace the peer's whole list.

        Raises:
            BadName, TooLarge: nothing is changed.
            NotLoggedIn, SendIndex: the session ended, or the peer stopped, since the request came; likewise.
        """
        self._judge(files)
        fetched = fetch_detection.fetched(self._index, self._reports, session, files, self.server_time())
        self._index.replace(session, version, files)
        self.journal.fetched(fetched)
        self._reports.announced(session.peer_id, {file_id for _, file_id, _, _ in files})
        self._events("reindexed", url=session.url, files=len(files))

    def patch_index(
        self,
        session: Session,
        base: str,
        version: str,
        add: Collection[Announced],
        remove: Sequence[tuple[str, bytes]],
    ) -> None:
        """Change the peer's list.

        Raises:
            BadName, TooLarge, SendIndex: nothing is changed.
            NotLoggedIn: the session ended since the request came; likewise.
        """
        self._judge(add)
        fetched = fetch_detection.fetched(self._index, self._reports, session, add, self.server_time())
        self._index.patch(session, base, version, add, remove)
        self.journal.fetched(fetched)
        if add:
            self._reports.announced(session.peer_id, {file_id for _, file_id, _, _ in add})

    def find_names(self, session: Session, names: Collection[str], near: bool) -> list[tuple[Version, list[Offer]]]:
        """The versions of these names, each with holders, best first; `near`: asked from the tracker's own machine.

        Where TICKETS are not enough for all holders, each version has the same number of them: ten of a thousand.

        Raises:
            BadName: one of the names.
            NoSuchFile: none of them is held by anybody.
        """
        most = _most_of_each(names)
        found = [version for name in dict.fromkeys(names) for version in self._index.by_name(check_name(name), most)]
        if not found:
            raise NoSuchFile(f"nobody alive has {_among(names)}")
        return self._offers(session, found, near)

    def find_ids(self, session: Session, ids: Collection[bytes], near: bool) -> list[tuple[Version, list[Offer]]]:
        """As find_names, by id: one entry for each name that the contents go by."""
        most = _most_of_each(ids)
        found = [version for file_id in dict.fromkeys(ids) for version in self._index.by_id(file_id, most)]
        if not found:
            raise NoSuchFile(f"nobody alive has {_among([file_id.hex() for file_id in ids])}")
        return self._offers(session, found, near)

    def choose_targets(
        self, session: Session, files: Collection[tuple[str, bytes, int]], copies: int, near: bool
    ) -> list[Target]:
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
            for peer in self._index.peers()
            if peer.session.peer_id != session.peer_id and (near or not peer.session.loopback)
        ]
        ranked = placement.rank_receivers(others, min(size for _, _, size in files), session.user, self._rng)
        signer = tickets.Signer(session.peer_id, session.user, self.server_time())
        copies = min(copies, TICKETS // len(files))
        planned: Counter[str] = Counter()
        targets: list[Target] = []
        seen: set[bytes] = set()
        for name, file_id, size in files:
            if file_id in seen:
                continue
            seen.add(file_id)
            users = self._index.whole_users(file_id) | {session.user}
            chosen = placement.choose_receivers(
                ranked,
                size,
                copies,
                max(placement.SAMPLE, placement.LOOKS // len(files)),
                planned,
                users,
                partial(self._fit, fold(name), file_id),
            )
            for peer in chosen:
                holder, why = peer.session, placement.why_receiver(peer, users)
                ticket = signer.sign(holder.ticket_key, holder.peer_id, file_id, tickets.WRITE)
                targets.append(Target(file_id, holder.url, ticket, why))
                self.journal.placed(Placement(self.server_time(), name, file_id, size, session.url, holder.url, why))
        if not targets:
            raise NoActivePeer("no active peer can take a copy: none is alive, has room and lacks the file")
        self._events("placed", files=len(seen), targets=len(targets), asker=session.url)
        return targets

    def report(self, session: Session, file_id: bytes, url: str, reason: str) -> bool:
        """Note that a holder's bytes did not verify; False if there is no such holder any more.

        Raises:
            NotAllowed: the reporter was given no ticket for it.
        """
        if not self._reports.may_report(session.peer_id, file_id):
            raise NotAllowed("only a peer that was given a ticket for these contents may report their holder")
        accused = [s for s in self._index.peer_at(url) if self._index.holder(file_id, s.peer_id) is not None]
        for holder in accused:
            if holder.peer_id != session.peer_id:
                self._reports.accuse(session.user, holder.peer_id, file_id)
        self._events("reported", url=url, by=session.url, id=file_id.hex(), reason=reason)
        return bool(accused)

    def page(self, match: str, after: Place | None, limit: int) -> tuple[list[Listed], Place | None]:
        """The catalogue after a place, and where it goes on."""
        return self._index.page(match, after, limit)

    def peers(self) -> list[PeerView]:
        """Everybody alive."""
        return self._index.peers()

    def some_holders(self, file_id: bytes, limit: int) -> list[Holder]:
        """Up to so many holders of these contents."""
        return self._index.some_holders(file_id, limit)

    def scarce(self, match: str, limit: int) -> Scarce:
        """What would be lost with one peer."""
        return self._index.scarce(match, limit)

    def totals(self) -> Totals:
        """How much there is."""
        return self._index.totals()

    def _fit(self, folded: str, file_id: bytes, peer: PeerView) -> bool:
        return self._index.fit(peer.session.peer_id, folded, file_id)

    def _judge(self, files: Collection[Announced]) -> None:
        for name in self._index.new_names(name for name, _, _, _ in files):
            check_name(name)

    def _offers(self, session: Session, found: list[Version], near: bool) -> list[tuple[Version, list[Offer]]]:
        signer = tickets.Signer(session.peer_id, session.user, self.server_time())
        most = min(placement.HOLDERS, TICKETS // len(found))
        return [(version, self._offer(session, signer, version, near, most)) for version in found]

    def _offer(self, session: Session, signer: tickets.Signer, version: Version, near: bool, most: int) -> list[Offer]:
        file_id = version.id
        self._reports.note_asked(session.peer_id, file_id)
        doubted = self._reports.doubted(session.user, file_id)
        me = session.peer_id
        dialled = [h for h in version.holders if h.session.peer_id != me and (near or not h.session.loopback)]
        return [
            Offer(
                holder,
                signer.sign(holder.session.ticket_key, holder.session.peer_id, file_id, tickets.READ),
                placement.why_holder(holder, doubted(holder.session.peer_id)),
            )
            for holder in placement.order_holders(dialled, doubted, self._rng, most)
        ]


def _most_of_each(asked: Collection[object]) -> int:
    """How many versions of a name, or names of an id, are told of each that is asked for.

    An account can carry one id under a million names, and a thousand of its peers a name in as many versions: all of
    them, each with tickets, would be hundreds of megabytes and the tracker's time for minutes.
    """
    return min(_EACH, max(_EACH_AT_LEAST, _TOLD // len(asked)))


def _among(asked: Collection[str]) -> str:
    first, others = printable(next(iter(asked))), len(asked) - 1
    if others < 2:
        return f"{first} or the other" if others else first
    return f"{first} or any of the {others} others"
