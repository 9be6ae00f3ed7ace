"""The tracker's journal as lines to read, like ones drawn together. Pure but for asking the journal."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tracker.activity_log import ActivityLog, LoggedEvent

FAILURES = ("failed", "reported", "expired", "login_refused", "login_delayed", "password_refused")
_SHOWN_EVENTS = ("registered", "login", "logout", "left", "password_changed")
# Like events within so many seconds are one line with a number.
_MERGE_SECONDS = 120.0
_DAY_SECONDS = 86400.0


class ActivityLine(NamedTuple):
    """One line. `kind` chooses its words in the template; `times` is how many it stands for."""

    time: float
    kind: str
    subject: str = ""
    name: str = ""
    detail: str = ""
    reason: str = ""
    repeats: int = 1


def recent_placements(journal: ActivityLog, labels: Mapping[str, str]) -> list[ActivityLine]:
    """Copies that found a place, and why there: newest first."""
    return _merge_similar(
        [
            ActivityLine(
                p.at, "placed", labels.get(p.uploader, p.uploader), p.name, labels.get(p.receiver, p.receiver), p.why
            )
            for p in journal.placements()
        ]
    )


def recent_activity(journal: ActivityLog, labels: Mapping[str, str]) -> list[ActivityLine]:
    """Contents fetched, peers come and gone: newest first."""

    def label(url: str) -> str:
        return labels.get(url, url)

    fetches = journal.fetches()
    done = {(f.requester, f.id) for f in fetches if f.complete}
    lines = [
        ActivityLine(
            f.at,
            "fetched" if f.complete else "fetching",
            label(f.requester),
            f.name,
            _join_labels([*map(label, f.holders)]),
        )
        for f in fetches
        if f.complete or (f.requester, f.id) not in done
    ]
    lines += [
        ActivityLine(
            h.at, h.event, h.details.get("user") or label(h.details.get("url", "")), detail=h.details.get("url", "")
        )
        for h in journal.events()
        if h.event in _SHOWN_EVENTS
    ]
    return _merge_similar(lines)


def recent_failures(happenings: Sequence[LoggedEvent], labels: Mapping[str, str], now: float) -> list[ActivityLine]:
    """What went wrong in the last day: newest first."""
    lines = []
    for h in happenings:
        if h.event not in FAILURES or now - h.at > _DAY_SECONDS:
            continue
        told = h.details
        url = told.get("url", "")
        match h.event:
            case "login_refused" | "login_delayed" | "password_refused":
                # A name that is no account's may be a password typed into the wrong field.
                line = ActivityLine(h.at, h.event, told.get("user", "") if told.get("known") == "True" else "")
                line = line._replace(detail=told.get("source", ""))
            case "reported":
                line = ActivityLine(h.at, h.event, labels.get(url, url), detail=labels.get(told.get("by", ""), ""))
                line = line._replace(reason=told.get("reason", ""))
            case "failed":
                line = ActivityLine(h.at, h.event, reason=told.get("route", ""))
            case _:
                line = ActivityLine(h.at, h.event, told.get("user", ""), detail=url)
        lines.append(line)
    return _merge_similar(lines)


def _join_labels(labels: Sequence[str]) -> str:
    return ", ".join(labels[:3]) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")


def _merge_similar(lines: list[ActivityLine]) -> list[ActivityLine]:
    lines.sort(key=lambda line: line.time, reverse=True)
    # The newest of its like, by what makes it alike; told once, with a number.
    latest: dict[tuple[str, str, str], int] = {}
    oldest: dict[int, float] = {}
    found: list[ActivityLine] = []
    for line in lines:
        like = (line.kind, line.subject, line.detail)
        at = latest.get(like)
        if at is not None and oldest[at] - line.time < _MERGE_SECONDS:
            found[at] = found[at]._replace(repeats=found[at].repeats + 1)
            oldest[at] = line.time
            continue
        latest[like] = len(found)
        oldest[len(found)] = line.time
        found.append(line)
    return found
