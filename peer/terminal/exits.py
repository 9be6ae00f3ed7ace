"""What a command with several arguments exits with: the failure of the first of them that failed. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from terminal.errors import CTRL_C, OK, TerminalError
from terminal.meaning import is_pattern

_ID = re.compile(r"[0-9a-f]{64}")


def exit_code(words: Sequence[str], faults: Sequence[TerminalError], *, interrupted: bool = False) -> int:
    """What a command with these arguments exits with: Ctrl-C, else the first failure in the order of its arguments."""
    if interrupted:
        return CTRL_C
    if not faults:
        return OK
    places = _Places(words)
    return min(faults, key=lambda fault: places.of(fault.name or "")).exit_code


class _Places:
    """Which argument brought about the fault with a name."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        # Of tens of thousands of arguments each may fail: they are not gone through for each other.
        self._names: dict[str, int] = {}
        self._folders: dict[str, int] = {}
        for place, word in enumerate(words):
            self._names.setdefault(word, place)
            self._folders.setdefault(word.rstrip("/"), place)

    def of(self, name: str) -> int:
        """Return its place; the number of arguments if none can be told."""
        heads = ["/".join(name.split("/")[:count]) for count in range(1, name.count("/") + 2)]
        meant = [self._folders[head] for head in heads[:-1] if head in self._folders]
        if name in self._names:
            meant.append(self._names[name])
        if meant:
            return min(meant)
        for may_mean in (_matches, _leads_to, _may_mean):
            for place, word in enumerate(self._words):
                if may_mean(word, name, heads):
                    return place
        return len(self._words)


def _matches(word: str, name: str, _heads: list[str]) -> bool:
    if not is_pattern(word):
        return False
    pattern = "".join({"*": ".*", "?": "."}.get(each, re.escape(each)) for each in word)
    return re.fullmatch(pattern, name, re.DOTALL | re.IGNORECASE) is not None


def _leads_to(word: str, _name: str, heads: list[str]) -> bool:
    """Whether it is the path of an upload: the name, or a folder that it lies in, is the path's end."""
    path = "/" + word.rstrip("/")
    return any(path.endswith("/" + head) for head in heads)


def _may_mean(word: str, _name: str, _heads: list[str]) -> bool:
    """A file that was asked for by its id is told of by its name."""
    return _ID.fullmatch(word) is not None
