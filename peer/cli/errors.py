"""What can go wrong as the user sees it: a code, one line, an exit code. docs/cli.md has the table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from common.printable import printable

if TYPE_CHECKING:
    from common.control_messages import Failure, Hint

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
    "incompatible": 69,
    "target_exists": 73,
    "disk_full": 74,
    "quota": 74,
    "io": 74,
    "interrupted": 75,
    "no_holders": 75,
    "not_verified": 76,
    "login_refused": 77,
    "unknown_user": 77,
    "not_logged_in": 77,
    "not_allowed": 77,
    "bad_env": 78,
}


class CliError(Exception):
    """A refusal or failure to show. It has the same fields as a `Fault` of the pserver."""

    def __init__(
        self, code: str, message: str, *, name: str = "", ids: tuple[str, ...] = (), hint: Hint | None = None
    ) -> None:
        """Make the error.

        Args:
            code: A key of EXIT_CODES, or a code that only the tracker has.
            message: One line that says what is wrong.
            name: The name, id, path or pattern that it is about; empty if it is about none.
            ids: The ids to choose from, if the code is ambiguous_name.
            hint: What the user can do next.
        """
        super().__init__(message)
        self.code = code
        self.message = message
        self.name = name
        self.ids = ids
        self.hint = hint


class PserverUnreachable(CliError):
    """No pserver answers at the address: starting one may help."""

    def __init__(self, message: str) -> None:
        super().__init__("pserver_unreachable", message)


def bad_usage(message: str) -> CliError:
    """The error of a malformed command line or answer."""
    return CliError("bad_usage", message)


def exit_code(failure: Failure) -> int:
    """The exit code of a command whose first failure this is."""
    return EXIT_CODES.get(failure.code, FAILED)


def message_with_name(failure: Failure) -> str:
    """The message, preceded by the name that it is about unless the message contains it."""
    name = failure.name
    # Messages of the pserver have names with their control characters escaped.
    for shown in {name, printable(name)}:
        if re.search(rf"(?:^|[\s/'\"]){re.escape(shown)}(?:$|[\s:;,'\"])", failure.message):
            return failure.message
    return f"{name}: {failure.message}" if name else failure.message
