"""The scan loop: scans the shared folder at each ping interval, and confirms unconfirmed files meanwhile.

It also rechecks files that the tracker asks about.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from daemon.errors import Interrupted, PeerError
from daemon.library.confirmer import Confirmer
from daemon.library.scanner import Scanner
from daemon.runtime.concurrency import PeriodicTask, TaskSet, Threads

log = logging.getLogger(__name__)

T = TypeVar("T")

# From the start of one scan to the start of the next at least this many times its duration passes. So scans take at
# most a tenth of the time, also if a scan is longer than the interval.
_MIN_PERIOD_IN_SCANS = 10.0
# A scan hashes new files for this many seconds. Then the hashed files are announced, and the next scan hashes more.
_HASH_SECONDS = 2.0
# Unconfirmed files are read for so many seconds, then for as long not: a changed mode of all files must not slow down
# the transfers, and the files are served meanwhile.
_CONFIRM_SECONDS = 1.0


class ScanLoop:
    """Runs one scan after the other until it is stopped.

    Args:
        scanner: does the scans and rechecks.
        confirmer: confirms files.
        threads: runs them.
        interval: seconds from the start of one scan to the start of the next; more if scans are slow.
        clock: returns seconds that never go back.
        on_change: called when the library changed.
    """

    def __init__(
        self,
        *,
        scanner: Scanner,
        confirmer: Confirmer,
        threads: Threads,
        interval: float,
        clock: Callable[[], float],
        on_change: Callable[[], None],
    ) -> None:
        self._scanner = scanner
        self._confirmer = confirmer
        self._threads = threads
        self._interval = interval
        self._clock = clock
        self._on_change = on_change
        self._stop = threading.Event()
        self._loop = PeriodicTask(self._step)
        self._confirming = PeriodicTask(self._confirm)
        self._rechecks = TaskSet()

    async def initial_scan(self) -> None:
        """Add the files that the manifest cache knows to the library. New files are hashed after `start`."""
        await self._scan(hash_seconds=0.0)

    def start(self) -> None:
        """Start the loop with a scan."""
        self._loop.start()

    async def stop(self) -> None:
        """Stop the loop, the confirming and the rechecks. What runs in a thread ends soon."""
        self._stop.set()
        await self._loop.stop()
        await self._confirming.stop()
        await self._rechecks.cancel()

    def recheck(self, ids: Sequence[str]) -> None:
        """Hash all files with these ids again, in the background: another peer reported them as corrupt."""
        self._rechecks.start(self._recheck(ids))

    async def _step(self) -> float:
        """Scan once; return the seconds until the next scan."""
        began = self._clock()
        files_left = await self._scan(hash_seconds=_HASH_SECONDS)
        took = self._clock() - began
        self._confirming.start()
        return 0.0 if files_left else max(self._interval - took, (_MIN_PERIOD_IN_SCANS - 1) * took)

    async def _scan(self, hash_seconds: float) -> bool:
        """Scan once; return whether unchanging files are left to hash."""
        scan = await self._run(
            "scan the shared folder", partial(self._scanner.scan, stop=self._stop.is_set, hash_seconds=hash_seconds)
        )
        if scan is None:
            return False
        if scan.indexed or scan.removed:
            log.info("shared folder: %d files added, %d removed", scan.indexed, scan.removed)
            self._on_change()
        return scan.unhashed > 0

    async def _confirm(self) -> float | None:
        """Confirm some files; return the seconds until the next ones, or None if there are none."""
        began = self._clock()
        confirmed = await self._run(
            "confirm files", partial(self._confirmer.confirm_some, stop=self._stop.is_set, seconds=_CONFIRM_SECONDS)
        )
        if confirmed is None:
            return None
        if confirmed.unchanged or confirmed.changed:
            log.info("read files again: %d unchanged, %d with new ids", confirmed.unchanged, confirmed.changed)
        if confirmed.changed:
            self._on_change()
        return self._clock() - began if confirmed.more else None

    async def _run(self, action: str, work: Callable[[], T]) -> T | None:
        """Do blocking work in a thread; return None if it was stopped or failed, which is logged."""
        try:
            return await self._threads.run(self._threads.disk, work)
        except Interrupted:
            return None
        except PeerError as error:
            log.warning("cannot %s: %s", action, error)
        except Exception:
            # Neither the start of the pserver nor the next work of this loop should fail because of this one.
            log.exception("unexpected error: cannot %s", action)
        return None

    async def _recheck(self, ids: Sequence[str]) -> None:
        try:
            corrupt = await self._threads.run(self._threads.disk, self._confirmer.recheck, ids, stop=self._stop.is_set)
        except PeerError as error:
            log.warning("cannot recheck files: %s", error)
            return
        if corrupt:
            self._on_change()
