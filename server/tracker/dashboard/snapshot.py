"""The content of the dashboard as plain values, read from the tracker. Knows neither HTTP nor HTML."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest, nsmallest
from typing import NamedTuple

from tracker.dashboard import graph_svg
from tracker.dashboard.activity import (
    ERROR_EVENTS,
    ActivityLine,
    recent_activity,
    recent_errors,
    recent_placements,
    transfer_edges,
)
from tracker.dashboard.formatting import truncated
from tracker.dashboard.graph_svg import Arrow, Dot
from tracker.models import Load, OnlinePeer, SingleCopies, Totals
from tracker.service import Tracker

MAX_FILE_ROWS = 200
# The graph is unreadable with more peers than the first number; the table lists a few more.
MAX_PICTURED, MAX_TABLED = 60, 200
MAX_ACTIVITY, MAX_PLACEMENTS, MAX_ERRORS = 10, 6, 8
# Bytes per second below which a peer with uploads counts as stalled.
STALLED_RATE = 1024.0
_MAX_HOLDER_LABELS = 12


class PeerRow(NamedTuple):
    """One online peer.

    Attributes:
        key: the peer's id.
        label: the user name, with the port if the user has several peers.
        online_since, last_ping: server_time.
        late: its ping is overdue.
        stalled: it has uploads and sends almost nothing.
    """

    key: str
    user: str
    address: str
    label: str
    online_since: float
    last_ping: float
    files: int
    load: Load
    late: bool
    stalled: bool


class FileRow(NamedTuple):
    """One version of a name.

    Attributes:
        holders, partial: number of complete and of partial copies.
        version: number of this version among the `versions` of the name in the list, from 1.
        complete_at, partial_at: indexes of its holders in `Snapshot.pictured`.
        holder_labels: labels of the first holders.
    """

    name: str
    id: str
    size: int
    holders: int
    partial: int
    version: int
    versions: int
    complete_at: Sequence[int]
    partial_at: Sequence[int]
    holder_labels: Sequence[str]


@dataclass(frozen=True)
class Snapshot:
    """Everything on the dashboard except the list of files.

    Attributes:
        version: the tracker's version.
        started: server_time at which the tracker started.
        peers: rows of the table, at most MAX_TABLED, by user.
        pictured: peers of the graph, at most MAX_PICTURED; the busiest if there are more.
        uploads, downloads: sums over all peers.
        rate: bytes per second, summed over all peers.
        late, stalled: number of such peers.
        error_counts: number of each of the ERROR_EVENTS in the last 24 hours.
    """

    version: str
    started: float
    totals: Totals
    single_copies: SingleCopies
    peers: Sequence[PeerRow]
    pictured: Sequence[PeerRow]
    uploads: int
    downloads: int
    rate: float
    late: int
    stalled: int
    error_counts: Counter[str]
    errors: Sequence[ActivityLine]
    placements: Sequence[ActivityLine]
    activity: Sequence[ActivityLine]
    dots: Sequence[Dot]
    arrows: Sequence[Arrow]


@dataclass(frozen=True)
class FileList:
    """The first rows of a search; `more` if the search found more than these."""

    match: str
    single_copy: bool
    rows: Sequence[FileRow]
    more: bool


def take_snapshot(tracker: Tracker, single_copies: SingleCopies, version: str, ping_interval: float) -> Snapshot:
    """Return the state of the network now.

    Args:
        single_copies: counted by the caller, who caches it.
        version: the tracker's version, to be shown.
        ping_interval: seconds between two pings of a peer.
    """
    now = tracker.server_time()
    peers = tracker.online_peers()
    # There may be tens of thousands: a row is made only for the peers that are shown.
    tabled = nsmallest(MAX_TABLED, peers, key=_by_user)
    pictured = tabled
    if len(peers) > MAX_PICTURED:
        pictured = sorted(nlargest(MAX_PICTURED, peers, key=_by_load), key=_by_user)
    peers_of_user = Counter(peer.session.user for peer in peers)
    rows = {peer.session.peer_id: _peer_row(peer, peers_of_user, now, ping_interval) for peer in (*tabled, *pictured)}
    labels = {row.address: row.label for row in rows.values()}
    pictured_rows = [rows[peer.session.peer_id] for peer in pictured]
    dots = graph_svg.place_dots([(row.address, row.label, row.files) for row in pictured_rows], truncated)
    dot_at = {dot.address: dot for dot in dots}
    log = tracker.activity
    last_day = log.count_last_day()
    return Snapshot(
        version=version,
        started=tracker.started,
        totals=tracker.totals(),
        single_copies=single_copies,
        peers=[rows[peer.session.peer_id] for peer in tabled],
        pictured=pictured_rows,
        uploads=sum(peer.load.uploads for peer in peers),
        downloads=sum(peer.load.downloads for peer in peers),
        rate=sum(peer.load.rate for peer in peers),
        late=sum(_is_late(peer, ping_interval) for peer in peers),
        stalled=sum(_is_stalled(peer.load) for peer in peers),
        error_counts=Counter({kind: last_day[kind] for kind in ERROR_EVENTS}),
        errors=recent_errors(log.events(), labels, now)[:MAX_ERRORS],
        placements=recent_placements(log, labels)[:MAX_PLACEMENTS],
        activity=recent_activity(log, labels)[:MAX_ACTIVITY],
        dots=dots,
        arrows=graph_svg.draw_arrows(transfer_edges(log, now, dot_at), dot_at),
    )


def list_files(tracker: Tracker, snapshot: Snapshot, match: str, single_copy: bool) -> FileList:
    """Return the first MAX_FILE_ROWS rows of a search.

    Args:
        match: pattern or part of a name; empty for all files.
        single_copy: only files with one complete copy.
    """
    if single_copy:
        found = tracker.single_copies(match, MAX_FILE_ROWS)
        listed, more = found.first, found.more
    else:
        listed, cursor = tracker.page(match, None, MAX_FILE_ROWS)
        more = cursor is not None
    versions = Counter(each.name for each in listed)
    version: Counter[str] = Counter()
    index_of = {peer.key: index for index, peer in enumerate(snapshot.pictured)}
    labels = {peer.key: peer.label for peer in snapshot.peers}
    rows = []
    for each, holders in zip(listed, tracker.some_holders([each.id for each in listed], MAX_PICTURED), strict=True):
        version[each.name] += 1
        pictured = [
            (index_of[holder.session.peer_id], holder.complete)
            for holder in holders
            if holder.session.peer_id in index_of
        ]
        holder_labels = [
            labels.get(holder.session.peer_id, holder.session.address) + ("" if holder.complete else " (partial)")
            for holder in holders
        ]
        rows.append(
            FileRow(
                name=each.name,
                id=each.id.hex(),
                size=each.size,
                holders=each.holders,
                partial=each.partial,
                version=version[each.name],
                versions=versions[each.name],
                complete_at=sorted(index for index, complete in pictured if complete),
                partial_at=sorted(index for index, complete in pictured if not complete),
                holder_labels=sorted(holder_labels)[:_MAX_HOLDER_LABELS],
            )
        )
    return FileList(match, single_copy, rows, more)


def _by_user(peer: OnlinePeer) -> tuple[str, str]:
    return peer.session.user, peer.session.address


def _by_load(peer: OnlinePeer) -> tuple[int, int]:
    return peer.load.uploads + peer.load.downloads, peer.files


def _is_late(peer: OnlinePeer, ping_interval: float) -> bool:
    return peer.last_seen > 1.5 * ping_interval


def _is_stalled(load: Load) -> bool:
    return load.uploads > 0 and load.rate < STALLED_RATE


def _peer_row(peer: OnlinePeer, peers_of_user: Mapping[str, int], now: float, ping_interval: float) -> PeerRow:
    user, address = peer.session.user, peer.session.address
    return PeerRow(
        key=peer.session.peer_id,
        user=user,
        address=address,
        label=user if peers_of_user[user] == 1 else f"{user} :{address.rpartition(':')[2]}",
        online_since=now - peer.online_for,
        last_ping=now - peer.last_seen,
        files=peer.files,
        load=peer.load,
        late=_is_late(peer, ping_interval),
        stalled=_is_stalled(peer.load),
    )
