"""What the page shows, gathered from the tracker as plain values. Knows neither HTTP nor HTML."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest, nsmallest
from typing import NamedTuple

from tracker.dashboard import graph_svg
from tracker.dashboard.activity import FAILURES, ActivityLine, recent_activity, recent_failures, recent_placements
from tracker.dashboard.formatting import truncated
from tracker.dashboard.graph_svg import Arrow, Dot
from tracker.dashboard.transfer_edges import transfer_edges
from tracker.models import ListedVersion, Load, OnlinePeer, SingleCopies, Totals
from tracker.service import Tracker

MAX_FILE_ROWS = 200
# More peers than these make no picture; the table lists a few more.
MAX_PICTURED, MAX_TABLED = 60, 200
MAX_ACTIVITY, MAX_PLACEMENTS, MAX_FAILURES = 10, 6, 8
# A sender below this moves nothing worth the name.
STALLED_RATE = 1024.0
_MAX_HOLDER_LABELS = 12


class PeerRow(NamedTuple):
    """A live peer; times are server_time. `late`: a ping is overdue. `stalled`: it sends, and nothing moves."""

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
    """A version of a name. `whole` and `partial` are places in the picture; `names` are labels of who holds it."""

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
    """Everything but the list of files."""

    version: str
    started: float
    totals: Totals
    scarce: SingleCopies
    peers: Sequence[PeerRow]
    pictured: Sequence[PeerRow]
    uploads: int
    downloads: int
    rate: float
    late: int
    stalled: int
    failed: Counter[str]
    failures: Sequence[ActivityLine]
    placed: Sequence[ActivityLine]
    activity: Sequence[ActivityLine]
    dots: Sequence[Dot]
    arrows: Sequence[Arrow]


@dataclass(frozen=True)
class FileList:
    """A list of files."""

    match: str
    single_copy: bool
    rows: Sequence[FileRow]
    more: bool


def take_snapshot(tracker: Tracker, scarce: SingleCopies, version: str, ping_interval: float) -> Snapshot:
    """What there is now."""
    now = tracker.server_time()
    views = tracker.online_peers()
    # Of tens of thousands only those that are shown are looked at closely.
    tabled = nsmallest(MAX_TABLED, views, key=_by_user)
    pictured = (
        tabled if len(views) <= MAX_PICTURED else sorted(nlargest(MAX_PICTURED, views, key=_by_load), key=_by_user)
    )
    of_user = Counter(view.session.user for view in views)
    shown = {view.session.peer_id: _peer(view, of_user, now, ping_interval) for view in (*tabled, *pictured)}
    labels = {peer.address: peer.label for peer in shown.values()}
    in_picture = [shown[view.session.peer_id] for view in pictured]
    dots = graph_svg.place_dots([(peer.address, peer.label, peer.files) for peer in in_picture], truncated)
    placed = {dot.address: dot for dot in dots}
    journal = tracker.activity
    today = journal.count_last_day()
    return Snapshot(
        version=version,
        started=tracker.started,
        totals=tracker.totals(),
        scarce=scarce,
        peers=[shown[view.session.peer_id] for view in tabled],
        pictured=in_picture,
        uploads=sum(view.load.uploads for view in views),
        downloads=sum(view.load.downloads for view in views),
        rate=sum(view.load.rate for view in views),
        late=sum(_is_late(view, ping_interval) for view in views),
        stalled=sum(_is_stalled(view.load) for view in views),
        failed=Counter({kind: today[kind] for kind in FAILURES}),
        failures=recent_failures(journal.events(), labels, now)[:MAX_FAILURES],
        placed=recent_placements(journal, labels)[:MAX_PLACEMENTS],
        activity=recent_activity(journal, labels)[:MAX_ACTIVITY],
        dots=dots,
        arrows=graph_svg.draw_arrows(transfer_edges(tracker.activity, now, placed), placed),
    )


def list_files(tracker: Tracker, snapshot: Snapshot, match: str, single_copy: bool) -> FileList:
    """The first of the files that match; with `once` those that one peer only holds whole."""
    if single_copy:
        found = tracker.single_copies(match, MAX_FILE_ROWS)
        rows, more = found.first, found.more
    else:
        rows, place = tracker.page(match, None, MAX_FILE_ROWS)
        more = place is not None
    versions = Counter(row.name for row in rows)
    nth: Counter[str] = Counter()
    places = {peer.key: at for at, peer in enumerate(snapshot.pictured)}
    labels = {peer.key: peer.label for peer in snapshot.peers}
    files = []
    for row in rows:
        nth[row.name] += 1
        files.append(_file(tracker, row, nth[row.name], versions[row.name], places, labels))
    return FileList(match, single_copy, files, more)


def _by_user(view: OnlinePeer) -> tuple[str, str]:
    return view.session.user, view.session.address


def _by_load(view: OnlinePeer) -> tuple[int, int]:
    return view.load.uploads + view.load.downloads, view.files


def _is_late(view: OnlinePeer, ping_interval: float) -> bool:
    return view.last_seen > 1.5 * ping_interval


def _is_stalled(load: Load) -> bool:
    return load.uploads > 0 and load.rate < STALLED_RATE


def _peer(view: OnlinePeer, of_user: Mapping[str, int], now: float, ping_interval: float) -> PeerRow:
    return PeerRow(
        key=view.session.peer_id,
        user=view.session.user,
        address=view.session.address,
        label=_label(view, of_user),
        online_since=now - view.online_for,
        last_ping=now - view.last_seen,
        files=view.files,
        load=view.load,
        late=_is_late(view, ping_interval),
        stalled=_is_stalled(view.load),
    )


def _label(view: OnlinePeer, of_user: Mapping[str, int]) -> str:
    user = view.session.user
    return user if of_user[user] == 1 else f"{user} :{view.session.address.rpartition(':')[2]}"


def _file(
    tracker: Tracker, row: ListedVersion, nth: int, versions: int, places: Mapping[str, int], labels: Mapping[str, str]
) -> FileRow:
    holders = tracker.some_holders(row.id, MAX_PICTURED)
    at = [(places.get(h.session.peer_id), h.complete) for h in holders]
    names = [labels.get(h.session.peer_id, h.session.address) + ("" if h.complete else " (in part)") for h in holders]
    return FileRow(
        row.name,
        row.id.hex(),
        row.size,
        row.holders,
        row.partial,
        nth,
        versions,
        sorted(place for place, complete in at if place is not None and complete),
        sorted(place for place, complete in at if place is not None and not complete),
        sorted(names)[:_MAX_HOLDER_LABELS],
    )
