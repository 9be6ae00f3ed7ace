"""One transfer followed from its start to its end, or to Ctrl-C. Shows progress only; results go to whoever asked."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from terminal.errors import TerminalError
from terminal.model import Notice, Progress, Result, Started
from terminal.progress import View
from terminal.screen import Screen

if TYPE_CHECKING:
    from terminal.node_client import NodeClient, Watch

# How long a cancelled transfer may take to say what became of its files, in seconds.
_LAST_WORDS = 5.0

HOW_TO_RESUME = "what was verified is kept; run it again to resume"


@dataclass
class Outcome:
    """What came of a transfer."""

    results: list[Result] = field(default_factory=list)
    interrupted: bool = False

    @property
    def faults(self) -> list[TerminalError]:
        """What failed, in the order it was told."""
        return [result for result in self.results if isinstance(result, TerminalError)]


def follow(node: NodeClient, watch: Watch, screen: Screen, verb: str, show: Callable[[Result], None]) -> Outcome:
    """Follow a transfer; `show` gets each result as it comes. Ctrl-C cancels the transfer, not the terminal."""
    job = _Job(node, watch, screen, show)
    try:
        with screen.progress(verb) as view:
            job.run(view)
    finally:
        watch.close()
    return job.outcome


class _Job:
    def __init__(self, node: NodeClient, watch: Watch, screen: Screen, show: Callable[[Result], None]) -> None:
        self.outcome = Outcome()
        self._node = node
        self._watch = watch
        self._screen = screen
        self._show = show
        self._transfer: int | None = None

    def run(self, view: View) -> None:
        try:
            self._until_the_end(view, None)
            if not self.outcome.results:
                # An upload of an empty folder; of anything else the pserver tells what became of it.
                self._screen.say("nothing to share: there is no regular file in it")
        except KeyboardInterrupt:
            self.outcome.interrupted = True
            self._cancel(view)
        except TerminalError as error:
            self._result(error)

    def _until_the_end(self, view: View, seconds: float | None) -> None:
        while True:
            try:
                event = self._watch.next_within(seconds)
            except StopIteration:
                return
            match event:
                case Started(transfer):
                    self._transfer = transfer
                    if self.outcome.interrupted:
                        self._node.cancel(transfer)
                case Progress():
                    view.show(event)
                case Notice(text):
                    self._screen.say(text)
                case result:
                    self._result(result)

    def _cancel(self, view: View) -> None:
        """Tell the pserver, and hear of files that were done by then. A second Ctrl-C waits for nothing."""
        try:
            if self._transfer is not None:
                self._node.cancel(self._transfer)
            self._until_the_end(view, _LAST_WORDS)
        except (queue.Empty, KeyboardInterrupt, TerminalError):
            return

    def _result(self, result: Result) -> None:
        # After Ctrl-C the files that it stopped are no news.
        if self.outcome.interrupted and isinstance(result, TerminalError) and result.code == "interrupted":
            return
        self.outcome.results.append(result)
        self._show(result)
