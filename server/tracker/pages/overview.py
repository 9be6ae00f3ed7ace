"""What the page shows, gathered from the tracker as plain values. Knows neither HTTP nor HTML."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tracker.model import Listed, Load, PeerView, Scarce, Totals
from tracker.pages import ring
from tracker.pages.figures import shortened
from tracker.pages.lately import FAILURES, Line, failures_of, lines_of
from tracker.pages.ring import Arrow, Dot, Feed
from tracker.service import Tracker

ROWS = 200
# More peers than these make no picture; the table lists a few more.
PICTURED, TABLED = 60, 200
LINES, FAILURE_LINES = 14, 8
FRESH, RECENT, LATELY = 60.0, 600.0, 3600.0
# A sender below this moves nothing worth the name.
STALLED_RATE = 1024.0
_NAMED = 12
# The picture of more feeds than these is a ball of wool.
ARROWS = 36


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
    scarce: Scarce
    peers: Sequence[Peer]
    pictured: Sequence[Peer]
    uploads: int
    downloads: int
    rate: float
    late: int
    stalled: int
    failed: Counter[str]
    failures: Sequence[Line]
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


def gather_world(tracker: Tracker, scarce: Scarce, version: str, ping_interval: float) -> World:
    """What there is now."""
    now = tracker.server_time()
    views = sorted(tracker.peers(), key=lambda view: (view.session.user, view.session.url))
    peers = _peers(views, now, ping_interval)
    pictured = peers
    if len(peers) > PICTURED:
        busiest = sorted(peers, key=lambda p: (p.load.uploads + p.load.downloads, p.files), reverse=True)[:PICTURED]
        chosen = {peer.key for peer in busiest}
        pictured = [peer for peer in peers if peer.key in chosen]
    labels = {peer.url: peer.label for peer in peers}
    dots = ring.dots([(peer.url, peer.label, peer.files) for peer in pictured], shortened)
    journal = tracker.journal
    today = journal.today()
    return World(
        version=version,
        started=tracker.started,
        totals=tracker.totals(),
        scarce=scarce,
        peers=peers[:TABLED],
        pictured=pictured,
        uploads=sum(peer.load.uploads for peer in peers),
        downloads=sum(peer.load.downloads for peer in peers),
        rate=sum(peer.load.rate for peer in peers),
        late=sum(peer.late for peer in peers),
        stalled=sum(peer.stalled for peer in peers),
        failed=Counter({kind: today[kind] for kind in FAILURES}),
        failures=failures_of(journal.happenings(), labels, now)[:FAILURE_LINES],
        lines=lines_of(journal, labels)[:LINES],
        dots=dots,
        arrows=ring.arrows(_feeds(tracker, now), {dot.url: dot for dot in dots}),
    )


def gather_files(tracker: Tracker, world: World, match: str, once: bool) -> Files:
    """The first of the files that match; with `once` those that one peer only holds whole."""
    if once:
        found = tracker.scarce(match, ROWS)
        rows, more = found.first, found.more
    else:
        rows, more = tracker.page(match, None, ROWS)
    versions = Counter(row.name for row in rows)
    nth: Counter[str] = Counter()
    places = {peer.key: at for at, peer in enumerate(world.pictured)}
    labels = {peer.key: peer.label for peer in world.peers}
    files = []
    for row in rows:
        nth[row.name] += 1
        files.append(_file(tracker, row, nth[row.name], versions[row.name], places, labels))
    return Files(match, once, files, more)


def _peers(views: Sequence[PeerView], now: float, ping_interval: float) -> list[Peer]:
    of_user = Counter(view.session.user for view in views)
    return [
        Peer(
            key=view.session.peer_id,
            user=view.session.user,
            url=view.session.url,
            label=_label(view, of_user),
            since=now - view.alive_for,
            seen=now - view.last_seen,
            files=view.files,
            load=view.load,
            late=view.last_seen > 1.5 * ping_interval,
            stalled=view.load.uploads > 0 and view.load.rate < STALLED_RATE,
        )
        for view in views
    ]


def _label(view: PeerView, of_user: Mapping[str, int]) -> str:
    user = view.session.user
    return user if of_user[user] == 1 else f"{user} :{view.session.url.rpartition(':')[2]}"


def _file(
    tracker: Tracker, row: Listed, nth: int, versions: int, places: Mapping[str, int], labels: Mapping[str, str]
) -> File:
    holders = tracker.some_holders(row.id, PICTURED)
    at = [(places.get(h.session.peer_id), h.complete) for h in holders]
    names = [labels.get(h.session.peer_id, h.session.url) + ("" if h.complete else " (in part)") for h in holders]
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


def _feeds(tracker: Tracker, now: float) -> list[Feed]:
    """Who fed whom: copies placed, and what was fetched, in equal shares, from whoever had it."""
    pairs: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for placement in tracker.journal.placements():
        pairs.setdefault((placement.asker, placement.target), []).append((placement.at, 1.0))
    for fetch in tracker.journal.fetches():
        for holder in fetch.holders:
            pairs.setdefault((holder, fetch.asker), []).append((fetch.at, 1 / len(fetch.holders)))
    age = _age_at(now)
    feeds = [
        Feed(source, target, len(times), sum(share for _, share in times), age(max(times)[0]))
        for (source, target), times in pairs.items()
        if now - max(times)[0] < LATELY
    ]
    return sorted(feeds, key=lambda feed: (feed.age == "old", -feed.share, feed.source, feed.target))[:ARROWS]


def _age_at(now: float) -> Callable[[float], str]:
    return lambda at: "fresh" if now - at < FRESH else "recent" if now - at < RECENT else "old"
