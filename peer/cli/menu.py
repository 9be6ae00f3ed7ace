"""The menu: a table of entries, and the loop that asks. Reads lines: it works at a terminal and over a pipe alike."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from cli import commands, formatting, menu_messages, models, render, transfer_commands
from cli.argument_map import absolute_path, may_match_many
from cli.arguments import Invocation
from cli.context import Context, require_utf8, sendable
from cli.errors import OK, CliError, message_with_name
from cli.prompts import EndOfInput
from cli.transfer_follower import Outcome, follow

_PASSWORD_BYTES = 1024


@dataclass(frozen=True)
class Entry:
    """A line of the menu."""

    key: str
    label: str
    action: Callable[[Menu], None]


class Menu:
    """A conversation on one session, until the end of input."""

    def __init__(self, session: Context) -> None:
        self.context = session
        self.screen = session.screen
        self.prompter = session.prompter
        self.daemon = session.daemon
        self._greeted = ""
        # What the last choice, or login, was refused with, as long as the pserver was not heard of since.
        self._refused = ""

    def run(self) -> int:
        """Talk until `0` or the end of input; the exit code. Ctrl-C at the menu itself is for the caller."""
        try:
            while self._turn():
                pass
        except EndOfInput:
            pass
        return OK

    def _turn(self) -> bool:
        """One login, or one choice; False if that was the last."""
        try:
            status = self.daemon.status()
            self._refused = ""
            if not status.user:
                return self._login()
            if self._greeted != status.user:
                self._greet(status)
        except CliError as error:
            # As the reply to the last choice it is no news.
            if error.message != self._refused:
                self.refuse(error)
        self._refused = ""
        self.screen.choices([*((entry.key, entry.label) for entry in ENTRIES), ("0", "end (stays logged in)")])
        choice = self.prompter.line("Enter choice: ")
        if choice == "0":
            return False
        entry = next((entry for entry in ENTRIES if entry.key == choice), None)
        if entry is None:
            self.screen.line(f"No such choice: {choice or 'nothing'}; enter one of 0 to {ENTRIES[-1].key}")
            return True
        try:
            entry.action(self)
        except CliError as error:
            self.refuse(error)
        except KeyboardInterrupt:
            self.screen.end_of_prompt()
        return True

    def _login(self) -> bool:
        self._greeted = ""
        user = self.prompter.line("Enter username: ")
        if user == "0":
            return False
        if not user:
            self.screen.line("A user name has 1 to 64 letters, digits, dots, dashes or underscores; 0 ends")
            return True
        password = self.prompter.secret("Enter password: ")
        if not self.check_passwords(password):
            return True
        try:
            found = self.daemon.login(require_utf8(user), password)
        except CliError as error:
            self.refuse(error)
            return True
        self.screen.line(f"Logged in as {found.user}" + (" (a new account)" if found.registered else ""))
        self._greeted = found.user
        self.screen.key_values("this peer", render.header(self.daemon.status()))
        return True

    def _greet(self, status: models.Status) -> None:
        self.screen.line(f"Logged in as {status.user}")
        self._greeted = status.user
        self.screen.key_values("this peer", render.header(status))

    def ask_name(self) -> str | None:
        """A file's name; None, and a line about it, if it is empty."""
        name = self.prompter.name("Enter file name: ")
        if not name:
            self.screen.line("No file name; nothing was done")
        return name or None

    def check_passwords(self, *passwords: str) -> bool:
        """Whether these can be passwords; if not, a line about it."""
        good = sendable(passwords)[1] == [] and all(0 < len(each.encode()) <= _PASSWORD_BYTES for each in passwords)
        if not good:
            self.screen.line(f"A password has 1 to {_PASSWORD_BYTES} bytes of UTF-8")
        return good

    def refuse(self, error: CliError) -> None:
        """One line about what went wrong."""
        self._refused = error.message
        self.screen.line(menu_messages.refusal(error))

    def report(
        self,
        outcome: Outcome,
        how_to_go_on: str = "what was verified is kept; choose the same again to resume",
        *,
        several: bool = False,
    ) -> None:
        """The replies of a transfer, after its end: each for itself, or how many when there are many.

        `several`: the choice meant more than one file, so that what failed has to be named.
        """
        refused = {fault.name for fault in outcome.faults if fault.code == "no_active_peer"}
        good = [result for result in outcome.results if not isinstance(result, CliError) and result.name not in refused]
        if len(good) > transfer_commands.MAX_LISTED:
            for reply in menu_messages.totals(good):
                self.screen.line(reply)
        else:
            for result in good:
                reply, more = menu_messages.reply(result)
                self.screen.line(reply)
                self.screen.line(f"  {more}")
        for fault in outcome.faults[: transfer_commands.MAX_LISTED]:
            self.refuse(CliError(fault.code, message_with_name(fault)) if several else fault)
        if len(outcome.faults) > transfer_commands.MAX_LISTED:
            self.screen.line(f"Not done: {len(outcome.faults) - transfer_commands.MAX_LISTED:,} more")
        if outcome.still_running_reason:
            self.screen.line(f"Not stopped: {outcome.not_stopped}")
        elif outcome.interrupted:
            self.screen.line(f"Stopped: {how_to_go_on}")


def _upload(menu: Menu) -> None:
    name = menu.ask_name()
    if name is None:
        return
    # There is no shell here to do it.
    path = absolute_path(os.path.expanduser(name))
    outcome = follow(menu.daemon, lambda: menu.daemon.upload([require_utf8(path)], 1), menu.screen, "uploading", _later)
    menu.report(outcome, several=os.path.isdir(path))


def _download(menu: Menu) -> None:
    name = menu.ask_name()
    if name is None:
        return
    outcome = _fetch(menu, name, "")
    # A pattern or a folder may bring files, and several names to choose a version of.
    choices = [fault for fault in outcome.faults if _is_choice(fault)]
    told = replace(outcome, results=[result for result in outcome.results if not _is_choice(result)])
    menu.report(told, several=may_match_many(name))
    _offer_another_name(menu, name, outcome)
    for fault in choices:
        if outcome.interrupted:
            return
        outcome = _fetch_version(menu, fault.name or name, fault.ids)


def _is_choice(result: models.Result) -> bool:
    return isinstance(result, CliError) and result.code == "ambiguous_name" and bool(result.ids)


def _fetch_version(menu: Menu, name: str, ids: tuple[str, ...]) -> Outcome:
    chosen = _choose(menu, name, ids)
    if chosen is None:
        return Outcome()
    # An id may go by other names as well; but only a word can be asked for as a name, and a pattern is none.
    outcome = _fetch(menu, chosen, "" if set("/*?") & set(name) else name)
    menu.report(outcome)
    _offer_another_name(menu, chosen, outcome)
    return outcome


def _offer_another_name(menu: Menu, wanted: str, outcome: Outcome) -> None:
    """Where another version lies under the name, ask a person for one that is free: lines of a pipe answer no more
    questions than they were written for.
    """
    while (
        menu.prompter.terminal
        and not may_match_many(wanted)
        and [fault.code for fault in outcome.faults] == ["target_exists"]
    ):
        name = menu.prompter.name("Enter another name: ")
        if not name:
            return
        outcome = _fetch(menu, wanted, require_utf8(name))
        menu.report(outcome)


def _fetch(menu: Menu, name: str, output: str) -> Outcome:
    return follow(
        menu.daemon, lambda: menu.daemon.download([require_utf8(name)], output), menu.screen, "downloading", _later
    )


def _choose(menu: Menu, name: str, ids: tuple[str, ...]) -> str | None:
    known = {file.id: file for page in menu.daemon.files(name) for file in page if file.name == name}
    menu.screen.info(f"{name} has {len(ids)} versions:")
    rows = []
    numbered = {str(place): identity for place, identity in enumerate(ids, 1)}
    for place, identity in numbered.items():
        file = known.get(identity)
        about = f"{formatting.size(file.size)}, {formatting.pluralise(file.holders, 'holder')}, " if file else ""
        rows.append((place, f"{about}id {formatting.short_id(identity)}"))
    menu.screen.choices(rows)
    chosen = numbered.get(menu.prompter.line("Enter version: "))
    if chosen is None:
        menu.screen.line("No such version; nothing was done")
    return chosen


def _logout(menu: Menu) -> None:
    user, notice = menu.daemon.logout()
    menu.screen.line(f"Logged out {user}".rstrip())
    if notice:
        menu.screen.line(notice)


def _search(menu: Menu) -> None:
    pattern = menu.prompter.line("Enter part of a name: ")
    commands.show_files(menu.screen, [file for page in menu.daemon.files(require_utf8(pattern)) for file in page])


def _remove(menu: Menu) -> None:
    name = menu.ask_name()
    if name is None:
        return
    names = [require_utf8(name)]
    if menu.prompter.terminal and not transfer_commands.may_remove(menu.context, names):
        return
    outcome = follow(menu.daemon, lambda: menu.daemon.remove(names), menu.screen, "removing", _later)
    menu.report(outcome, "choose the same again to remove the rest", several=may_match_many(name))


def _passwd(menu: Menu) -> None:
    old, new = menu.prompter.secret("Old password: "), menu.prompter.secret("New password: ")
    if menu.prompter.terminal and menu.prompter.secret("New password again: ") != new:
        menu.screen.line("The new passwords differ; nothing was changed")
        return
    if menu.check_passwords(old, new):
        menu.screen.line(f"Password changed for {menu.daemon.change_password(old, new)}")


def _command(command: str) -> Callable[[Menu], None]:
    """An entry that does what a command does."""

    def act(menu: Menu) -> None:
        commands.run(menu.context, Invocation("", command=command))

    return act


def _later(result: models.Result) -> None:
    """The menu replies when all is over."""


ENTRIES = (
    Entry("1", "upload a file", _upload),
    Entry("2", "download a file", _download),
    Entry("3", "log out", _logout),
    Entry("4", "files in the network", _command("files")),
    Entry("5", "search for a file", _search),
    Entry("6", "peers", _command("peers")),
    Entry("7", "this peer", _command("status")),
    Entry("8", "remove a file of mine", _remove),
    Entry("9", "change my password", _passwd),
)
