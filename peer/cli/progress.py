"""How a transfer is followed where there is no terminal: a line now and then, or nothing. The bar is in pictures.py."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from cli import formatting
from cli.models import Progress

_EVERY = 10.0


class ProgressView(Protocol):
    """Whatever shows where a transfer stands; `show` is called a few times a second."""

    def show(self, progress: Progress) -> None:
        """The transfer stands there now."""


class NoProgress:
    """For --json and --quiet."""

    def show(self, progress: Progress) -> None:
        """Nobody looks."""


class PlainLines:
    """For a log or a pipe: one line every 10 s."""

    def __init__(self, verb: str, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        """`verb` says what moving means: `downloading`, `uploading`."""
        self._verb = verb
        self._tell = tell
        self._clock = clock
        self._last = clock()

    def show(self, progress: Progress) -> None:
        """A line, if the last one is long enough ago."""
        if self._clock() - self._last >= _EVERY:
            self._last = self._clock()
            self._tell(as_line(self._verb, progress))


def phase_label(verb: str, progress: Progress) -> str:
    """What a phase is called."""
    return {
        "preparing": "preparing",
        "copying": "copying into the shared folder",
        "hashing": "reading and hashing",
        "moving": verb,
        "queued": "waiting for another transfer of the same file",
        "waiting": "waiting for a holder",
        "publishing": "writing to disk",
    }.get(progress.phase, progress.phase)


def as_line(verb: str, progress: Progress) -> str:
    """All of it in one line: name, phase, how much, how fast, how long still, from how many."""
    parts = [f"{progress.name}: {phase_label(verb, progress)}" if progress.name else phase_label(verb, progress)]
    if progress.total:
        parts.append(f"{formatting.percent(progress.done, progress.total)} % of {formatting.size(progress.total)}")
    if progress.files_total > 1:
        parts.append(f"{progress.files_done:,} of {formatting.pluralise(progress.files_total, 'file')}")
    if progress.rate > 0:
        parts.append(formatting.rate(progress.rate))
        parts.append(f"{formatting.remaining(progress.done, progress.total, progress.rate)} left")
    if progress.sources:
        parts.append(formatting.pluralise(sum(source.state == "active" for source in progress.sources), "holder"))
    return ", ".join(parts)


def source_problems(progress: Progress) -> list[str]:
    """A phrase for each peer at the other end that gives nothing, with the reason."""
    return [
        f"{source.url} {source.state}" + (f": {source.why}" if source.why else "")
        for source in progress.sources
        if source.state in {"stalled", "dropped"}
    ]
