"""What the user calls a file that the pserver tells of, once for each argument that names it. Moves nothing.

Several arguments may name one file: the pserver tells of it once, `--json` has an object for each.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import PurePath

from cli import models
from cli.errors import CliError, bad_usage

Meaning = Callable[[models.Result], list[str]]


def is_pattern(name: str) -> bool:
    """Whether it means all files that it fits."""
    return "*" in name or "?" in name


def may_match_many(name: str) -> bool:
    """Whether it may mean more than one file: a pattern, or a folder."""
    return name.endswith("/") or is_pattern(name)


def absolute_path(path: str) -> str:
    """The path for the pserver, which has another current folder.

    `..` stays as it is: after a link only the system knows where it leads.

    Raises:
        TerminalError: bad_usage, if it begins in a current folder that was removed.
    """
    if os.path.isabs(path):
        return path
    try:
        return os.path.join(os.getcwd(), path)
    except FileNotFoundError as error:
        raise bad_usage(f"{path}: the current folder was removed: name it from /") from error


def by_path(words: Sequence[str]) -> dict[str, list[str]]:
    """The paths that the arguments of an upload mean, each once, with those arguments."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for word in words:
        found[_path(word)].append(word)
    return dict(found)


def _path(word: str) -> str:
    """The same path for a file however its folder is called."""
    path = absolute_path(word)
    folder, leaf = os.path.split(path)
    if leaf in {"", ".", ".."}:
        return path
    try:
        return os.path.join(os.path.realpath(folder, strict=True), leaf)
    except OSError:
        # The pserver finds out what is the matter, and says so.
        return path


def of_paths(paths: dict[str, list[str]]) -> Meaning:
    """What comes of an upload: told of by its path, as long as it has no name in the network."""
    by_leaf: defaultdict[str, list[str]] = defaultdict(list)
    for path in paths:
        by_leaf[os.path.basename(path)].append(path)

    def meaning(result: models.Result) -> list[str]:
        name = result.name or ""
        if name in paths:
            return paths[name]
        alike = by_leaf.get(os.path.basename(name), ())
        path = next((path for path in alike if path.endswith("/" + name)), None)
        return [name] * (len(paths[path]) if path is not None else 1)

    return meaning


def of_names(words: Sequence[str], output: str = "") -> Meaning:
    """What comes of a download: told of by its name, or by the path of its copy when something lies there."""
    counts = Counter(words)
    outside = os.path.join(PurePath(output), "") if "/" in output else ""

    def meaning(result: models.Result) -> list[str]:
        name = (result.name or "").removeprefix(outside)
        if isinstance(result, CliError):
            return [name] * max(1, counts[name])
        # Another name is for one file: all arguments mean it.
        if output and not outside:
            return [name] * len(words)
        # An id is one file, though others may have the same contents.
        return [name] * max(1, counts[name] + counts.pop(result.id, 0))

    return meaning
