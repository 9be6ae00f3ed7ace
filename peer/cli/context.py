"""What a command or the menu works with: the pserver, the screen and the prompts; and the check of a user's words."""

from __future__ import annotations

from dataclasses import dataclass

from cli.daemon_client import DaemonClient
from cli.errors import CliError
from cli.prompts import Prompter
from cli.screen import Screen


@dataclass(frozen=True)
class Context:
    """The three sides of a run of pclient."""

    daemon: DaemonClient
    screen: Screen
    prompter: Prompter


def require_utf8(word: str) -> str:
    """The word, if it can go to the pserver: a path of Linux may be any bytes, a message may not.

    Raises:
        CliError: bad_name.
    """
    try:
        word.encode()
    except UnicodeEncodeError as error:
        raise CliError("bad_name", f"{word}: not UTF-8", name=word) from error
    return word
