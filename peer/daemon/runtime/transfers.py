"""The running transfers: their progress, their results, and the callers that watch them. No network or disk I/O.

A transfer belongs to the pserver and continues without a watcher.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from common.control_messages import Event, Fault, Hint, Notice, Phase, Progress, SourceView
from daemon.errors import Interrupted, NoSuchFile, PeerError
from daemon.runtime.metrics import Rate

log = logging.getLogger(__name__)

# Seconds between two progress messages to a watcher.
PROGRESS_INTERVAL = 0.2
# The most events that a watcher gets at once.
_MAX_EVENTS_AT_ONCE = 500


@dataclass(slots=True)
class Counters:
    """The progress of a transfer, updated by its work. `done` and `total` are bytes of the current phase."""

    phase: Phase = Phase.PREPARING
    name: str = ""
    done: int = 0
    total: int = 0
    files_done: int = 0
    files_total: int = 0


class Transfer:
    """One transfer. Its work updates `counters` and emits events; watchers read both."""

    def __init__(self, number: int, kind: str, clock: Callable[[], float], request_key: Hashable = None) -> None:
        """Make a transfer.

        Args:
            number: identifies it while this process runs.
            kind: "upload", "download", "removal", "push" or "serving".
            clock: returns seconds that never go back.
            request_key: identifies the same command given again; None for a transfer of another peer.
        """
        self.number = number
        self.request_key = request_key
        self.kind = kind
        self.counters = Counters()
        self.finished = False
        # "done", "failed" if any of its files failed, or "cancelled".
        self.outcome = "done"
        # Why it was stopped; empty while it runs.
        self.stop_reason = ""
        self._clock = clock
        self._sources: dict[int, Callable[[], Iterable[SourceView]]] = {}
        self._keys = itertools.count()
        # All events so far: every watcher starts with the first one.
        self._events: list[Event] = []
        self._watchers: set[asyncio.Event] = set()
        self._rate = Rate(clock)
        self.task: asyncio.Task[None] | None = None

    def emit(self, *events: Event) -> None:
        """Send events to the watchers."""
        for event in events:
            if not isinstance(event, Notice):
                self.counters.files_done += 1
            if isinstance(event, Fault):
                self.outcome = "failed"
        self._events += events
        self._wake()

    def add_bytes(self, size: int) -> None:
        """Count `size` bytes that were sent or received now."""
        self.counters.done += size
        self._rate.add(size)

    def add_resumed_bytes(self, size: int) -> None:
        """Count `size` bytes of an earlier try. They count as done, but not in the rate."""
        self.counters.done += size

    def start_phase(self, phase: Phase, name: str = "", total: int = 0) -> None:
        """Start a phase: `done` and the rate begin at zero. `total` is in bytes."""
        counters = self.counters
        counters.phase, counters.name, counters.done, counters.total = phase, name, 0, total
        self._rate = Rate(self._clock)

    @contextmanager
    def show_sources(self, sources: Callable[[], Iterable[SourceView]]) -> Iterator[None]:
        """Show `sources` in the progress while the block runs."""
        key = next(self._keys)
        self._sources[key] = sources
        try:
            yield
        finally:
            del self._sources[key]

    @property
    def rate(self) -> float:
        """Bytes per second, over the last few seconds."""
        return self._rate.now()

    def progress(self) -> Progress:
        """Return the progress now."""
        c = self.counters
        sources = tuple(view for views in list(self._sources.values()) for view in views())
        # With no source left, the last rate would give a wrong remaining time.
        rate = 0.0 if c.phase is Phase.WAITING else self._rate.now()
        return Progress(c.phase, c.name, c.done, c.total, c.files_done, c.files_total, rate, sources)

    async def watch(self) -> AsyncIterator[Progress | list[Event]]:
        """Yield lists of events, from the first event on, and progress between them, until the transfer ends."""
        changed = asyncio.Event()
        self._watchers.add(changed)
        cursor = 0
        try:
            yield self.progress()
            while True:
                changed.clear()
                if events := self._events[cursor : cursor + _MAX_EVENTS_AT_ONCE]:
                    cursor += len(events)
                    yield events
                elif self.finished:
                    return
                else:
                    try:
                        async with asyncio.timeout(PROGRESS_INTERVAL):
                            await changed.wait()
                    except TimeoutError:
                        yield self.progress()
        finally:
            self._watchers.discard(changed)

    def stop(self, why: str) -> None:
        """Cancel the transfer, if it has a task of its own. `why` becomes the message of its fault."""
        if self.task is not None:
            self.stop_reason = self.stop_reason or why
            self.task.cancel()

    def finish(self) -> None:
        """Mark the transfer as finished: its watchers end after the last event."""
        self.finished = True
        self._wake()

    def _wake(self) -> None:
        for watcher in self._watchers:
            watcher.set()


class TransferRegistry:
    """All running transfers."""

    def __init__(
        self, clock: Callable[[], float], on_finished: Callable[[str, str], None] = lambda kind, outcome: None
    ) -> None:
        """Make an empty registry.

        Args:
            clock: returns seconds that never go back.
            on_finished: called with the kind and the outcome of each finished transfer.
        """
        self._clock = clock
        self._on_end = on_finished
        self._numbers = itertools.count(1)
        self._transfers: dict[int, Transfer] = {}

    def __iter__(self) -> Iterator[Transfer]:
        return iter(list(self._transfers.values()))

    def count(self, *kinds: str) -> int:
        """Return the number of running transfers of these kinds."""
        return sum(transfer.kind in kinds for transfer in self._transfers.values())

    def find(self, kind: str, request_key: Hashable) -> Transfer | None:
        """Return the running transfer with this kind and key; None if there is none, or it was stopped."""
        for transfer in self._transfers.values():
            if (transfer.kind, transfer.request_key) == (kind, request_key) and not transfer.stop_reason:
                return transfer
        return None

    def start(self, kind: str, work: Callable[[Transfer], Awaitable[None]], request_key: Hashable = None) -> Transfer:
        """Run `work` as a transfer in a task of its own, which continues without a watcher.

        Args:
            kind: the kind of the transfer.
            work: does the transfer. A PeerError that it raises becomes a fault.
            request_key: what `find` finds the transfer by.
        """
        transfer = self.register(kind, request_key)
        transfer.task = asyncio.get_running_loop().create_task(self._run(transfer, work))
        transfer.task.add_done_callback(lambda task: self._on_task_done(transfer, task))
        return transfer

    def register(self, kind: str, request_key: Hashable = None) -> Transfer:
        """Add a transfer that runs in the caller's task. The caller must `finish` it."""
        transfer = Transfer(next(self._numbers), kind, self._clock, request_key)
        self._transfers[transfer.number] = transfer
        return transfer

    def finish(self, transfer: Transfer) -> None:
        """Remove a transfer and end its watchers."""
        if self._transfers.pop(transfer.number, None) is not None:
            self._on_end(transfer.kind, transfer.outcome)
        transfer.finish()

    def get(self, number: int) -> Transfer:
        """Return a running transfer. Raises NoSuchFile if there is none of this number."""
        try:
            return self._transfers[number]
        except KeyError:
            raise NoSuchFile(f"transfer {number} is not running") from None

    def cancel(self, number: int) -> None:
        """Stop a transfer for a pclient. Raises NoSuchFile if there is none of this number."""
        self.get(number).stop("stopped by Ctrl-C in another pclient")

    async def cancel_all(self) -> None:
        """Stop every transfer that has a task of its own, and wait until it has ended."""
        tasks = [transfer.task for transfer in self._transfers.values() if transfer.task is not None]
        for transfer in self:
            transfer.stop("stopped because this peer logged out or shut down")
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, transfer: Transfer, work: Callable[[Transfer], Awaitable[None]]) -> None:
        try:
            await work(transfer)
        except PeerError as error:
            transfer.emit(Fault.of(error))
        except Exception:
            log.exception("unexpected error in transfer")
            transfer.emit(Fault.of(PeerError()))

    def _on_task_done(self, transfer: Transfer, task: asyncio.Task[None]) -> None:
        """Finish a transfer. `_run` cannot do this: it never runs in a task that is cancelled at once."""
        if task.cancelled():
            hint = Hint.REPEAT if transfer.kind == "removal" else Hint.RESUME
            transfer.emit(Fault.of(Interrupted(transfer.stop_reason or "stopped", hint=hint)))
            transfer.outcome = "cancelled"
        self.finish(transfer)
