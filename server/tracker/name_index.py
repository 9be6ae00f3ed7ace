"""Folded names in order, to list and search them in pages. Knows no peers; the caller holds the lock."""

import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice

from tracker.index_entries import NameEntry, Spellings
from tracker.names import fold

# Names between two checks of a search's deadline; a name takes some milliseconds at worst.
DEADLINE_CHECK_INTERVAL = 16
# Spellings of one version that are read; the most used one of these is shown.
_MAX_SPELLINGS = 100


class NameIndex:
    """Folded name -> id -> spellings of the name.

    Nearly every name has one version in one spelling, and costs no dict of its own.
    """

    def __init__(self) -> None:
        self._names: dict[str, NameEntry | dict[bytes, NameEntry | dict[str, NameEntry]]] = {}
        self._ordered: Sequence[str] = ()
        self._added: list[str] = []
        self._removed = False
        # Pairs of folded name and id.
        self.count = 0

    def add(self, entry: NameEntry) -> None:
        """Add an entry that is not in the index."""
        kept = self._names.get(entry.folded)
        if kept is None:
            self._names[entry.folded] = entry
            self._added.append(entry.folded)
            self.count += 1
            return
        if isinstance(kept, NameEntry):
            kept = self._names[entry.folded] = {kept.content.id: kept}
        spellings = kept.get(entry.content.id)
        if spellings is None:
            kept[entry.content.id] = entry
            self.count += 1
        elif isinstance(spellings, NameEntry):
            kept[entry.content.id] = {spellings.name: spellings, entry.name: entry}
        else:
            spellings[entry.name] = entry

    def remove(self, entry: NameEntry) -> None:
        """Remove an entry that is in the index."""
        kept = self._names[entry.folded]
        if isinstance(kept, dict):
            spellings = kept[entry.content.id]
            if isinstance(spellings, dict):
                del spellings[entry.name]
                if spellings:
                    return
            del kept[entry.content.id]
            if kept:
                self.count -= 1
                return
        del self._names[entry.folded]
        self._removed = True
        self.count -= 1

    def versions(self, folded: str, limit: int | None = None) -> Collection[Spellings]:
        """Return up to `limit` versions of a folded name, the first known first; None for all."""
        kept = self._names.get(folded)
        if kept is None:
            return ()
        if isinstance(kept, NameEntry):
            return ((kept,),)
        return [
            (spellings,) if isinstance(spellings, NameEntry) else list(islice(spellings.values(), _MAX_SPELLINGS))
            for spellings in islice(kept.values(), limit)
        ]

    def names_in_order(self) -> Sequence[str]:
        """Return all folded names in order. The list is never modified later, so it may be read without the lock."""
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
    """Return a test of folded names; None if all names pass.

    Args:
        match: a part of the name, or with `*` or `?` a pattern for the whole name; it is folded, as names are.
    """
    if not match:
        return None
    wanted = fold(match)
    if "*" not in wanted and "?" not in wanted:
        return lambda folded: wanted in folded
    parts = re.split(r"\*+", wanted)
    return lambda folded: _fits(folded, parts)


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
