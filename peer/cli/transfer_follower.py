"""One transfer followed from its start to its end, or to Ctrl-C. Shows progress only; results go to whoever asked."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cli.errors import CliError
from cli.models import Notice, Progress, Result, Started
from cli.progress import ProgressView
from cli.screen import Screen
from cli.sigint import InterruptCounter

if TYPE_CHECKING:
    from cli.daemon_client import DaemonClient, EventStream, StartTransfer

# How long a cancelled transfer may take to say what became of its files, in seconds.
_LAST_WORDS = 5.0


@dataclass
class Outcome:
    """What came of a transfer."""

    results: list[Result] = field(default_factory=list)
    interrupted: bool = False
    # Why the pserver could not be told to stop, so that the transfer goes on; "" if it could.
    still_running_reason: str = ""

    @property
    def faults(self) -> list[CliError]:
        """What failed, in the order it was told."""
        return [result for result in self.results if isinstance(result, CliError)]

    @property
    def not_stopped(self) -> str:
        """What to tell people of a transfer that goes on after Ctrl-C."""
        return f"the transfer could not be stopped and goes on ({self.still_running_reason}): run it again to follow it"


def follow(
    node: DaemonClient, ready: Callable[[], StartTransfer], screen: Screen, verb: str, show: Callable[[Result], None]
) -> Outcome:
    """Give an order and follow its transfer; `show` gets each result as it comes. Ctrl-C cancels it, not the terminal.

    `ready` finds the pserver, which may take long.

    Raises:
        TerminalError: of `ready`.
        KeyboardInterrupt: at a Ctrl-C before the order is given; it is not given then.
    """
    send = ready()
    job = _Job(node, screen, show)
    with job.interrupts.counting():
        if job.interrupts.pending:
            raise KeyboardInterrupt
        try:
            job.watch = watch = send()
            with screen.progress(verb) as view:
                job.run(watch, view)
        except KeyboardInterrupt:
            job.broken_off()
        finally:
            if job.watch is not None:
                job.watch.close()
    return job.outcome


class _Job:
    def __init__(self, node: DaemonClient, screen: Screen, show: Callable[[Result], None]) -> None:
        self.outcome = Outcome()
        self.watch: EventStream | None = None
        self.interrupts = InterruptCounter(self._wake)
        self._node = node
        self._screen = screen
        self._show = show
        self._clock = time.monotonic
        self._transfer: int | None = None
        # The pserver was told to stop, or could not be.
        self._told = False

    def run(self, watch: EventStream, view: ProgressView) -> None:
        try:
            self._until_the_end(watch, view)
        except queue.Empty:
            if not self._told:
                self.outcome.still_running_reason = "the pserver does not answer"
        except CliError as error:
            self._result(error)

    def broken_off(self) -> None:
        """Ctrl-C struck where it was not noted, or was not heard for long."""
        self.outcome.interrupted = True
        if not self._told:
            self.outcome.still_running_reason = "the pserver was not told"

    def _wake(self) -> None:
        if self.watch is not None:
            self.watch.wake()

    def _until_the_end(self, watch: EventStream, view: ProgressView) -> None:
        """Show what comes. After Ctrl-C only what comes soon: files that were done by then."""
        deadline: float | None = None
        while True:
            if self.interrupts.pending:
                if self._told:
                    # One more: nothing is waited for.
                    return
                if not self.outcome.interrupted:
                    self.outcome.interrupted = True
                    deadline = self._clock() + _LAST_WORDS
            if self.outcome.interrupted and not self._told:
                if self._transfer is not None:
                    self._cancel(self._transfer)
                    deadline = self._clock() + _LAST_WORDS
                # Those until now are one; what comes after the pserver was told is one more.
                self.interrupts.acknowledge()
            if self.outcome.still_running_reason:
                return
            left = None if deadline is None else max(0.0, deadline - self._clock())
            try:
                event = watch.next_event(left)
            except StopIteration:
                return
            match event:
                case None:
                    continue
                case Started(transfer):
                    self._transfer = transfer
                case Progress():
                    view.show(event)
                case Notice(text):
                    self._screen.info(text)
                case result:
                    self._result(result)

    def _cancel(self, transfer: int) -> None:
        try:
            self._node.cancel(transfer)
        except CliError as error:
            # One that has ended meanwhile needs no stopping.
            if error.code != "no_such_file":
                self.outcome.still_running_reason = error.message
        self._told = True

    def _result(self, result: Result) -> None:
        # After Ctrl-C the files that it stopped are no news.
        if self.outcome.interrupted and isinstance(result, CliError) and result.code == "interrupted":
            return
        self.outcome.results.append(result)
        self._show(result)
