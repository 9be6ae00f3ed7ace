"""What a person or a script can have done, one function each. Asks the pserver, reports to the screen; no gRPC here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cli import models, render, transfer_commands
from cli.arguments import Invocation
from cli.context import Context, require_utf8, sendable
from cli.errors import OK, bad_usage
from cli.prompts import EndOfInput
from cli.screen import Screen

_LACKS_ONE = "no password: give it as a line on stdin (--password-stdin)"
_LACKS_TWO = "two passwords are wanted: first the old one, then the new, a line each on stdin (--password-stdin)"


def run(session: Context, order: Invocation) -> int:
    """Do what `order` says; the exit code.

    Raises:
        TerminalError: if it failed as a whole.
    """
    return _COMMANDS[order.command or ""](session, order)


def login(session: Context, order: Invocation) -> int:
    """Log the pserver in."""
    found = session.daemon.login(require_utf8(order.arguments[0]), _passwords(session, order, "Enter password: ")[0])
    if session.screen.as_json:
        session.screen.data({"user": found.user, "registered": found.registered})
    else:
        session.screen.line(f"Logged in as {found.user}" + (" (a new account)" if found.registered else ""))
    return OK


def logout(session: Context, _order: Invocation) -> int:
    """Leave the network."""
    user, notice = session.daemon.logout()
    if session.screen.as_json:
        session.screen.data({"user": user or None})
    else:
        session.screen.line(f"Logged out {user}" if user else "Logged out already")
    if notice:
        session.screen.info(notice)
    return OK


def passwd(session: Context, order: Invocation) -> int:
    """Change the password."""
    old, new = _passwords(session, order, "Old password: ", "New password: ")
    if (
        session.prompter.terminal
        and not order.password_stdin
        and session.prompter.secret("New password again: ") != new
    ):
        raise bad_usage("the new passwords differ; nothing was changed")
    user = session.daemon.change_password(old, new)
    if session.screen.as_json:
        session.screen.data({"user": user})
    else:
        session.screen.line(f"Password changed for {user}")
    return OK


def files(session: Context, order: Invocation) -> int:
    """What the network has."""
    match = require_utf8(order.arguments[0]) if order.arguments else ""
    if session.screen.as_json:
        for page in session.daemon.files(match):
            for file in page:
                session.screen.data(render.listed_object(file))
        return OK
    found = [file for page in session.daemon.files(match) for file in page]
    show_files(session.screen, found)
    return OK


def show_files(screen: Screen, found: Sequence[models.ListedFile]) -> None:
    """A table, or a word that there is nothing to show."""
    if found:
        screen.table(render.FILE_HEADERS, render.file_rows(found), render.FILE_NUMBERS)
    else:
        screen.info("no such files in the network")


def peers(session: Context, _order: Invocation) -> int:
    """Who is alive."""
    found = session.daemon.peers()
    if session.screen.as_json:
        for peer in found:
            session.screen.data(render.peer_object(peer))
    elif found:
        session.screen.table(render.PEER_HEADERS, render.peer_rows(found), render.PEER_NUMBERS)
    else:
        session.screen.info("no peer is alive")
    return OK


def status(session: Context, _order: Invocation) -> int:
    """This peer."""
    found = session.daemon.status()
    if session.screen.as_json:
        session.screen.data(render.status_object(found))
    else:
        session.screen.key_values("this peer", render.status_rows(found))
    return OK


def _passwords(session: Context, order: Invocation, *prompts: str) -> list[str]:
    """One password for each prompt: asked for at a terminal, else lines of stdin. Never from argv."""
    try:
        if order.password_stdin or not session.prompter.terminal:
            found = [session.prompter.next_line() for _ in prompts]
        else:
            found = [session.prompter.secret(prompt) for prompt in prompts]
    except EndOfInput as error:
        raise bad_usage(_LACKS_ONE if len(prompts) == 1 else _LACKS_TWO) from error
    if not all(found) or sendable(found)[1]:
        raise bad_usage("a password is 1 to 1024 bytes of UTF-8")
    return found


_COMMANDS: dict[str, Callable[[Context, Invocation], int]] = {
    "login": login,
    "logout": logout,
    "passwd": passwd,
    "upload": transfer_commands.upload,
    "download": transfer_commands.download,
    "files": files,
    "peers": peers,
    "status": status,
    "remove": transfer_commands.remove,
}
