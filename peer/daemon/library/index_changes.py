"""What the announcer reads from the library: all index entries, or what changed between two revisions. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import merge
from typing import NamedTuple

from daemon.models import IndexEntry
from daemon.runtime.batches import batched

# Entries that are sorted in one step of C code, during which no other thread runs.
_SORTED_AT_ONCE = 10_000


class EntryKey(NamedTuple):
    """The name and the id of an index entry."""

    name: str
    id: str


@dataclass(frozen=True, slots=True)
class Changes:
    """The difference between two revisions of the library; `revision` is the later one."""

    revision: int
    added: tuple[IndexEntry, ...]
    removed: tuple[EntryKey, ...]


class Snapshot(NamedTuple):
    """All entries of the library at one revision, in order of names."""

    revision: int
    entries: list[IndexEntry]


def sorted_in_runs(entries: Sequence[IndexEntry]) -> list[IndexEntry]:
    """Return entries in order, without one long step of C code: the event loop would wait for it."""
    runs = [sorted(run) for run in batched(entries, _SORTED_AT_ONCE)]
    return list(merge(*runs)) if len(runs) > 1 else [entry for run in runs for entry in run]
