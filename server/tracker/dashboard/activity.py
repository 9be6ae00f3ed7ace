"""The tracker's activity log, prepared for display: lines with similar events merged, and edges of the network graph.

Reads the log and changes nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from tracker.activity_log import ActivityLog, LoggedEvent

ERROR_EVENTS = ("failed", "reported", "expired", "login_refused", "login_delayed", "password_refused")
# A graph with more edges cannot be read.
MAX_EDGES = 36
# Seconds: an edge fades at the first two ages and disappears at the third.
FRESH_AGE, RECENT_AGE, MAX_EDGE_AGE = 60.0, 600.0, 3600.0

_SHOWN_EVENTS = ("registered", "login", "logout", "left", "moved", "password_changed")
# Seconds between two similar events that one line stands for.
_MERGE_SECONDS = 120.0
_DAY_SECONDS = 86400.0
_MAX_LABELS = 3


class ActivityLine(NamedTuple):
    """One line of the dashboard; the template has the words for each `kind`.

    Attributes:
        time: server_time of the newest event of the line.
        subject: label of the peer or user that acted.
        name: the file.
        detail: the other peer, an address or the source of a login, depending on `kind`.
        repeats: number of similar events that the line stands for.
    """

    time: float
    kind: str
    subject: str = ""
    name: str = ""
    detail: str = ""
    reason: str = ""
    repeats: int = 1


class TransferEdge(NamedTuple):
    """Transfers between two addresses within the last hour.

    Attributes:
        weight: number of transfers; a download from n holders counts 1/n for each.
        age: `fresh`, `recent` or `old`, by the newest transfer.
    """

    source: str
    target: str
    transfers: int
    weight: float
    age: str


def recent_placements(log: ActivityLog, labels: Mapping[str, str]) -> list[ActivityLine]:
    """Return the receivers that the tracker chose, and why; newest first.

    Args:
        labels: text for each address that has one; other addresses are shown themselves.
    """
    return _merge_similar(
        [
            ActivityLine(
                each.at,
                "placed",
                labels.get(each.uploader, each.uploader),
                each.name,
                labels.get(each.receiver, each.receiver),
                each.why,
            )
            for each in log.placements()
        ]
    )


def recent_activity(log: ActivityLog, labels: Mapping[str, str]) -> list[ActivityLine]:
    """Return downloads, logins, logouts and account changes; newest first."""

    def label(address: str) -> str:
        return labels.get(address, address)

    fetches = log.fetches()
    complete = {(fetch.requester, fetch.id) for fetch in fetches if fetch.complete}
    lines = [
        ActivityLine(
            fetch.at,
            "fetched" if fetch.complete else "fetching",
            label(fetch.requester),
            fetch.name,
            _join_labels([label(holder) for holder in fetch.holders]),
        )
        for fetch in fetches
        if fetch.complete or (fetch.requester, fetch.id) not in complete
    ]
    for event in log.events():
        if event.event in _SHOWN_EVENTS:
            address = event.details.get("address", "")
            subject = event.details.get("user") or label(address)
            lines.append(ActivityLine(event.at, event.event, subject, detail=address))
    return _merge_similar(lines)


def recent_errors(events: Sequence[LoggedEvent], labels: Mapping[str, str], now: float) -> list[ActivityLine]:
    """Return the ERROR_EVENTS of the last 24 hours; newest first."""
    recent = [event for event in events if event.event in ERROR_EVENTS and now - event.at <= _DAY_SECONDS]
    return _merge_similar([_error_line(event, labels) for event in recent])


def transfer_edges(log: ActivityLog, now: float, addresses: Collection[str]) -> list[TransferEdge]:
    """Return the edges between `addresses`, newest and heaviest first.

    The source of a download is not known exactly: all holders at that time share its weight equally. The fewer
    addresses there are, the fewer edges can be distinguished, so there are at most twice as many edges.
    """
    pairs: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for placement in log.placements():
        pairs.setdefault((placement.uploader, placement.receiver), []).append((placement.at, 1.0))
    for fetch in log.fetches():
        for holder in fetch.holders:
            pairs.setdefault((holder, fetch.requester), []).append((fetch.at, 1 / len(fetch.holders)))
    edges = [
        TransferEdge(source, target, len(times), sum(weight for _, weight in times), _age_class(now - max(times)[0]))
        for (source, target), times in pairs.items()
        if now - max(times)[0] < MAX_EDGE_AGE and source in addresses and target in addresses
    ]
    edges.sort(key=lambda edge: (edge.age == "old", -edge.weight, edge.source, edge.target))
    return edges[: min(MAX_EDGES, 2 * len(addresses))]


def _error_line(event: LoggedEvent, labels: Mapping[str, str]) -> ActivityLine:
    details = event.details
    address = details.get("address", "")
    match event.event:
        case "login_refused" | "login_delayed" | "password_refused":
            # An unknown user name may be a password that was typed into the wrong field: never shown.
            user = details.get("user", "") if details.get("known") == "True" else ""
            return ActivityLine(event.at, event.event, user, detail=details.get("source", ""))
        case "reported":
            reporter = labels.get(details.get("by", ""), "")
            subject = labels.get(address, address)
            return ActivityLine(event.at, event.event, subject, detail=reporter, reason=details.get("reason", ""))
        case "failed":
            return ActivityLine(event.at, event.event, reason=details.get("route", ""))
        case _:
            return ActivityLine(event.at, event.event, details.get("user", ""), detail=address)


def _join_labels(labels: Sequence[str]) -> str:
    more = len(labels) - _MAX_LABELS
    return ", ".join(labels[:_MAX_LABELS]) + (f" and {more} more" if more > 0 else "")


def _merge_similar(lines: list[ActivityLine]) -> list[ActivityLine]:
    """Sort lines, newest first, and merge those of one kind, subject and detail that follow one another closely."""
    lines.sort(key=lambda line: line.time, reverse=True)
    latest: dict[tuple[str, str, str], int] = {}
    oldest: dict[int, float] = {}
    merged: list[ActivityLine] = []
    for line in lines:
        key = (line.kind, line.subject, line.detail)
        index = latest.get(key)
        if index is not None and oldest[index] - line.time < _MERGE_SECONDS:
            merged[index] = merged[index]._replace(repeats=merged[index].repeats + 1)
            oldest[index] = line.time
            continue
        latest[key] = len(merged)
        oldest[len(merged)] = line.time
        merged.append(line)
    return merged


def _age_class(seconds: float) -> str:
    return "fresh" if seconds < FRESH_AGE else "recent" if seconds < RECENT_AGE else "old"
