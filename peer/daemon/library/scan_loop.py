"""The shared folder looked through again at each ping interval, and files hashed again that the tracker asks about."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence

from daemon.errors import Interrupted, PeerError
from daemon.library.scanner import Scanner
from daemon.runtime.executors import Threads

log = logging.getLogger(__name__)

# A scan that takes long is not begun again before it has been rested for so many times as long.
_REST = 10.0
# New files are hashed for so long before those that are ready are announced.
_PATIENCE = 2.0


class ScanLoop:
    """Runs scans, one at a time, until it is stopped."""

    def __init__(
        self,
        *,
        scanner: Scanner,
        threads: Threads,
        interval: float,
        clock: Callable[[], float],
        on_change: Callable[[], None],
    ) -> None:
        self._scanner = scanner
        self._threads = threads
        self._interval = interval
        self._clock = clock
        self._announce_soon = on_change
        self._stop = threading.Event()
        self._task: asyncio.Task[None] | None = None
        self._rechecks: set[asyncio.Task[None]] = set()

    async def initial_scan(self) -> None:
        """Take what lies in the folder and is known already; hashing what is new goes on in `run`."""
        await self._scan(patience=0.0)

    def start(self) -> None:
        """Begin to scan."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Stop scanning."""
        self._stop.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def recheck(self, ids: Sequence[str]) -> None:
        """Hash files again that somebody calls wrong."""
        task = asyncio.get_running_loop().create_task(self._recheck(ids))
        self._rechecks.add(task)
        task.add_done_callback(self._rechecks.discard)

    async def _run(self) -> None:
        while True:
            began = self._clock()
            more = await self._scan(patience=_PATIENCE)
            took = self._clock() - began
            await asyncio.sleep(0 if more else max(self._interval - took, (_REST - 1) * took))

    async def _scan(self, patience: float) -> bool:
        """Scan once; tell whether files are left to hash that are at rest."""
        try:
            scan = await self._threads.run(
                self._threads.disk, self._scanner.scan, stop=self._stop.is_set, hash_seconds=patience
            )
        except Interrupted:
            return False
        except PeerError as error:
            log.warning("the shared folder cannot be looked through: %s", error)
            return False
        except Exception:
            # Neither the start nor the next scan is to fail with this one.
            log.exception("looking through the shared folder failed in a way that nobody foresaw")
            return False
        if scan.indexed or scan.removed:
            log.info("shared folder: %d files taken, %d withdrawn", scan.indexed, scan.removed)
            self._announce_soon()
        return scan.unhashed > 0

    async def _recheck(self, ids: Sequence[str]) -> None:
        try:
            wrong = await self._threads.run(self._threads.disk, self._scanner.recheck, ids, stop=self._stop.is_set)
        except PeerError as error:
            log.warning("files cannot be hashed again: %s", error)
            return
        if wrong:
            self._announce_soon()
