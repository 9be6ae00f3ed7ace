"""What the page shows, gathered from the tracker as plain values. Knows neither HTTP nor HTML."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest, nsmallest
from typing import NamedTuple

from tracker.dashboard import graph_svg
from tracker.dashboard.activity import FAILURES, Line, failures_of, lines_of, placed_of
from tracker.dashboard.formatting import shortened
from tracker.dashboard.graph_svg import Arrow, Dot
from tracker.dashboard.transfer_edges import feeds
from tracker.models import ListedVersion, Load, OnlinePeer, SingleCopies, Totals
from tracker.service import Tracker

ROWS = 200
# More peers than these make no picture; the table lists a few more.
PICTURED, TABLED = 60, 200
LINES, PLACED_LINES, FAILURE_LINES = 10, 6, 8
# A sender below this moves nothing worth the name.
STALLED_RATE = 1024.0
_NAMED = 12


class Peer(NamedTuple):
    """A live peer; times are server_time. `late`: a ping is overdue. `stalled`: it sends, and nothing moves."""

    key: str
    user: str
    url: str
    label: str
    since: float
    seen: float
    files: int
    load: Load
    late: bool
    stalled: bool


class File(NamedTuple):
    """A version of a name. `whole` and `partial` are places in the picture; `names` are labels of who holds it."""

    name: str
    id: str
    size: int
    holders: int
    partial: int
    version: int
    versions: int
    whole_at: Sequence[int]
    part_at: Sequence[int]
    names: Sequence[str]


@dataclass(frozen=True)
class World:
    """Everything but the list of files."""

    version: str
    started: float
    totals: Totals
    scarce: SingleCopies
    peers: Sequence[Peer]
    pictured: Sequence[Peer]
    uploads: int
    downloads: int
    rate: float
    late: int
    stalled: int
    failed: Counter[str]
    failures: Sequence[Line]
    placed: Sequence[Line]
    lines: Sequence[Line]
    dots: Sequence[Dot]
    arrows: Sequence[Arrow]


@dataclass(frozen=True)
class Files:
    """A list of files."""

    match: str
    once: bool
    rows: Sequence[File]
    more: bool


def gather_world(tracker: Tracker, scarce: SingleCopies, version: str, ping_interval: float) -> World:
    """What there is now."""
    now = tracker.server_time()
    views = tracker.online_peers()
    # Of tens of thousands only those that are shown are looked at closely.
    tabled = nsmallest(TABLED, views, key=_by_user)
    pictured = tabled if len(views) <= PICTURED else sorted(nlargest(PICTURED, views, key=_busy), key=_by_user)
    of_user = Counter(view.session.user for view in views)
    shown = {view.session.peer_id: _peer(view, of_user, now, ping_interval) for view in (*tabled, *pictured)}
    labels = {peer.url: peer.label for peer in shown.values()}
    in_picture = [shown[view.session.peer_id] for view in pictured]
    dots = graph_svg.dots([(peer.url, peer.label, peer.files) for peer in in_picture], shortened)
    placed = {dot.url: dot for dot in dots}
    journal = tracker.activity
    today = journal.count_last_day()
    return World(
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
        failures=failures_of(journal.events(), labels, now)[:FAILURE_LINES],
        placed=placed_of(journal, labels)[:PLACED_LINES],
        lines=lines_of(journal, labels)[:LINES],
        dots=dots,
        arrows=graph_svg.arrows(feeds(tracker.activity, now, placed), placed),
    )


def gather_files(tracker: Tracker, world: World, match: str, once: bool) -> Files:
    """The first of the files that match; with `once` those that one peer only holds whole."""
    if once:
        found = tracker.single_copies(match, ROWS)
        rows, more = found.first, found.more
    else:
        rows, place = tracker.page(match, None, ROWS)
        more = place is not None
    versions = Counter(row.name for row in rows)
    nth: Counter[str] = Counter()
    places = {peer.key: at for at, peer in enumerate(world.pictured)}
    labels = {peer.key: peer.label for peer in world.peers}
    files = []
    for row in rows:
        nth[row.name] += 1
        files.append(_file(tracker, row, nth[row.name], versions[row.name], places, labels))
    return Files(match, once, files, more)


def _by_user(view: OnlinePeer) -> tuple[str, str]:
    return view.session.user, view.session.address


def _busy(view: OnlinePeer) -> tuple[int, int]:
    return view.load.uploads + view.load.downloads, view.files


def _is_late(view: OnlinePeer, ping_interval: float) -> bool:
    return view.last_seen > 1.5 * ping_interval


def _is_stalled(load: Load) -> bool:
    return load.uploads > 0 and load.rate < STALLED_RATE


def _peer(view: OnlinePeer, of_user: Mapping[str, int], now: float, ping_interval: float) -> Peer:
    return Peer(
        key=view.session.peer_id,
        user=view.session.user,
        url=view.session.address,
        label=_label(view, of_user),
        since=now - view.online_for,
        seen=now - view.last_seen,
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
) -> File:
    holders = tracker.some_holders(row.id, PICTURED)
    at = [(places.get(h.session.peer_id), h.complete) for h in holders]
    names = [labels.get(h.session.peer_id, h.session.address) + ("" if h.complete else " (in part)") for h in holders]
    return File(
        row.name,
        row.id.hex(),
        row.size,
        row.holders,
        row.partial,
        nth,
        versions,
        sorted(place for place, complete in at if place is not None and complete),
        sorted(place for place, complete in at if place is not None and not complete),
        sorted(names)[:_NAMED],
    )
