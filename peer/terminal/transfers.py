"""The commands that move files: upload and download. Results are told as they come, a line or an object each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import PurePath

from terminal import model, reports
from terminal.arguments import Order
from terminal.errors import TerminalError
from terminal.exits import exit_code
from terminal.jobs import HOW_TO_RESUME, follow
from terminal.node_client import Watch
from terminal.screen import Screen
from terminal.session import Session, sendable

# So many files are told of one by one; of more than these the sum is told.
FEW = 10


def upload(session: Session, order: Order) -> int:
    """Share files and push them."""
    words = {absolute(word): word for word in order.words}
    paths, faults = sendable(list(words))

    def named(name: str) -> str:
        return words.get(name, name)

    return _transfer(session, order.words, faults, named, "uploading", lambda: session.node.upload(paths, order.copies))


def download(session: Session, order: Order) -> int:
    """Fetch files."""
    names, faults = sendable(order.words)
    output = _output(order.output)
    if sendable([output])[1]:
        raise TerminalError("bad_name", "--output should be a path in UTF-8", name=output)
    # What lies in the way of a copy outside is told of as its path.
    outside = os.path.join(PurePath(output), "") if "/" in output else ""

    def named(name: str) -> str:
        return name.removeprefix(outside)

    return _transfer(session, order.words, faults, named, "downloading", lambda: session.node.download(names, output))


def absolute(path: str) -> str:
    """The path for the pserver, which has another current folder.

    `..` stays as it is: after a link only the system knows where it leads.
    """
    return path if os.path.isabs(path) else os.path.join(os.getcwd(), path)


def _transfer(
    session: Session,
    words: list[str],
    faults: list[TerminalError],
    named: Callable[[str], str],
    verb: str,
    start: Callable[[], Watch],
) -> int:
    """`named` makes what the pserver calls a file what its user calls it."""
    for fault in faults:
        session.screen.fault(fault)
    if len(faults) == len(words):
        return exit_code(words, faults)
    teller = _Teller(session.screen, named)
    outcome = follow(session.node, start(), session.screen, verb, teller.tell)
    teller.sum_up()
    if outcome.interrupted:
        stopped = f"stopped by Ctrl-C; {HOW_TO_RESUME}"
        if session.screen.as_json:
            session.screen.fault(TerminalError("interrupted", stopped))
        else:
            session.screen.say(stopped)
    return exit_code(words, [*faults, *outcome.faults], interrupted=outcome.interrupted)


class _Teller:
    """Tells of results as they come: of the first few all there is to say, of the others where they are.

    The sum of many is told at the end.
    """

    def __init__(
        self, screen: Screen, named: Callable[[str], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._screen = screen
        self._named = named
        self._clock = clock
        self._began = clock()
        self._files: list[model.Downloaded | model.Uploaded] = []
        self._failed = 0

    def tell(self, result: model.Result) -> None:
        """Tell of one."""
        if isinstance(result, TerminalError):
            self._failed += 1
            result.name = self._named(result.name) if result.name else result.name
            self._screen.fault(result)
            return
        self._files.append(result)
        match result:
            case model.Downloaded() if self._screen.as_json:
                self._screen.data(reports.downloaded_object(result))
            case model.Downloaded():
                self._screen.line(result.path)
                if len(self._files) <= FEW:
                    self._screen.say(f"{result.name}: {reports.how_downloaded(result)}")
            case model.Uploaded() if self._screen.as_json:
                self._screen.data(reports.uploaded_object(result))
            case model.Uploaded():
                self._screen.line(f"File uploaded: {result.name} ({reports.how_uploaded(result)})")

    def sum_up(self) -> None:
        """Tell of all together, if they were many."""
        if len(self._files) > FEW and not self._screen.as_json:
            self._screen.say(reports.sum_of(self._files, self._failed, self._clock() - self._began))


def _output(text: str) -> str:
    """--output as the pserver takes it: a word is a name; a path is absolute, and keeps the / that means a folder."""
    if not text or ("/" not in text and text not in {".", ".."}):
        return text
    return absolute(text) + ("/" if text.endswith(("/.", "/..")) else "")
