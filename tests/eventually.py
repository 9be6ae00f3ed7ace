"""Waits for a condition with a timeout, in place of fixed sleeps."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], seconds: float = 30.0, every: float = 0.02) -> T:
    """Call `condition` until its result is true, and return that.

    The default timeout suits a busy machine. A shorter one is right only where the test claims a time.

    Args:
        seconds: timeout.
        every: seconds between two calls.

    Raises:
        AssertionError: if the condition is not true within the timeout; shows its last result.
    """
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {seconds} s: the last result was {result!r}")
        pause.wait(every)
