"""The commands on files: upload, download and remove. Each result is shown as it arrives, as a line or JSON object."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import PurePath
from typing import NamedTuple

from cli import render
from cli.arguments import Invocation
from cli.context import Context, require_utf8
from cli.daemon_client import StartTransfer
from cli.errors import CTRL_C, OK, CliError, bad_usage, exit_code
from cli.screen import Screen
from cli.transfer_follower import follow
from common import formatting
from common.control_messages import Downloaded, Fault, Removed, Result, Uploaded

# Details are shown for this many results; for more, only their sum.
MAX_LISTED = 10


class Sent(NamedTuple):
    """The arguments of a command as they go to the pserver, in the same order as `positions`."""

    values: list[str]
    # For each value, the index of its argument in the command line.
    positions: list[int]
    # The arguments that cannot be sent. The index in `Fault.arguments` is that in the command line.
    faults: list[Fault]


def upload(context: Context, invocation: Invocation) -> int:
    """Share files and push copies to other peers; return the exit code."""
    sent = _sendable(invocation.arguments, _resolve_folder)
    printer = _ResultPrinter(context.screen, invocation.arguments, sent)
    start = partial(context.daemon.upload, sent.values, invocation.copies, link=invocation.link)
    return _transfer(context, sent, printer, "uploading", start)


def download(context: Context, invocation: Invocation) -> int:
    """Download files; return the exit code."""
    sent = _sendable(invocation.arguments)
    output = require_utf8(_absolute_output(invocation.output))
    # cp would write into the folder.
    if "/" not in output and os.path.isdir(output) and not context.screen.as_json:
        context.screen.info(
            f"{output} is used as a name in the shared folder; for the folder ./{output} write {output}/"
        )
    printer = _ResultPrinter(context.screen, invocation.arguments, sent, output)
    start = partial(context.daemon.download, sent.values, output, newest=invocation.newest)
    return _transfer(context, sent, printer, "downloading", start)


def remove(context: Context, invocation: Invocation) -> int:
    """Delete own copies; return the exit code."""
    sent = _sendable(invocation.arguments)
    if sent.values and not invocation.yes:
        if not context.prompter.interactive or context.screen.as_json:
            raise bad_usage("remove: confirmation needed; pass --yes")
        if not confirm_removal(context, sent.values):
            return OK
    printer = _ResultPrinter(context.screen, invocation.arguments, sent)
    start = partial(context.daemon.remove, sent.values)
    return _transfer(context, sent, printer, "removing", start, "run the same command again to remove the rest")


def confirm_removal(context: Context, names: Sequence[str]) -> bool:
    """Ask the user on the terminal; if the answer is no, a line says that nothing was removed."""
    if any(map(may_match_many, names)):
        copies = "this peer's copies of all files that match " + " ".join(names)
    elif len(names) == 1:
        copies = f"this peer's copy of {names[0]}"
    else:
        copies = f"this peer's copies of {len(names):,} files"
    confirmed = context.prompter.confirm(f"Remove {copies}?")
    if not confirmed:
        context.screen.info("nothing was removed")
    return confirmed


def may_match_many(name: str) -> bool:
    """Whether a name may mean more than one file: a pattern, or a folder."""
    return name.endswith("/") or "*" in name or "?" in name


def absolute_path(path: str) -> str:
    """The absolute path: the pserver has another current folder.

    `..` is kept: after a symbolic link only the system knows where it leads.

    Raises:
        CliError: bad_usage, if `path` is relative and the current folder was removed.
    """
    if os.path.isabs(path):
        return path
    try:
        return os.path.join(os.getcwd(), path)
    except FileNotFoundError as error:
        raise bad_usage(f"{path}: the current folder was removed; give an absolute path") from error


def _resolve_folder(word: str) -> str:
    """The absolute path with the links of its folder resolved, so that a file has one path."""
    path = absolute_path(word)
    folder, leaf = os.path.split(path)
    if leaf in {"", ".", ".."}:
        return path
    try:
        return os.path.join(os.path.realpath(folder, strict=True), leaf)
    except OSError:
        # The pserver reports what is wrong.
        return path


def _absolute_output(text: str) -> str:
    """--output for the pserver: a name, or an absolute path with the / that means a folder."""
    if not text or ("/" not in text and text not in {".", ".."}):
        return text
    return absolute_path(text) + ("/" if text.endswith(("/.", "/..")) else "")


def _sendable(words: Sequence[str], convert: Callable[[str], str] = lambda word: word) -> Sent:
    """Convert the arguments of a command; those that are empty or not UTF-8 become faults."""
    sent = Sent([], [], [])
    for position, word in enumerate(words):
        try:
            if not word:
                raise CliError("bad_name", "a name should not be empty")
            sent.values.append(require_utf8(convert(require_utf8(word))))
            sent.positions.append(position)
        except CliError as error:
            if error.code != "bad_name":
                raise
            sent.faults.append(Fault(error.code, error.message, word, arguments=(position,)))
    return sent


def _transfer(
    context: Context,
    sent: Sent,
    printer: _ResultPrinter,
    verb: str,
    prepare: Callable[[], StartTransfer],
    after_cancel: str = "verified data is kept; run the same command again to resume",
) -> int:
    """Show the faults that are known already; run the transfer if an argument is left. Return the exit code."""
    for fault in sent.faults:
        printer.show_fault(fault, fault.arguments)
    if not sent.values:
        return printer.exit_code
    outcome = follow(context.daemon, prepare, context.screen, verb, printer.show)
    printer.show_summary()
    if not outcome.interrupted:
        return printer.exit_code
    message = f"Ctrl-C; {outcome.not_cancelled}" if outcome.still_running_reason else f"cancelled; {after_cancel}"
    if context.screen.as_json:
        context.screen.fault(CliError("interrupted", message))
    else:
        context.screen.info(message)
    return CTRL_C


class _ResultPrinter:
    """Shows results as they arrive: details for the first few, then only names, and a summary of many.

    In JSON there is one object for each argument that names the file exactly, and at least one for each file.
    """

    def __init__(
        self,
        screen: Screen,
        words: Sequence[str],
        sent: Sent,
        output: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a printer.

        Args:
            screen: Where results are shown.
            words: The arguments as the user wrote them.
            sent: The arguments as they go to the pserver.
            output: --output; names in faults are relative to it if it is a folder.
            clock: Seconds, for the summary.
        """
        self._screen = screen
        self._words = words
        self._positions = sent.positions
        self._values = dict(zip(sent.positions, sent.values, strict=True))
        self._output_folder = os.path.join(PurePath(output), "") if "/" in output else ""
        self._clock = clock
        self._started = clock()
        self._files: list[Downloaded | Uploaded | Removed] = []
        self._failed = 0
        # The position of the first argument that failed, and its exit code.
        self._first_failure: tuple[int, int] | None = None

    @property
    def exit_code(self) -> int:
        """The exit code of the first argument that failed, in the order of the command line."""
        return self._first_failure[1] if self._first_failure else OK

    def show(self, result: Result) -> None:
        """Show a result of the pserver."""
        positions = tuple(self._positions[index] for index in result.arguments)
        if isinstance(result, Fault):
            self.show_fault(result, positions)
            return
        self._files.append(result)
        if self._screen.as_json:
            for _ in self._named_by(positions, result.name) or (None,):
                self._screen.data(render.result_object(result))
        elif isinstance(result, Uploaded):
            self._screen.line(f"File uploaded: {result.name} ({render.upload_details(result)})")
        elif isinstance(result, Removed):
            self._screen.line(f"File removed: {result.name} ({formatting.size(result.size)})")
        else:
            self._screen.line(result.path)
            if len(self._files) <= MAX_LISTED:
                self._screen.info(f"{result.name}: {render.download_details(result)}")

    def show_fault(self, fault: Fault, positions: Sequence[int]) -> None:
        """Show a fault.

        Args:
            fault: The failure of a file or argument.
            positions: Indexes, in the command line, of the arguments that mean it; may be empty.
        """
        self._failed += 1
        first = min(positions, default=len(self._words))
        if self._first_failure is None or first < self._first_failure[0]:
            self._first_failure = first, exit_code(fault)
        named_by = self._named_by(positions, fault.name)
        names = [self._name_of(fault, position) for position in named_by] or [fault.name]
        for name in names if self._screen.as_json else names[:1]:
            self._screen.fault(CliError(fault.code, fault.message, name=name, ids=fault.ids, hint=fault.hint))

    def _named_by(self, positions: Sequence[int], name: str) -> Sequence[int]:
        """The arguments that have an object for this file: those that name it exactly, or else the first one.

        A folder or pattern that also means the file adds no object.
        """

        def is_exact(value: str) -> bool:
            if os.path.isabs(value):
                return value == name or value.endswith("/" + name)
            return not may_match_many(value)

        return [each for each in positions if is_exact(self._values.get(each, ""))] or positions[:1]

    def _name_of(self, fault: Fault, position: int) -> str:
        """The user's word for what failed: the argument itself, or the name of a file of it."""
        if not fault.name or fault.name == self._values.get(position):
            return self._words[position]
        return fault.name.removeprefix(self._output_folder)

    def show_summary(self) -> None:
        """Show the sum of the results, if there were many."""
        if len(self._files) > MAX_LISTED and not self._screen.as_json:
            self._screen.info(render.summary(self._files, self._failed, self._clock() - self._started))
