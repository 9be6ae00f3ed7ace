"""The menu: a table of entries, and the loop that asks. It reads lines, from a terminal or from a pipe."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from cli import commands, menu_replies, render, transfer_commands
from cli.arguments import Invocation
from cli.context import Context, require_utf8
from cli.errors import OK, CliError
from cli.prompts import EndOfInput
from cli.transfer_commands import MAX_LISTED, absolute_path, may_match_many
from cli.transfer_follower import Outcome, follow
from common import formatting
from common.control_messages import Failure, Fault, Hint
from common.status_messages import Status


@dataclass(frozen=True)
class Entry:
    """A line of the menu."""

    key: str
    label: str
    action: Callable[[Menu], None]


class Menu:
    """The dialogue with one user, until `0` or the end of input."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.screen = context.screen
        self.prompter = context.prompter
        self.daemon = context.daemon
        # The user whose state was shown.
        self._greeted = ""
        # The message of the last refusal, to show a repeated failure of the pserver once.
        self._refused = ""

    def run(self) -> int:
        """Run until `0` or the end of input; return the exit code. A Ctrl-C at a prompt goes to the caller."""
        try:
            while self._turn():
                pass
        except EndOfInput:
            pass
        return OK

    def _turn(self) -> bool:
        """Handle one login, or one choice; return False if the user quits."""
        try:
            status = self.daemon.status()
            self._refused = ""
            if not status.user:
                return self._login()
            if self._greeted != status.user:
                self._greet(f"Logged in as {status.user}", status)
        except CliError as error:
            # The reply to the last choice may have said it.
            if error.message != self._refused:
                self.refuse(error)
        self._refused = ""
        self.screen.choices([*((entry.key, entry.label) for entry in ENTRIES), ("0", "quit (stay logged in)")])
        choice = self.prompter.line("Enter choice: ")
        if choice == "0":
            return False
        entry = next((entry for entry in ENTRIES if entry.key == choice), None)
        if entry is None:
            self.screen.line(f"Invalid choice. Enter 0-{ENTRIES[-1].key}")
            return True
        try:
            entry.action(self)
        except CliError as error:
            self.refuse(error)
        except KeyboardInterrupt:
            self.screen.end_of_prompt()
        return True

    def _login(self) -> bool:
        """Prompt for user and password; return False if the user quits."""
        self._greeted = ""
        user = self.prompter.line("Enter username: ")
        if user == "0":
            return False
        if not user:
            self.screen.line('User names: 1-64 letters, digits, ".", "-", "_". Enter 0 to quit')
            return True
        password = self.prompter.secret("Enter password: ")
        try:
            commands.check_passwords(password)
            if self.prompter.interactive:
                result = commands.sign_in(self.context, require_utf8(user), password)
            else:
                result = self.daemon.login(require_utf8(user), password)
            self._greet(render.logged_in(result), self.daemon.status())
        except CliError as error:
            self.refuse(error)
        return True

    def _greet(self, line: str, status: Status) -> None:
        self._greeted = status.user
        self.screen.line(line)
        self.screen.key_values("status", render.header_rows(status))

    def ask_name(self) -> str | None:
        """Prompt for a file name; for an empty answer show a line and return None."""
        name = self.prompter.name("Enter file name: ")
        if not name:
            self.screen.line("No file name entered")
        return name or None

    def refuse(self, failure: Failure, *, with_name: bool = False, next_step: str = "") -> None:
        """Show why a choice failed; arguments as in `menu_replies.refusal`."""
        self._refused = failure.message
        self.screen.line(menu_replies.refusal(failure, with_name=with_name, next_step=next_step))

    def report(
        self,
        outcome: Outcome,
        after_cancel: str = "Verified data is kept; choose the same again to resume",
        *,
        several: bool = False,
        next_step: str = "",
    ) -> None:
        """Show the replies of a transfer after its end: one by one, or their totals if there are many.

        Args:
            outcome: What came of the transfer.
            after_cancel: The sentence after "Cancelled".
            several: Whether the choice meant several files, so that a failed one has to be named.
            next_step: What the user can do about a fault, instead of its hint.
        """
        unplaced = {fault.name for fault in outcome.faults if fault.code == "no_active_peer"}
        good = [each for each in outcome.results if not isinstance(each, Fault) and each.name not in unplaced]
        if len(good) > MAX_LISTED:
            lines = list(menu_replies.totals(good))
        else:
            lines = [line for result in good for line in menu_replies.replies(result)]
        for line in lines:
            self.screen.line(line)
        for fault in outcome.faults[:MAX_LISTED]:
            self.refuse(fault, with_name=several, next_step=next_step)
        if len(outcome.faults) > MAX_LISTED:
            self.screen.line(f"... and {len(outcome.faults) - MAX_LISTED:,} more skipped")
        if outcome.still_running_reason:
            self.screen.line(f"Not cancelled: {outcome.not_cancelled}")
        elif outcome.interrupted:
            self.screen.line(f"Cancelled. {after_cancel}")


def _upload(menu: Menu) -> None:
    name = menu.ask_name()
    if name is None:
        return
    # A shell would expand ~ in a command.
    path = require_utf8(absolute_path(os.path.expanduser(name)))
    outcome = follow(menu.daemon, lambda: menu.daemon.upload([path], 1), menu.screen, "uploading")
    if menu.prompter.interactive and any(fault.hint is Hint.LINK for fault in outcome.faults):
        menu.screen.line("There is no room for a copy. With a hard link, an edit of the file changes the shared one")
        if menu.prompter.confirm("Share it by a hard link?"):
            outcome = follow(menu.daemon, lambda: menu.daemon.upload([path], 1, link=True), menu.screen, "uploading")
    menu.report(outcome, several=os.path.isdir(path))


def _download(menu: Menu) -> None:
    name = menu.ask_name()
    if name is None:
        return
    outcome = _fetch(menu, name, "")
    # A pattern or a folder may also match names with several versions.
    ambiguous = [fault for fault in outcome.faults if fault.code == "ambiguous_name" and fault.ids]
    unambiguous = [result for result in outcome.results if result not in ambiguous]
    _report_download(menu, name, Outcome(unambiguous, outcome.interrupted, outcome.still_running_reason))
    for fault in ambiguous:
        if outcome.interrupted:
            return
        outcome = _fetch_version(menu, fault.name or name, fault.ids)


def _fetch_version(menu: Menu, name: str, ids: tuple[str, ...]) -> Outcome:
    """Download one version of a name, chosen by the user."""
    chosen = _choose_version(menu, name, ids)
    if chosen is None:
        return Outcome()
    # The id may have other names, too. An output can only be one component.
    outcome = _fetch(menu, chosen, "" if set("/*?") & set(name) else name)
    return _report_download(menu, chosen, outcome)


def _report_download(menu: Menu, argument: str, outcome: Outcome) -> Outcome:
    """Report a download. While its name is occupied, prompt for another one and download again.

    Only on a terminal: a script has no line for this question.
    """
    while True:
        occupied = (
            menu.prompter.interactive
            and not may_match_many(argument)
            and [fault.code for fault in outcome.faults] == ["target_exists"]
        )
        several = may_match_many(argument)
        menu.report(outcome, several=several, next_step="Enter a new name for this download" if occupied else "")
        name = menu.prompter.name("Save as (Enter to cancel): ") if occupied else ""
        if not name:
            return outcome
        outcome = _fetch(menu, argument, require_utf8(name))


def _fetch(menu: Menu, argument: str, output: str) -> Outcome:
    names = [require_utf8(argument)]
    return follow(menu.daemon, lambda: menu.daemon.download(names, output), menu.screen, "downloading")


def _choose_version(menu: Menu, name: str, ids: tuple[str, ...]) -> str | None:
    """Let the user choose one of the ids of a name; None, and a line, if the answer is no version."""
    known = {file.id: file for page in menu.daemon.files(name) for file in page if file.id in ids}
    numbered = {str(number): id_ for number, id_ in enumerate(ids, 1)}
    rows = []
    for number, id_ in numbered.items():
        file = known.get(id_)
        details = [f"id {formatting.short_id(id_)}"]
        if file is not None:
            details[:0] = [formatting.size(file.size), formatting.pluralise(file.holders, "holder")]
            if file.modified is not None:
                details.append(f"modified {formatting.date_and_time(file.modified)}")
        rows.append((number, ", ".join(details)))
    menu.screen.info(f"{name} has {len(ids)} versions:")
    menu.screen.choices(rows)
    chosen = numbered.get(menu.prompter.line("Enter version: "))
    if chosen is None:
        menu.screen.line("No such version; nothing was downloaded")
    return chosen


def _logout(menu: Menu) -> None:
    user, notice = menu.daemon.logout()
    menu.screen.line(f"Logged out {user}".rstrip())
    if notice:
        menu.screen.line(notice)


def _search(menu: Menu) -> None:
    pattern = require_utf8(menu.prompter.line("Enter part of a name: "))
    commands.show_files(menu.screen, [file for page in menu.daemon.files(pattern) for file in page])


def _remove(menu: Menu) -> None:
    name = menu.ask_name()
    if name is None:
        return
    names = [require_utf8(name)]
    if menu.prompter.interactive and not transfer_commands.confirm_removal(menu.context, names):
        return
    outcome = follow(menu.daemon, lambda: menu.daemon.remove(names), menu.screen, "removing")
    menu.report(outcome, "Choose the same again to remove the rest", several=may_match_many(name))


def _passwd(menu: Menu) -> None:
    old, new = menu.prompter.secret("Old password: "), menu.prompter.secret("New password: ")
    if menu.prompter.interactive and menu.prompter.secret("New password again: ") != new:
        menu.screen.line("The new passwords differ; the password was not changed")
        return
    commands.check_passwords(old, new)
    menu.screen.line(f"Password changed for {menu.daemon.change_password(old, new)}")


def _command(command: str) -> Callable[[Menu], None]:
    """The action of an entry that runs a command without arguments."""

    def action(menu: Menu) -> None:
        commands.run(menu.context, Invocation("", command=command))

    return action


ENTRIES = (
    Entry("1", "upload a file", _upload),
    Entry("2", "download a file", _download),
    Entry("3", "log out", _logout),
    Entry("4", "list files", _command("files")),
    Entry("5", "search for a file", _search),
    Entry("6", "online peers", _command("peers")),
    Entry("7", "status", _command("status")),
    Entry("8", "delete my copy of a file", _remove),
    Entry("9", "change my password", _passwd),
)
