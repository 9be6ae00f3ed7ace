"""Who feeds whom lately, as far as the journal tells: for the arrows of the picture. Draws nothing."""

from collections.abc import Collection

from tracker.activity_log import ActivityLog
from tracker.dashboard.graph_svg import TransferEdge

FRESH_AGE, RECENT_AGE, MAX_AGE = 60.0, 600.0, 3600.0
# The picture of more feeds than these is a ball of wool.
MAX_EDGES = 36


def transfer_edges(journal: ActivityLog, now: float, peers: Collection[str]) -> list[TransferEdge]:
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
        TransferEdge(source, target, len(times), sum(share for _, share in times), _age(now - max(times)[0]))
        for (source, target), times in pairs.items()
        if now - max(times)[0] < MAX_AGE and source in peers and target in peers
    ]
    found.sort(key=lambda feed: (feed.age == "old", -feed.weight, feed.source, feed.target))
    return found[: min(MAX_EDGES, 2 * len(peers))]


def _age(seconds: float) -> str:
    return "fresh" if seconds < FRESH_AGE else "recent" if seconds < RECENT_AGE else "old"
