"""Follows one transfer to its end, or until Ctrl-C. It shows progress and notices; results go to a callback.

While a transfer is followed, Ctrl-C is counted, and handled at the next event. A KeyboardInterrupt could be raised
before the cancel request is sent, and the transfer would go on while we report it as stopped. Two signals at once make
that likely: `timeout` signals a process, and then its group.
"""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from cli.daemon_client import DaemonClient, EventStream, StartTransfer
from cli.errors import CliError
from cli.progress import ProgressView
from cli.screen import Screen
from common.control_messages import Fault, Notice, Progress, Result, Started

# Seconds in which a cancelled transfer may still report results.
_CANCEL_TIMEOUT = 5.0
# Seconds after which a Ctrl-C that was not handled makes the next one a KeyboardInterrupt.
_STUCK_AFTER = 5.0


@dataclass
class Outcome:
    """What came of a transfer."""

    results: list[Result] = field(default_factory=list)
    interrupted: bool = False
    # Why the pserver could not be asked to cancel, so that the transfer still runs; empty otherwise.
    still_running_reason: str = ""

    @property
    def faults(self) -> list[Fault]:
        """The failures, in the order in which they were reported."""
        return [result for result in self.results if isinstance(result, Fault)]

    @property
    def not_cancelled(self) -> str:
        """The line for the user about a transfer that still runs after Ctrl-C."""
        return f"the transfer was not cancelled and still runs ({self.still_running_reason}); repeat it to follow it"


def follow(
    daemon: DaemonClient,
    prepare: Callable[[], StartTransfer],
    screen: Screen,
    verb: str,
    on_result: Callable[[Result], None] = lambda result: None,
) -> Outcome:
    """Start a transfer and follow it. Ctrl-C cancels the transfer and does not end pclient.

    Args:
        daemon: The pserver that runs the transfer.
        prepare: Connects to the pserver, which may be slow, and returns the function that sends the command.
        screen: Shows progress and notices.
        verb: What the phase MOVING is called: "downloading", "uploading".
        on_result: Called with each result as it arrives.

    Raises:
        CliError: from `prepare`.
        KeyboardInterrupt: for a Ctrl-C before the command is sent. The command is not sent then.
    """
    start = prepare()
    follower = _Follower(daemon, screen, on_result)
    with follower.interrupts.counting():
        if follower.interrupts.pending:
            raise KeyboardInterrupt
        try:
            follower.stream = stream = start()
            with screen.progress(verb) as view:
                follower.run(stream, view)
        except KeyboardInterrupt:
            follower.abort()
        finally:
            if follower.stream is not None:
                follower.stream.close()
    return follower.outcome


class InterruptCounter:
    """Counts Ctrl-C; `on_interrupt` is called at each one, inside the signal handler."""

    def __init__(self, on_interrupt: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._on_interrupt = on_interrupt
        self._clock = clock
        self._count = 0
        self._handled = 0
        self._first_pending = 0.0

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count Ctrl-C inside the block, where it would otherwise raise KeyboardInterrupt."""
        before = signal.getsignal(signal.SIGINT)
        # A shell's & makes us ignore Ctrl-C, and only the main thread handles signals.
        if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
            yield
            return
        signal.signal(signal.SIGINT, self._on_signal)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    @property
    def pending(self) -> bool:
        """Whether there was a Ctrl-C that is not acknowledged."""
        return self._count > self._handled

    def acknowledge(self) -> None:
        """Mark every Ctrl-C until now as handled: several at once count as one."""
        self._handled = self._count

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = self._clock()
        if not self.pending:
            self._first_pending = now
        elif now - self._first_pending > _STUCK_AFTER:
            raise KeyboardInterrupt
        self._count += 1
        self._on_interrupt()


class _Follower:
    def __init__(self, daemon: DaemonClient, screen: Screen, on_result: Callable[[Result], None]) -> None:
        self.outcome = Outcome()
        self.stream: EventStream | None = None
        self.interrupts = InterruptCounter(self._wake)
        self._daemon = daemon
        self._screen = screen
        self._on_result = on_result
        self._clock = time.monotonic
        self._transfer: int | None = None
        # The cancel request was sent, or failed.
        self._cancel_sent = False

    def run(self, stream: EventStream, view: ProgressView) -> None:
        try:
            self._run_until_end(stream, view)
        except queue.Empty:
            if not self._cancel_sent:
                self.outcome.still_running_reason = "the pserver does not answer"
        except CliError as error:
            self._add(Fault.of(error))

    def abort(self) -> None:
        """Record a KeyboardInterrupt: Ctrl-C outside `counting`, or one that was pending for too long."""
        self.outcome.interrupted = True
        if not self._cancel_sent:
            self.outcome.still_running_reason = "the cancel request was not sent"

    def _wake(self) -> None:
        if self.stream is not None:
            self.stream.wake()

    def _run_until_end(self, stream: EventStream, view: ProgressView) -> None:
        """Handle events. After Ctrl-C wait _CANCEL_TIMEOUT for results of files that were complete by then."""
        deadline: float | None = None
        while True:
            if self.interrupts.pending:
                if self._cancel_sent:
                    # A second Ctrl-C: wait no longer.
                    return
                if not self.outcome.interrupted:
                    self.outcome.interrupted = True
                    deadline = self._clock() + _CANCEL_TIMEOUT
            if self.outcome.interrupted and not self._cancel_sent:
                if self._transfer is not None:
                    self._cancel(self._transfer)
                    deadline = self._clock() + _CANCEL_TIMEOUT
                # All until now count as one; a Ctrl-C after the cancel request is a second one.
                self.interrupts.acknowledge()
            if self.outcome.still_running_reason:
                return
            left = None if deadline is None else max(0.0, deadline - self._clock())
            try:
                event = stream.next_event(left)
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
                    self._add(result)

    def _cancel(self, transfer: int) -> None:
        try:
            self._daemon.cancel(transfer)
        except CliError as error:
            # A transfer that ended in the meantime needs no cancel.
            if error.code != "no_such_file":
                self.outcome.still_running_reason = error.message
        self._cancel_sent = True

    def _add(self, result: Result) -> None:
        # After Ctrl-C the faults of the files that it stopped are expected.
        if self.outcome.interrupted and isinstance(result, Fault) and result.code == "interrupted":
            return
        self.outcome.results.append(result)
        self._on_result(result)
