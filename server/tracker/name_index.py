"""Names in order, to list and search them in pages. Knows no peers; the caller holds the lock."""

import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Generic, TypeVar

from tracker.names import fold

T = TypeVar("T")

# Names between two checks of a search's deadline; a name takes some milliseconds at worst.
DEADLINE_CHECK_INTERVAL = 16


class NameIndex(Generic[T]):
    """name -> id -> an item of the caller.

    Nearly every name has one version and costs no dict of its own.
    """

    def __init__(self) -> None:
        self._names: dict[str, tuple[bytes, T] | dict[bytes, T]] = {}
        self._ordered: Sequence[str] = ()
        self._added: list[str] = []
        self._removed = False
        self.count = 0

    def add(self, name: str, file_id: bytes, item: T) -> None:
        """Add a version that is not in the index."""
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
        """Remove a version that is in the index."""
        self.count -= 1
        kept = self._names[name]
        if isinstance(kept, dict):
            del kept[file_id]
            if kept:
                return
        del self._names[name]
        self._removed = True

    def versions(self, name: str) -> Collection[T]:
        """Return the items of all versions of a name."""
        kept = self._names.get(name)
        if kept is None:
            return ()
        return (kept[1],) if isinstance(kept, tuple) else kept.values()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def names_in_order(self) -> Sequence[str]:
        """Return all names in order. The list is never modified later, so it may be read without the lock."""
        if self._removed or self._added:
            # Timsort is nearly linear here, since most of the list is sorted.
            kept = [name for name in self._ordered if name in self._names] if self._removed else list(self._ordered)
            if self._added:
                kept += [name for name in self._added if name in self._names]
                kept.sort()
                # A name that was removed and added again is in both lists.
                kept = list(dict.fromkeys(kept))
            self._ordered, self._added, self._removed = kept, [], False
        return self._ordered

    @staticmethod
    def matching(
        names: Sequence[str], match: str, start: str | None, timed_out: Callable[[], bool]
    ) -> Iterator[tuple[str, bool]]:
        """Search names.

        Args:
            names: the result of names_in_order.
            match: a pattern, see compile_pattern.
            start: where to begin; None for the first name.
            timed_out: whether the search has to stop.

        Yields:
            Each matching name with True. After a timeout the last name checked, with False.
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
    """Return a test of names; None if all names pass.

    Args:
        match: a case-insensitive part of the name, or with `*` or `?` a pattern for the whole name.
    """
    if not match:
        return None
    wanted = fold(match)
    if "*" not in wanted and "?" not in wanted:
        return lambda name: wanted in fold(name)
    parts = re.split(r"\*+", wanted)
    return lambda name: _fits(fold(name), parts)


def _fits(name: str, parts: list[str]) -> bool:
    """Return whether a name is the parts in order, with any text between them; `?` in a part is any character.

    Each part is matched at its first position, so the time is at most the product of both lengths. A regular expression
    could be made to backtrack for hours.
    """
    first, *rest = parts
    if not rest:
        return len(name) == len(first) and _at(name, 0, first)
    *middle, last = rest
    if len(name) < len(first) + len(last) or not _at(name, 0, first) or not _at(name, len(name) - len(last), last):
        return False
    at, end = len(first), len(name) - len(last)
    for part in middle:
        while at + len(part) <= end and not _at(name, at, part):
            at += 1
        if at + len(part) > end:
            return False
        at += len(part)
    return True


def _at(name: str, at: int, part: str) -> bool:
    if "?" not in part:
        return name.startswith(part, at)
    return all(wanted in ("?", got) for wanted, got in zip(part, name[at : at + len(part)], strict=True))
