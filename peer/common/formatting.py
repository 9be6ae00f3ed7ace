"""Formats numbers and ids for the user. Pure."""

from __future__ import annotations

import time

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_SHORT_ID_DIGITS = 12


def size(count: float) -> str:
    """A number of bytes in units of 1024 with about three digits: `999 B`, `1.50 MiB`, `123 GiB`."""
    amount = max(0.0, float(count))
    for unit in _UNITS:
        if amount < 999.5 or unit == _UNITS[-1]:
            break
        amount /= 1024
    if unit == "B":
        return f"{amount:.0f} B"
    return (
        f"{amount:.2f} {unit}"
        if amount < 9.995
        else f"{amount:.1f} {unit}"
        if amount < 99.95
        else f"{amount:.0f} {unit}"
    )


def rate(per_second: float) -> str:
    """A rate in bytes per second: `1.50 MiB/s`."""
    return f"{size(per_second)}/s"


def percent(done: int, total: int) -> int:
    """The part that is done, 0 to 100, rounded down."""
    if total <= 0:
        return 0
    return min(100, 100 * done // total)


def duration(seconds: float) -> str:
    """A number of seconds: `0:07`, `12:03`, `3:04:05`."""
    hours, rest = divmod(int(max(0.0, seconds)), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def remaining(done: int, total: int, per_second: float) -> str:
    """The time left at a rate in bytes per second; `-:--` if it is unknown or over 100 hours."""
    if per_second <= 0 or total <= 0:
        return "-:--"
    left = (total - done) / per_second
    return duration(left + 0.5) if left < 360_000 else "-:--"


def ago(seconds: float) -> str:
    """A number of seconds in the past: `3 s ago`, `2:05 ago`."""
    return f"{seconds:.0f} s ago" if seconds < 120 else f"{duration(seconds)} ago"


def date(seconds: float) -> str:
    """The day of a time in Unix seconds, in this machine's time zone: `2026-11-30`."""
    return time.strftime("%Y-%m-%d", time.localtime(seconds))


def date_and_time(seconds: float) -> str:
    """A time in Unix seconds, in this machine's time zone: `2026-11-30 22:16:05`."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def short_id(id_: str) -> str:
    """The first 12 digits of an id, for tables."""
    return id_[:_SHORT_ID_DIGITS]


def pluralise(count: int, word: str) -> str:
    """`1 file`, `2,000 files`."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"
