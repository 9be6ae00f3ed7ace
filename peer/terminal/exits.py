"""What a command with several arguments exits with: the failure of the first of them that failed. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from terminal.errors import CTRL_C, OK, TerminalError

_ID = re.compile(r"[0-9a-f]{64}")


def exit_code(words: Sequence[str], faults: Sequence[TerminalError], *, interrupted: bool = False) -> int:
    """What a command with these arguments exits with: Ctrl-C, else the first failure in the order of its arguments."""
    if interrupted:
        return CTRL_C
    if not faults:
        return OK
    return min(faults, key=lambda fault: _place(words, fault.name or "")).exit_code


def _place(words: Sequence[str], name: str) -> int:
    """Which argument brought about the fault with this name; their number if none can be told."""
    heads = ["/".join(name.split("/")[:count]) for count in range(1, name.count("/") + 2)]
    for meant in (_means, _matches, _leads_to, _may_mean):
        for place, word in enumerate(words):
            if meant(word, name, heads):
                return place
    return len(words)


def _means(word: str, name: str, heads: list[str]) -> bool:
    return word == name or word.rstrip("/") in heads[:-1]


def _matches(word: str, name: str, _heads: list[str]) -> bool:
    if not {"*", "?"} & set(word):
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
