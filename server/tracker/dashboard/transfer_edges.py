"""Who feeds whom lately, as far as the journal tells: for the arrows of the picture. Draws nothing."""

from collections.abc import Collection

from tracker.activity_log import ActivityLog
from tracker.dashboard.graph_svg import Feed

FRESH, RECENT, LATELY = 60.0, 600.0, 3600.0
# The picture of more feeds than these is a ball of wool.
ARROWS = 36


def feeds(journal: ActivityLog, now: float, peers: Collection[str]) -> list[Feed]:
    """Copies placed, and what was fetched, in equal shares, from whoever had it: the latest and largest.

    Only between `peers`; the fewer they are, the fewer arrows can be told apart.
    """
    pairs: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for placement in journal.placements():
        pairs.setdefault((placement.uploader, placement.receiver), []).append((placement.at, 1.0))
    for fetch in journal.fetches():
        for holder in fetch.holders:
            pairs.setdefault((holder, fetch.requester), []).append((fetch.at, 1 / len(fetch.holders)))
    found = [
        Feed(source, target, len(times), sum(share for _, share in times), _age(now - max(times)[0]))
        for (source, target), times in pairs.items()
        if now - max(times)[0] < LATELY and source in peers and target in peers
    ]
    found.sort(key=lambda feed: (feed.age == "old", -feed.share, feed.source, feed.target))
    return found[: min(ARROWS, 2 * len(peers))]


def _age(seconds: float) -> str:
    return "fresh" if seconds < FRESH else "recent" if seconds < RECENT else "old"
