"""The tracker's journal as lines to read, like ones drawn together. Pure but for asking the journal."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tracker.activity_log import ActivityLog, LoggedEvent

FAILURES = ("failed", "reported", "expired", "login_refused", "login_delayed", "password_refused")
_TOLD = ("registered", "login", "logout", "left", "password_changed")
# Like events within so many seconds are one line with a number.
_TOGETHER = 120.0
_TODAY = 86400.0


class Line(NamedTuple):
    """One line. `kind` chooses its words in the template; `times` is how many it stands for."""

    at: float
    kind: str
    who: str = ""
    name: str = ""
    other: str = ""
    why: str = ""
    times: int = 1


def placed_of(journal: ActivityLog, labels: Mapping[str, str]) -> list[Line]:
    """Copies that found a place, and why there: newest first."""
    return _together(
        [
            Line(p.at, "placed", labels.get(p.uploader, p.uploader), p.name, labels.get(p.receiver, p.receiver), p.why)
            for p in journal.placements()
        ]
    )


def lines_of(journal: ActivityLog, labels: Mapping[str, str]) -> list[Line]:
    """Contents fetched, peers come and gone: newest first."""

    def label(url: str) -> str:
        return labels.get(url, url)

    fetches = journal.fetches()
    done = {(f.requester, f.id) for f in fetches if f.complete}
    lines = [
        Line(f.at, "fetched" if f.complete else "fetching", label(f.requester), f.name, _some([*map(label, f.holders)]))
        for f in fetches
        if f.complete or (f.requester, f.id) not in done
    ]
    lines += [
        Line(h.at, h.event, h.details.get("user") or label(h.details.get("url", "")), other=h.details.get("url", ""))
        for h in journal.events()
        if h.event in _TOLD
    ]
    return _together(lines)


def failures_of(happenings: Sequence[LoggedEvent], labels: Mapping[str, str], now: float) -> list[Line]:
    """What went wrong in the last day: newest first."""
    lines = []
    for h in happenings:
        if h.event not in FAILURES or now - h.at > _TODAY:
            continue
        told = h.details
        url = told.get("url", "")
        match h.event:
            case "login_refused" | "login_delayed" | "password_refused":
                # A name that is no account's may be a password typed into the wrong field.
                line = Line(h.at, h.event, told.get("user", "") if told.get("known") == "True" else "")
                line = line._replace(other=told.get("source", ""))
            case "reported":
                line = Line(h.at, h.event, labels.get(url, url), other=labels.get(told.get("by", ""), ""))
                line = line._replace(why=told.get("reason", ""))
            case "failed":
                line = Line(h.at, h.event, why=told.get("route", ""))
            case _:
                line = Line(h.at, h.event, told.get("user", ""), other=url)
        lines.append(line)
    return _together(lines)


def _some(labels: Sequence[str]) -> str:
    return ", ".join(labels[:3]) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")


def _together(lines: list[Line]) -> list[Line]:
    lines.sort(key=lambda line: line.at, reverse=True)
    # The newest of its like, by what makes it alike; told once, with a number.
    latest: dict[tuple[str, str, str], int] = {}
    oldest: dict[int, float] = {}
    found: list[Line] = []
    for line in lines:
        like = (line.kind, line.who, line.other)
        at = latest.get(like)
        if at is not None and oldest[at] - line.at < _TOGETHER:
            found[at] = found[at]._replace(times=found[at].times + 1)
            oldest[at] = line.at
            continue
        latest[like] = len(found)
        oldest[len(found)] = line.at
        found.append(line)
    return found
