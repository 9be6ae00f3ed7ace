"""What a command with several arguments exits with: the failure of the first of them that failed. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache, cached_property

from cli.argument_map import is_pattern
from cli.errors import CTRL_C, OK, CliError

_ID = re.compile(r"[0-9a-f]{64}")


def exit_code(words: Sequence[str], faults: Sequence[CliError], *, interrupted: bool = False) -> int:
    """What a command with these arguments exits with: Ctrl-C, else the first failure in the order of its arguments."""
    if interrupted:
        return CTRL_C
    if not faults:
        return OK
    places = _Places(words)
    # Many may fail under one name, or under none.
    place_of = cache(places.of)
    return min(faults, key=lambda fault: place_of(fault.name or "")).exit_code


class _Places:
    """Which argument brought about the fault with a name.

    Of tens of thousands of arguments each may fail: they are gone through once, and not for each other.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._count = len(words)
        self._names: dict[str, int] = {}
        self._folders: dict[str, int] = {}
        self._ends = _Ends(words)
        self._patterns: list[tuple[str, int]] = []
        self._first_id = self._count
        for place, word in enumerate(words):
            self._names.setdefault(word, place)
            self._folders.setdefault(word.rstrip("/"), place)
            if is_pattern(word):
                self._patterns.append((word, place))
            elif self._first_id == self._count and _ID.fullmatch(word):
                self._first_id = place

    def of(self, name: str) -> int:
        """Return its place; the number of arguments if none can be told."""
        meant = [self._folders[folder] for folder in _folders_of(name) if folder in self._folders]
        if name in self._names:
            meant.append(self._names[name])
        if meant:
            return min(meant)
        for pattern, place in self._expressions:
            if pattern.fullmatch(name):
                return place
        # The path of an upload: the name, or a folder that it lies in, is the path's end.
        end = self._ends.first(name)
        if end is not None:
            return end
        # A file that was asked for by its id is told of by its name.
        return self._first_id

    @cached_property
    def _expressions(self) -> list[tuple[re.Pattern[str], int]]:
        """Made when the first name is none of the arguments: each takes as long as to go through thousands."""
        return [(_expression(word), place) for word, place in self._patterns]


class _Ends:
    """The arguments as paths, found by their last component, by their last two: as far as the names are deep."""

    def __init__(self, words: Sequence[str]) -> None:
        # Those with more components than there are levels.
        self._deeper = [(place, "/" + word.rstrip("/")) for place, word in enumerate(words)]
        self._levels: list[dict[str, int]] = []

    def first(self, name: str) -> int | None:
        """The place of the first path that ends in the name, or in a folder that it lies in; None if none does."""
        found: list[int] = []
        for level, end in enumerate((*_folders_of(name), name)):
            if level == len(self._levels):
                self._add_level()
            if end in self._levels[level]:
                found.append(self._levels[level][end])
        return min(found, default=None)

    def _add_level(self) -> None:
        count = len(self._levels) + 1
        self._deeper = [(place, path) for place, path in self._deeper if path.count("/") >= count]
        ends: dict[str, int] = {}
        for place, path in self._deeper:
            ends.setdefault(path[len(path.rsplit("/", count)[0]) + 1 :], place)
        self._levels.append(ends)


def _folders_of(name: str) -> Iterator[str]:
    """The folders that it lies in, from the outermost."""
    end = name.find("/")
    while end >= 0:
        yield name[:end]
        end = name.find("/", end + 1)


def _expression(pattern: str) -> re.Pattern[str]:
    parts = ({"*": ".*", "?": "."}.get(each, re.escape(each)) for each in pattern)
    return re.compile("".join(parts), re.DOTALL | re.IGNORECASE)
