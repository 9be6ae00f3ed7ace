"""The tracker's rules for logged-in peers: liveness, index, query, upload, corruption reports. Knows no HTTP."""

from collections.abc import Callable, Collection, Sequence
from random import Random
from typing import NamedTuple

from tracker import ranking
from tracker.activity_log import ActivityLog, Fetch, detect_fetches
from tracker.corruption_reports import CorruptionReports
from tracker.errors import NoActivePeer, NoSuchFile, NotAllowed
from tracker.events import Events
from tracker.index import Index
from tracker.models import (
    Copies,
    FoldedName,
    Holder,
    IndexEntry,
    ListedVersion,
    Load,
    OnlinePeer,
    PageCursor,
    Session,
    SingleCopies,
    Totals,
    UploadTarget,
    Version,
)
from tracker.names import check_name, fold, printable
from tracker.placement import ReceiverPlan, WantedFile
from tracker.tickets import Right, TicketSigner, read_ticket

# Versions in one response: a query for n items gets MAX_VERSIONS / n of each, within the two bounds per item.
MAX_VERSIONS, MAX_PER_ITEM, MIN_PER_ITEM = 5000, 100, 5
# Tickets in one response, 3.6 MB of them, in equal shares for all versions or all files to be placed.
MAX_TICKETS = 10_000
# Checks of one peer for one file, in one request for copies, beyond those of a sample of the peers.
MAX_CANDIDATE_CHECKS = 200_000
# Holders of a file's content that may get its name without the bytes, in one request for copies.
MAX_CONTENT_HOLDERS = 8
# Seconds after the signature of a ticket in which its holder can be reported: a long download needs no newer ticket.
MAX_REPORT_AGE = 86_400


class PingResult(NamedTuple):
    """What a peer has to do after a ping: send its complete index; hash the content of some ids again."""

    send_index: bool
    recheck: list[bytes]


class HolderOffer(NamedTuple):
    """A holder, the ticket for it, and why it has its place in the order."""

    holder: Holder
    ticket: str
    why: str


class Tracker:
    """The operations of a logged-in peer. Thread-safe."""

    def __init__(
        self,
        index: Index,
        reports: CorruptionReports,
        server_time: Callable[[], float],
        events: Events,
        rng: Random,
        activity: ActivityLog,
    ) -> None:
        """Wire the service.

        Args:
            index: online peers and their files.
            reports: corruption reports.
            server_time: the tracker's clock, in Unix seconds.
            events: reports what happens.
            rng: chooses among equal peers; guards nothing.
            activity: stores placements and fetches for the dashboard.
        """
        self.server_time = server_time
        self.started = server_time()
        self.activity = activity
        self._index = index
        self._reports = reports
        self._events = events
        self._rng = rng

    @property
    def epoch(self) -> str:
        """The epoch of the index."""
        return self._index.epoch

    def ping(self, session: Session, epoch: str, index_version: str, load: Load | None) -> PingResult:
        """Record a sign of life.

        Args:
            session: the peer's session.
            epoch: the epoch that the peer knows.
            index_version: the version of the index that the peer has announced.
            load: the peer's load; None leaves the last one.

        Raises:
            NotLoggedIn: the session has ended since the request arrived.
        """
        if self._index.ping(session, epoch, index_version, load):
            # The request may be one of a pserver that has stopped since: its next ping gets the rechecks.
            return PingResult(True, [])
        return PingResult(False, self._reports.pop_rechecks(session.peer_id))

    def put_index(self, session: Session, version: str, files: Collection[IndexEntry]) -> None:
        """Replace all files of the peer.

        Raises:
            BadName: a name breaks a rule; nothing is changed.
            TooLarge: the account would share too many files; nothing is changed.
            NotLoggedIn: the session has ended since the request arrived; nothing is changed.
            SendIndex: the pserver stopped since the request arrived; nothing is changed.
        """
        self._check_new_names(files)
        fetches = self._detect_fetches(session, files)
        self._index.replace(session, version, files)
        self.activity.add_fetches(fetches)
        self._reports.on_announced(session.peer_id, {each[1] for each in files})
        self._events("reindexed", address=session.address, files=len(files))

    def patch_index(
        self,
        session: Session,
        base: str,
        version: str,
        add: Collection[IndexEntry],
        remove: Sequence[tuple[str, bytes]],
    ) -> None:
        """Change the files of the peer.

        Args:
            session: the peer's session.
            base: the version that the change applies to.
            version: the version after the change.
            add: new entries; each replaces what the peer has under its name.
            remove: names and ids of entries that are gone.

        Raises:
            BadName: a name breaks a rule; nothing is changed.
            TooLarge: the account would share too many files; nothing is changed.
            NotLoggedIn: the session has ended since the request arrived; nothing is changed.
            SendIndex: the index is not at `base`, or the pserver stopped; nothing is changed.
        """
        self._check_new_names(add)
        fetches = self._detect_fetches(session, add)
        self._index.patch(session, base, version, add, remove)
        self.activity.add_fetches(fetches)
        if add:
            self._reports.on_announced(session.peer_id, {each[1] for each in add})

    def find_names(
        self, session: Session, names: Collection[str], local: bool
    ) -> list[tuple[Version, list[HolderOffer]]]:
        """Find the versions of names, each with its holders, best first.

        Args:
            session: the requester's session.
            names: at least one name.
            local: whether the request comes from the tracker's own machine, so that loopback addresses are usable.

        Returns:
            Versions with holders and tickets. If MAX_TICKETS do not suffice for all holders, each version has the same
            number, for example ten of a thousand.

        Raises:
            BadName: a name breaks a rule.
            NoSuchFile: no online peer has any of the names.
        """
        limit = _max_per_item(len(names))
        found = self._index.by_names(map(check_name, dict.fromkeys(names)), limit)
        if not found:
            raise NoSuchFile(f"no online peer has {_describe(names)}")
        return self._offers(session, found, local)

    def find_ids(
        self, session: Session, ids: Collection[bytes], local: bool
    ) -> list[tuple[Version, list[HolderOffer]]]:
        """Find the names of ids, each with the holders of the content, best first.

        Args and result are as in find_names.

        Raises:
            NoSuchFile: no online peer has any of the ids.
        """
        limit = _max_per_item(len(ids))
        found = self._index.by_ids(dict.fromkeys(ids), limit)
        if not found:
            raise NoSuchFile(f"no online peer has {_describe([file_id.hex() for file_id in ids])}")
        return self._offers(session, found, local)

    def choose_targets(
        self, session: Session, files: Collection[tuple[str, bytes, int]], copies: int, local: bool
    ) -> list[UploadTarget]:
        """Choose online peers that should store copies, best first for each file.

        Each name counts: a peer that has the content under another name can receive this one, and comes first because
        it needs no bytes.

        Args:
            session: the uploader's session.
            files: name, id and size in bytes of each file; at least one.
            copies: receivers wanted for each file. At most MAX_TICKETS are chosen in total, so a request for 5,000
                files gets two for each.
            local: whether the request comes from the tracker's own machine, so that loopback addresses are usable.

        Raises:
            BadName: a name breaks a rule.
            NoActivePeer: there is no receiver for any of the files.
        """
        wanted: dict[FoldedName, WantedFile] = {}
        for name, file_id, size in files:
            key = fold(check_name(name)), file_id
            if key not in wanted:
                wanted[key] = WantedFile(name, *key, size)
        existing = self._index.copies(wanted, MAX_CONTENT_HOLDERS)
        plan = self._plan(session, list(wanted.values()), existing, min(copies, MAX_TICKETS // len(wanted)), local)
        signer = TicketSigner(session.peer_id, session.user, Right.WRITE, self.server_time())
        targets: list[UploadTarget] = []
        for file, found, receivers in zip(wanted.values(), existing, plan.receivers(), strict=True):
            for receiver in receivers:
                peer = receiver.peer.session
                ticket = signer.sign(peer.ticket_key, peer.peer_id, file.id)
                user_has_copy = peer.user == session.user or peer.user in found.users
                why = ranking.explain_receiver(receiver, user_has_copy=user_has_copy)
                targets.append(UploadTarget(file.name, file.id, peer.address, ticket, why))
        if not targets:
            raise NoActivePeer("no other online peer has room for a copy and lacks the file")
        self.activity.add_placements(session.address, targets)
        self._events("placed", files=len(wanted), targets=len(targets), uploader=session.address)
        return targets

    def report(self, session: Session, file_id: bytes, address: str, reason: str, ticket: str | None = None) -> bool:
        """Record a corruption report.

        Args:
            session: the reporter's session.
            file_id: the content that the holder served.
            address: the holder's address. A ticket names its holder, wherever that is now.
            reason: the reporter's text, for the log.
            ticket: the reporter's ticket for this holder and id. It may have expired, up to MAX_REPORT_AGE after it was
                signed. Without one the report counts for the reporter's user only.

        Returns:
            False if no online peer at the address, or of the ticket, has the content.

        Raises:
            NotAllowed: the ticket is not the reporter's, for this id and for reading, or too old.
        """
        if ticket is None:
            holders = self._index.holders_at(address, file_id)
        else:
            holders = self._holder_of(session, file_id, ticket)
        for holder in holders:
            if holder.session.peer_id != session.peer_id:
                self._reports.report_corrupt(
                    session.user, holder.session.peer_id, file_id, for_all_users=ticket is not None
                )
        where = holders[0].session.address if holders else address
        self._events("reported", address=where, by=session.address, id=file_id.hex(), reason=reason)
        return bool(holders)

    def page(self, match: str, after: PageCursor | None, limit: int) -> tuple[list[ListedVersion], PageCursor | None]:
        """List versions of names; as Index.page."""
        return self._index.page(match, after, limit)

    def online_peers(self) -> list[OnlinePeer]:
        """List the online peers; as Index.online_peers."""
        return self._index.online_peers()

    def some_holders(self, ids: Collection[bytes], limit: int) -> list[list[Holder]]:
        """List up to `limit` holders of each id; as Index.some_holders."""
        return self._index.some_holders(ids, limit)

    def single_copies(self, match: str, limit: int) -> SingleCopies:
        """List files that only one peer has complete; as Index.single_copies."""
        return self._index.single_copies(match, limit)

    def totals(self) -> Totals:
        """Count what the index has."""
        return self._index.totals()

    def _plan(
        self, session: Session, files: Sequence[WantedFile], existing: Sequence[Copies], copies: int, local: bool
    ) -> ReceiverPlan:
        def usable(peer: OnlinePeer | Holder) -> bool:
            return peer.session.peer_id != session.peer_id and (local or not peer.session.loopback)

        def ranked(peers: list[OnlinePeer]) -> list[OnlinePeer]:
            return ranking.rank_receivers(list(filter(usable, peers)), smallest, session.user, self._rng)

        smallest = min(file.size for file in files)
        found = [
            Copies(each.users, list(filter(usable, each.content_holders))) if each.content_holders else each
            for each in existing
        ]
        plan = ReceiverPlan(files, found, copies, session.user, self._index.can_receive)
        sample = self._index.some_peers(ranking.SAMPLE_SIZE + 1)
        plan.choose(ranked(sample))
        if len(sample) > ranking.SAMPLE_SIZE and not plan.is_complete():
            # A peer outside the sample may be the only one that can store a file.
            most = max(ranking.SAMPLE_SIZE, MAX_CANDIDATE_CHECKS // len(files))
            plan.choose(ranked(self._index.online_peers())[:most])
        return plan

    def _detect_fetches(self, session: Session, files: Collection[IndexEntry]) -> list[Fetch]:
        return detect_fetches(
            self._index, self.activity.queried_by(session.peer_id), session, files, self.server_time()
        )

    def _holder_of(self, session: Session, file_id: bytes, ticket: str) -> list[Holder]:
        read = read_ticket(ticket)
        if read is None or (read.right, read.requester_id, read.file_id) != (Right.READ, session.peer_id, file_id):
            raise NotAllowed("the ticket is not one for this session to download this id")
        if self.server_time() - read.issued > MAX_REPORT_AGE:
            raise NotAllowed("the ticket is too old for a report: query the holders again")
        (holder,) = self._index.holders([(read.holder_id, file_id)])
        if holder is None:
            return []
        if not read.is_genuine(holder.session.ticket_key):
            raise NotAllowed("the ticket was not signed by this tracker for the holder's present session")
        return [holder]

    def _check_new_names(self, files: Collection[IndexEntry]) -> None:
        # A name that the index has was checked when it came in.
        for name in self._index.unknown_names(files):
            check_name(name)

    def _offers(self, session: Session, found: list[Version], local: bool) -> list[tuple[Version, list[HolderOffer]]]:
        self.activity.note_queried(session.peer_id, {version.id for version in found})
        signer = TicketSigner(session.peer_id, session.user, Right.READ, self.server_time())
        limit = min(ranking.MAX_HOLDERS, MAX_TICKETS // len(found))
        return [(version, self._offers_of(session, signer, version, local, limit)) for version in found]

    def _offers_of(
        self, session: Session, signer: TicketSigner, version: Version, local: bool, limit: int
    ) -> list[HolderOffer]:
        file_id = version.id
        is_suspect = self._reports.suspect_check(session.user, file_id)
        own_id = session.peer_id
        usable = [h for h in version.holders if h.session.peer_id != own_id and (local or not h.session.loopback)]
        return [
            HolderOffer(
                holder,
                signer.sign(holder.session.ticket_key, holder.session.peer_id, file_id),
                ranking.explain_holder(holder, is_suspect(holder.session.peer_id)),
            )
            for holder in ranking.order_holders_of_name(usable, is_suspect, self._rng, limit)
        ]


def _max_per_item(items: int) -> int:
    """How many versions of one name, or names of one id, a query for `items` of them returns for each.

    One account can give an id a million names, and a thousand of its peers can give a name as many versions. All of
    them, each with tickets, would be hundreds of megabytes and minutes of the tracker's time.
    """
    return min(MAX_PER_ITEM, max(MIN_PER_ITEM, MAX_VERSIONS // items))


def _describe(items: Collection[str]) -> str:
    first, others = printable(next(iter(items))), len(items) - 1
    return f"{first} or any other of the {len(items)} requested" if others else first
