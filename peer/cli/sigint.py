"""Ctrl-C while an order is given and followed: noted, and heard at the next event. Knows no transfer.

An exception could strike between any two steps, so also before the pserver is told to stop: then the job would go on
while we say that it was stopped. Two signals at once (`timeout` signals a process and then its group) make that likely.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# Whoever does not look at a Ctrl-C within so many seconds is stuck: the next one breaks in.
_PATIENCE = 5.0


class InterruptCounter:
    """Counts Ctrl-C; `wake` is called at each, inside the signal's handler."""

    def __init__(self, wake: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._wake = wake
        self._clock = clock
        self._noted = 0
        self._heard = 0
        self._first = 0.0

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Note Ctrl-C for the length of the block, where it would be a KeyboardInterrupt."""
        before = signal.getsignal(signal.SIGINT)
        # A shell's & has us ignore it; only the main thread hears it.
        if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
            yield
            return
        signal.signal(signal.SIGINT, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    @property
    def pending(self) -> bool:
        """Whether there was one that was not heard."""
        return self._noted > self._heard

    def acknowledge(self) -> None:
        """Take all until now as heard: those that came together are one."""
        self._heard = self._noted

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = self._clock()
        if not self.pending:
            self._first = now
        elif now - self._first > _PATIENCE:
            raise KeyboardInterrupt
        self._noted += 1
        self._wake()
