"""Waits for a condition with a deadline, so that no test sleeps and hopes."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], seconds: float = 10.0, every: float = 0.02) -> T:
    """Ask until the answer is true, and return it.

    Raises:
        AssertionError: if it is not true after `seconds`; it shows the last answer.
    """
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {seconds} s: the last answer was {answer!r}")
        pause.wait(every)
