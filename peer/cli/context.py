"""All that a command or the menu works with, and what of a user's words can go to the pserver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cli.daemon_client import DaemonClient
from cli.errors import CliError
from cli.prompts import Prompter
from cli.screen import Screen


@dataclass(frozen=True)
class Context:
    """All that a command or the menu works with."""

    daemon: DaemonClient
    screen: Screen
    prompter: Prompter


def sendable(words: Sequence[str]) -> tuple[list[str], list[CliError]]:
    """The words that are UTF-8, and a fault for each that is not: a path may be any bytes, a shared name not."""
    good: list[str] = []
    faults: list[CliError] = []
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            faults.append(CliError("bad_name", f"{word} is not UTF-8, as a name has to be", name=word))
        else:
            good.append(word)
    return good, faults


def not_empty(words: Sequence[str]) -> tuple[list[str], list[CliError]]:
    """The words that may be names or paths, and a fault for each that is none: an empty one."""
    good = [word for word in words if word]
    return good, [CliError("bad_name", "an empty name: leave it out") for _ in range(len(words) - len(good))]


def require_utf8(word: str) -> str:
    """The word, if it can go to the pserver.

    Raises:
        TerminalError: bad_name.
    """
    _, faults = sendable([word])
    if faults:
        raise faults[0]
    return word
