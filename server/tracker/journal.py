"""The last events worth showing to people: bounded, in memory. Decides nothing."""

import threading
from collections import deque
from typing import NamedTuple


class Placement(NamedTuple):
    """A copy that the tracker found a place for. `at` is server_time."""

    at: float
    name: str
    id: bytes
    size: int
    asker: str
    target: str
    why: str


class Journal:
    """The latest placements, newest last."""

    def __init__(self, length: int = 100) -> None:
        self._lock = threading.Lock()
        self._placements: deque[Placement] = deque(maxlen=length)

    def placed(self, placement: Placement) -> None:
        with self._lock:
            self._placements.append(placement)

    def placements(self) -> list[Placement]:
        with self._lock:
            return list(self._placements)
