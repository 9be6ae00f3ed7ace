"""What can go wrong as the user sees it: a code, one line, an exit code. docs/cli.md has the table."""

from __future__ import annotations

import re

OK = 0
FAILED = 1
CTRL_C = 130

EXIT_CODES = {
    "internal": FAILED,
    "bad_usage": 2,
    "bad_name": 2,
    "ambiguous_name": 2,
    "no_such_file": 66,
    "tracker_unreachable": 69,
    "pserver_unreachable": 69,
    "no_active_peer": 69,
    "target_exists": 73,
    "disk_full": 74,
    "quota": 74,
    "io": 74,
    "interrupted": 75,
    "no_holders": 75,
    "not_verified": 76,
    "login_refused": 77,
    "not_logged_in": 77,
    "not_allowed": 77,
    "bad_env": 78,
}


class CliError(Exception):
    """A refusal or failure to show; `code` is one of EXIT_CODES, or one that only the tracker has."""

    def __init__(self, code: str, message: str, *, name: str | None = None, ids: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        # The name, id, path or pattern that it is about.
        self.name = name
        # The ids to choose from, if the code is ambiguous_name.
        self.ids = ids

    @property
    def exit_code(self) -> int:
        """What the process exits with if this is its first failure."""
        return EXIT_CODES.get(self.code, FAILED)


class PserverUnreachable(CliError):
    """Nobody answers at the pserver's address: starting one may help."""

    def __init__(self, message: str) -> None:
        super().__init__("pserver_unreachable", message)


def bad_usage(message: str) -> CliError:
    """A command line or an answer that makes no sense."""
    return CliError("bad_usage", message)


def message_with_name(error: CliError) -> str:
    """The message, after the name that it is about unless it tells that itself: of several files, which?"""
    name = error.name
    if not name or re.search(rf"(?:^|[\s/]){re.escape(name)}(?:$|[\s:;,])", error.message):
        return error.message
    return f"{name}: {error.message}"
