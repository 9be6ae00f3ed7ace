"""The commands, one function each: calls the pserver and shows the answer. Transfers are in `transfer_commands`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cli import render, transfer_commands
from cli.arguments import Invocation
from cli.context import Context, require_utf8
from cli.daemon_client import LoginResult
from cli.errors import OK, CliError, bad_usage
from cli.prompts import EndOfInput
from cli.screen import Screen
from common.status_messages import ListedFile

_MAX_PASSWORD_BYTES = 1024
_LINES_NEEDED = {
    1: "no password: give it as a line on stdin (--password-stdin)",
    2: "missing password: give the old one, then the new one, a line each on stdin (--password-stdin)",
}


def run(context: Context, invocation: Invocation) -> int:
    """Run the command of `invocation`; return the exit code.

    Raises:
        CliError: if the command failed before its first result.
    """
    return _COMMANDS[invocation.command or ""](context, invocation)


def login(context: Context, invocation: Invocation) -> int:
    """Log the pserver in. On a terminal, ask before an account is created."""
    user = require_utf8(invocation.arguments[0])
    interactive = context.prompter.interactive and not invocation.password_stdin
    [password] = _passwords(context, invocation, "Enter password: ")
    result = sign_in(context, user, password) if interactive else context.daemon.login(user, password)
    if context.screen.as_json:
        context.screen.data({"user": result.user, "registered": result.registered})
    else:
        context.screen.line(render.logged_in(result))
    return OK


def sign_in(context: Context, user: str, password: str) -> LoginResult:
    """Log in on a terminal. For an unknown user name, confirm the new account and prompt for the password again.

    Raises:
        CliError: unknown_user if the user declines, bad_usage if the passwords differ, or as `DaemonClient.login`.
    """
    try:
        return context.daemon.login(user, password, register=False)
    except CliError as error:
        if error.code != "unknown_user":
            raise
        if not context.prompter.confirm(f"Create a new account {user}?"):
            raise CliError("unknown_user", f"no account {user!r}; none was created") from error
    if context.prompter.secret("Enter password again: ") != password:
        raise bad_usage("the passwords differ; no account was created")
    return context.daemon.login(user, password)


def logout(context: Context, _invocation: Invocation) -> int:
    """Log the pserver out."""
    user, notice = context.daemon.logout()
    if context.screen.as_json:
        context.screen.data({"user": user or None})
    else:
        context.screen.line(f"Logged out {user}" if user else "Not logged in")
    if notice:
        context.screen.info(notice)
    return OK


def passwd(context: Context, invocation: Invocation) -> int:
    """Change the password."""
    old, new = _passwords(context, invocation, "Old password: ", "New password: ")
    interactive = context.prompter.interactive and not invocation.password_stdin
    if interactive and context.prompter.secret("New password again: ") != new:
        raise bad_usage("the new passwords differ; the password was not changed")
    user = context.daemon.change_password(old, new)
    if context.screen.as_json:
        context.screen.data({"user": user})
    else:
        context.screen.line(f"Password changed for {user}")
    return OK


def files(context: Context, invocation: Invocation) -> int:
    """List files in the network."""
    match = require_utf8(invocation.arguments[0]) if invocation.arguments else ""
    pages = context.daemon.files(match)
    if context.screen.as_json:
        for page in pages:
            for file in page:
                context.screen.data(render.listed_object(file))
    else:
        show_files(context.screen, [file for page in pages for file in page])
    return OK


def show_files(screen: Screen, found: Sequence[ListedFile]) -> None:
    """Show a table of files, or a line if there are none."""
    if found:
        screen.table(render.FILE_HEADERS, render.file_rows(found), render.FILE_NUMBERS)
    else:
        screen.info("no matching files in the network")


def peers(context: Context, _invocation: Invocation) -> int:
    """List online peers."""
    found = context.daemon.peers()
    if context.screen.as_json:
        for peer in found:
            context.screen.data(render.peer_object(peer))
    elif found:
        context.screen.table(render.PEER_HEADERS, render.peer_rows(found), render.PEER_NUMBERS)
    else:
        context.screen.info("no peers online")
    return OK


def status(context: Context, _invocation: Invocation) -> int:
    """Show the state of this peer."""
    found = context.daemon.status()
    if context.screen.as_json:
        context.screen.data(render.status_object(found))
    else:
        context.screen.key_values("status", render.status_rows(found))
    return OK


def check_passwords(*passwords: str) -> None:
    """Check the length and the encoding of passwords.

    Raises:
        CliError: bad_usage.
    """
    for password in passwords:
        try:
            size = len(password.encode())
        except UnicodeEncodeError:
            size = 0
        if not 1 <= size <= _MAX_PASSWORD_BYTES:
            raise bad_usage(f"a password should have 1 to {_MAX_PASSWORD_BYTES} bytes of UTF-8")


def _passwords(context: Context, invocation: Invocation, *prompts: str) -> list[str]:
    """Read one password for each prompt: from a terminal, or from lines of stdin. Never from the command line."""
    try:
        if invocation.password_stdin or not context.prompter.interactive:
            found = [context.prompter.next_line() for _ in prompts]
        else:
            found = [context.prompter.secret(prompt) for prompt in prompts]
    except EndOfInput as error:
        raise bad_usage(_LINES_NEEDED[len(prompts)]) from error
    check_passwords(*found)
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
