"""The commands that move files: upload and download. Results are told as they come, a line or an object each."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from terminal import model, reports
from terminal.arguments import Order
from terminal.errors import TerminalError
from terminal.exits import exit_code
from terminal.jobs import HOW_TO_RESUME, follow
from terminal.meaning import Meaning, absolute, by_path, of_names, of_paths
from terminal.node_client import Watch
from terminal.screen import Screen
from terminal.session import Session, not_empty, sendable

# So many files are told of one by one; of more than these the sum is told.
FEW = 10


def upload(session: Session, order: Order) -> int:
    """Share files and push them."""
    given, empty = not_empty(order.words)
    words = by_path(given)
    paths, faults = sendable(list(words))
    teller = _Teller(session.screen, of_paths(words))
    start = partial(session.node.upload, paths, order.copies) if paths else None
    return _transfer(session, order.words, [*empty, *faults], teller, "uploading", start)


def download(session: Session, order: Order) -> int:
    """Fetch files."""
    given, empty = not_empty(order.words)
    names, faults = sendable(given)
    output = _output(order.output)
    if sendable([output])[1]:
        raise TerminalError("bad_name", "--output should be a path in UTF-8", name=output)
    teller = _Teller(session.screen, of_names(names, output))
    start = partial(session.node.download, names, output) if names else None
    return _transfer(session, order.words, [*empty, *faults], teller, "downloading", start)


def _transfer(
    session: Session,
    words: list[str],
    faults: list[TerminalError],
    teller: _Teller,
    verb: str,
    start: Callable[[], Watch] | None,
) -> int:
    """Tell the faults that are known already, and follow what is to be started, if there is anything."""
    for fault in faults:
        teller.tell(fault)
    if start is None:
        return exit_code(words, faults)
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

    The sum of many is told at the end. In JSON each is told for each argument that means it.
    """

    def __init__(self, screen: Screen, meaning: Meaning, clock: Callable[[], float] = time.monotonic) -> None:
        self._screen = screen
        self._meaning = meaning
        self._clock = clock
        self._began = clock()
        self._files: list[model.Downloaded | model.Uploaded] = []
        self._failed = 0

    def tell(self, result: model.Result) -> None:
        """Tell of one; a fault is given the name that its user knows."""
        names = self._meaning(result)
        if isinstance(result, TerminalError):
            self._failed += 1
            for name in names if self._screen.as_json else names[:1]:
                self._screen.fault(TerminalError(result.code, result.message, name=name or None, ids=result.ids))
            result.name = names[0]
            return
        self._files.append(result)
        if self._screen.as_json:
            for _ in names:
                self._screen.data(reports.result_object(result))
        elif isinstance(result, model.Uploaded):
            self._screen.line(f"File uploaded: {result.name} ({reports.how_uploaded(result)})")
        else:
            self._screen.line(result.path)
            if len(self._files) <= FEW:
                self._screen.say(f"{result.name}: {reports.how_downloaded(result)}")

    def sum_up(self) -> None:
        """Tell of all together, if they were many."""
        if len(self._files) > FEW and not self._screen.as_json:
            self._screen.say(reports.sum_of(self._files, self._failed, self._clock() - self._began))


def _output(text: str) -> str:
    """--output as the pserver takes it: a word is a name; a path is absolute, and keeps the / that means a folder."""
    if not text or ("/" not in text and text not in {".", ".."}):
        return text
    return absolute(text) + ("/" if text.endswith(("/.", "/..")) else "")
