"""Shows the progress of a transfer without a terminal: a line now and then, or nothing. `rich_output` has the bar."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from common import formatting
from common.control_messages import Phase, Progress

_LINE_INTERVAL = 10.0


class ProgressView(Protocol):
    """A display of one transfer; `show` is called a few times a second."""

    def show(self, progress: Progress) -> None:
        """Display the current progress."""


class NoProgress:
    """Displays nothing: for --json and --quiet."""

    def show(self, progress: Progress) -> None:
        """Do nothing."""


class PlainLines:
    """Writes a line every 10 s: for a log or a pipe."""

    def __init__(
        self, verb: str, write_line: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Make a view.

        Args:
            verb: What the phase MOVING is called: "downloading", "uploading".
            write_line: Writes one line.
            clock: Seconds.
        """
        self._verb = verb
        self._write_line = write_line
        self._clock = clock
        self._last = clock()

    def show(self, progress: Progress) -> None:
        """Write a line if 10 s passed since the last one."""
        if self._clock() - self._last >= _LINE_INTERVAL:
            self._last = self._clock()
            self._write_line(as_line(self._verb, progress))


def phase_label(verb: str, progress: Progress) -> str:
    """The words for a phase; `verb` is that of `PlainLines`."""
    return {
        Phase.COPYING: "copying into the shared folder",
        Phase.HASHING: "reading and hashing",
        Phase.MOVING: verb,
        Phase.QUEUED: "queued (same file already transferring)",
        Phase.WAITING: "waiting for peers",
        Phase.PUBLISHING: "writing to disk",
    }.get(progress.phase, progress.phase.value)


def as_line(verb: str, progress: Progress) -> str:
    """One line with name, phase, percentage, files, rate, time left and peers; `verb` is that of `PlainLines`."""
    label = phase_label(verb, progress)
    parts = [f"{progress.name}: {label}" if progress.name else label]
    if progress.total:
        parts.append(f"{formatting.percent(progress.done, progress.total)} % of {formatting.size(progress.total)}")
    if progress.files_total > 1:
        parts.append(f"{progress.files_done:,} of {formatting.pluralise(progress.files_total, 'file')}")
    if progress.rate > 0:
        parts.append(formatting.rate(progress.rate))
        parts.append(f"{formatting.remaining(progress.done, progress.total, progress.rate)} left")
    if progress.sources:
        parts.append(formatting.pluralise(sum(source.state == "active" for source in progress.sources), "peer"))
    return ", ".join(parts)


def source_problems(progress: Progress) -> list[str]:
    """A phrase for each stalled or dropped source, with the reason."""
    return [
        f"{source.address} {source.state}" + (f": {source.reason}" if source.reason else "")
        for source in progress.sources
        if source.state in {"stalled", "dropped"}
    ]
