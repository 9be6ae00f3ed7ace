"""Names in order, for listing and searching page by page. Knows nothing of peers; its owner holds the lock."""

import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Generic, TypeVar

from tracker.names import fold

T = TypeVar("T")

# A searcher asks itself whether it is tired after so many names; each takes some milliseconds at the worst.
DEADLINE_CHECK_INTERVAL = 16


class NameIndex(Generic[T]):
    """name -> id -> what the owner keeps for that version.

    A name with one version, which is nearly every name, costs no dict of its own.
    """

    def __init__(self) -> None:
        self._names: dict[str, tuple[bytes, T] | dict[bytes, T]] = {}
        self._ordered: Sequence[str] = ()
        self._added: list[str] = []
        self._removed = False
        self.count = 0

    def add(self, name: str, file_id: bytes, item: T) -> None:
        """Put in a version that is not here."""
        self.count += 1
        kept = self._names.get(name)
        if kept is None:
            self._names[name] = (file_id, item)
            self._added.append(name)
        elif isinstance(kept, tuple):
            self._names[name] = {kept[0]: kept[1], file_id: item}
        else:
            kept[file_id] = item

    def remove(self, name: str, file_id: bytes) -> None:
        """Take out a version that is here."""
        self.count -= 1
        kept = self._names[name]
        if isinstance(kept, dict):
            del kept[file_id]
            if kept:
                return
        del self._names[name]
        self._removed = True

    def versions(self, name: str) -> Collection[T]:
        """What is kept for each version of the name."""
        kept = self._names.get(name)
        if kept is None:
            return ()
        return (kept[1],) if isinstance(kept, tuple) else kept.values()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def names_in_order(self) -> Sequence[str]:
        """All names, ordered. The list is never changed afterwards, so it may be read without the lock."""
        if self._removed or self._added:
            # Sorting what is nearly sorted takes little more than a walk through it.
            kept = [name for name in self._ordered if name in self._names] if self._removed else list(self._ordered)
            if self._added:
                kept += [name for name in self._added if name in self._names]
                kept.sort()
                # A name that went and came back is there twice.
                kept = list(dict.fromkeys(kept))
            self._ordered, self._added, self._removed = kept, [], False
        return self._ordered

    @staticmethod
    def matching(
        names: Sequence[str], match: str, start: str | None, timed_out: Callable[[], bool]
    ) -> Iterator[tuple[str, bool]]:
        """Of the names in order, from the start on, those that match, each with True.

        When the searcher is tired, the name where it stopped comes last, with False.
        """
        accepts = compile_pattern(match)
        begin = bisect_left(names, start) if start is not None else 0
        for at in range(begin, len(names)):
            if accepts is None or accepts(names[at]):
                yield names[at], True
            elif (at - begin) % DEADLINE_CHECK_INTERVAL == DEADLINE_CHECK_INTERVAL - 1 and timed_out():
                yield names[at], False
                return


def compile_pattern(match: str) -> Callable[[str], bool] | None:
    """Judge of names: a case-insensitive part, or with * and ? a pattern over the whole name; None if all are good."""
    if not match:
        return None
    wanted = fold(match)
    if "*" not in wanted and "?" not in wanted:
        return lambda name: wanted in fold(name)
    pieces = re.split(r"\*+", wanted)
    return lambda name: _fits(fold(name), pieces)


def _fits(name: str, pieces: list[str]) -> bool:
    """Whether the name is the pieces in order with anything between them; ? in a piece is any one character.

    Each piece is taken at its first fit, so the time is bounded by name times pattern whatever the pattern: a regular
    expression could be made to backtrack for hours.
    """
    first, *rest = pieces
    if not rest:
        return len(name) == len(first) and _at(name, 0, first)
    *middle, last = rest
    if len(name) < len(first) + len(last) or not _at(name, 0, first) or not _at(name, len(name) - len(last), last):
        return False
    at, end = len(first), len(name) - len(last)
    for piece in middle:
        while at + len(piece) <= end and not _at(name, at, piece):
            at += 1
        if at + len(piece) > end:
            return False
        at += len(piece)
    return True


def _at(name: str, at: int, piece: str) -> bool:
    if "?" not in piece:
        return name.startswith(piece, at)
    return all(wanted in ("?", got) for wanted, got in zip(piece, name[at : at + len(piece)], strict=True))
