"""Writes when sessions were last used, in a thread of its own: no request waits for such a write, or fails by it."""

import threading
from collections.abc import Callable, Mapping

from tracker.errors import TrackerError

# Seconds after the first change until it is written together with those that follow, and after a failure until a retry.
_DELAY, _RETRY_DELAY = 1.0, 60.0


class LastSeenWriter:
    """Collects times by token digest and writes them. Thread-safe."""

    def __init__(self, save: Callable[[Mapping[str, float]], None]) -> None:
        """Start the thread; `save` writes times, or raises TrackerError."""
        self._save = save
        self._lock = threading.Lock()
        self._unsaved: dict[str, float] = {}
        self._noted = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="last-seen", daemon=True)
        self._thread.start()

    def note(self, digest: str, time: float) -> None:
        """Remember when a session was used."""
        with self._lock:
            self._unsaved[digest] = time
        self._noted.set()

    def close(self) -> None:
        """Write what is left, and end the thread."""
        self._closed.set()
        self._noted.set()
        self._thread.join()

    def _run(self) -> None:
        delay = _DELAY
        while not self._closed.is_set():
            self._noted.wait()
            self._closed.wait(delay)
            self._noted.clear()
            delay = _DELAY if self._write() else _RETRY_DELAY
        self._write()

    def _write(self) -> bool:
        with self._lock:
            times, self._unsaved = self._unsaved, {}
        if not times:
            return True
        try:
            self._save(times)
        except TrackerError:
            # The store has logged it.
            with self._lock:
                self._unsaved = times | self._unsaved
            self._noted.set()
            return False
        return True
