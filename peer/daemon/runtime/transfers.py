"""The transfers under way, their progress, and those who watch them.

A transfer belongs to the pserver: watchers come and go.

Knows neither the network nor the disk.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from common.control_messages import Event, Fault, Notice, Phase, Progress, SourceView
from daemon.errors import Interrupted, NoSuchFile, PeerError
from daemon.runtime.rate import Rate

log = logging.getLogger(__name__)

# How often a watcher is told of progress, in seconds.
PROGRESS_INTERVAL = 0.2
# Results are told in lists of at most this many.
_MAX_EVENTS_AT_ONCE = 500


@dataclass(slots=True)
class Counters:
    """What the work of a transfer keeps up to date."""

    phase: Phase = Phase.PREPARING
    name: str = ""
    done: int = 0
    total: int = 0
    files_done: int = 0
    files_total: int = 0


class Transfer:
    """A transfer under way. The work writes `counters` and tells events; watchers read."""

    def __init__(self, number: int, kind: str, clock: Callable[[], float], request_key: Hashable = None) -> None:
        self.number = number
        # What was ordered, to know the same order again; None: no order of a terminal's.
        self.request_key = request_key
        # "upload", "download", "removal", "push" or "serving".
        self.kind = kind
        self.counters = Counters()
        self.finished = False
        # "done", "failed" if any of its files did, or "cancelled".
        self.outcome = "done"
        # Who or what stopped it; "" while nobody has.
        self.stop_reason = ""
        self._clock = clock
        self._sources: dict[int, Callable[[], Iterable[SourceView]]] = {}
        self._keys = itertools.count()
        # All that was told: whoever watches hears it from the beginning, however late they come.
        self._told: list[Event] = []
        self._watchers: set[asyncio.Event] = set()
        self._rate = Rate(clock)
        self.task: asyncio.Task[None] | None = None

    def emit(self, event: Event) -> None:
        """Tell the watchers something."""
        if not isinstance(event, Notice):
            self.counters.files_done += 1
        if isinstance(event, Fault):
            self.outcome = "failed"
        self._told.append(event)
        self._wake()

    def add_bytes(self, size: int) -> None:
        """Count bytes that moved."""
        self.counters.done += size
        self._rate.add(size)

    def add_resumed_bytes(self, size: int) -> None:
        """Count bytes that were here already: done, and no part of the rate."""
        self.counters.done += size

    def start_phase(self, phase: Phase, name: str = "", total: int = 0) -> None:
        """Begin a phase that counts from zero."""
        counters = self.counters
        counters.phase, counters.name, counters.done, counters.total = phase, name, 0, total
        self._rate = Rate(self._clock)

    @contextmanager
    def show_sources(self, sources: Callable[[], Iterable[SourceView]]) -> Iterator[None]:
        """Show these peers in the progress for a while."""
        key = next(self._keys)
        self._sources[key] = sources
        try:
            yield
        finally:
            del self._sources[key]

    @property
    def rate(self) -> float:
        """Bytes per second, lately."""
        return self._rate.now()

    def progress(self) -> Progress:
        """Return where it stands."""
        c = self.counters
        sources = tuple(view for views in list(self._sources.values()) for view in views())
        # What moved before everybody was lost says nothing of how long it will take.
        rate = 0.0 if c.phase is Phase.WAITING else self._rate.now()
        return Progress(c.phase, c.name, c.done, c.total, c.files_done, c.files_total, rate, sources)

    async def watch(self) -> AsyncIterator[Progress | list[Event]]:
        """Yield all events from the first on, as they come, and progress in between, until the transfer ends."""
        news = asyncio.Event()
        self._watchers.add(news)
        heard = 0
        try:
            yield self.progress()
            while True:
                news.clear()
                if events := self._told[heard : heard + _MAX_EVENTS_AT_ONCE]:
                    heard += len(events)
                    yield events
                elif self.finished:
                    return
                else:
                    try:
                        async with asyncio.timeout(PROGRESS_INTERVAL):
                            await news.wait()
                    except TimeoutError:
                        yield self.progress()
        finally:
            self._watchers.discard(news)

    def stop(self, why: str) -> None:
        """Have its task end, if it has one of ours; the watchers are told why. What was verified is kept."""
        if self.task is not None:
            self.stop_reason = self.stop_reason or why
            self.task.cancel()

    def finish(self) -> None:
        """Tell the watchers that it is over."""
        self.finished = True
        self._wake()

    def _wake(self) -> None:
        for watcher in self._watchers:
            watcher.set()


class TransferRegistry:
    """All transfers under way."""

    def __init__(
        self, clock: Callable[[], float], on_finished: Callable[[str, str], None] = lambda kind, outcome: None
    ) -> None:
        """`on_end` hears the kind of each transfer that ends, and whether it is done, failed or cancelled."""
        self._clock = clock
        self._on_end = on_finished
        self._numbers = itertools.count(1)
        self._transfers: dict[int, Transfer] = {}

    def __iter__(self) -> Iterator[Transfer]:
        return iter(list(self._transfers.values()))

    def count(self, *kinds: str) -> int:
        """Return how many transfers of these kinds there are."""
        return sum(transfer.kind in kinds for transfer in self._transfers.values())

    def find(self, kind: str, request_key: Hashable) -> Transfer | None:
        """Return the transfer of the same order that is under way; one that was stopped is none any more."""
        for transfer in self._transfers.values():
            if (transfer.kind, transfer.request_key) == (kind, request_key) and not transfer.stop_reason:
                return transfer
        return None

    def start(self, kind: str, work: Callable[[Transfer], Awaitable[None]], request_key: Hashable = None) -> Transfer:
        """Start a transfer of its own, which goes on whoever watches; `find` knows it by `order`."""
        transfer = self.register(kind, request_key)
        transfer.task = asyncio.get_running_loop().create_task(self._run(transfer, work))
        transfer.task.add_done_callback(lambda task: self._over(transfer, task))
        return transfer

    def register(self, kind: str, request_key: Hashable = None) -> Transfer:
        """Note a transfer that somebody else's task carries; `end` it."""
        transfer = Transfer(next(self._numbers), kind, self._clock, request_key)
        self._transfers[transfer.number] = transfer
        return transfer

    def finish(self, transfer: Transfer) -> None:
        """Forget a transfer."""
        if self._transfers.pop(transfer.number, None) is not None:
            self._on_end(transfer.kind, transfer.outcome)
        transfer.finish()

    def get(self, number: int) -> Transfer:
        """Return a transfer. Raises NoSuchFile if it is not under way."""
        try:
            return self._transfers[number]
        except KeyError:
            raise NoSuchFile(f"transfer {number} is not under way: it may have ended") from None

    def cancel(self, number: int) -> None:
        """Stop a transfer at a terminal's word; what was verified is kept. Raises NoSuchFile as `get`."""
        self.get(number).stop("stopped by Ctrl-C at another terminal that followed it")

    async def cancel_all(self) -> None:
        """Stop every transfer that we started, and wait for it."""
        tasks = [transfer.task for transfer in self._transfers.values() if transfer.task is not None]
        for transfer in self:
            transfer.stop("stopped: this peer logs out or ends")
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, transfer: Transfer, work: Callable[[Transfer], Awaitable[None]]) -> None:
        try:
            await work(transfer)
        except PeerError as error:
            transfer.emit(Fault.of(error))
        except Exception:
            log.exception("a transfer failed in a way that nobody foresaw")
            transfer.emit(Fault.of(PeerError()))

    def _over(self, transfer: Transfer, task: asyncio.Task[None]) -> None:
        """End a transfer of ours with its task. Not in `_run`: a task that is cancelled at once never gets there."""
        if task.cancelled():
            why = transfer.stop_reason or "stopped"
            transfer.emit(Fault.of(Interrupted(f"{why}: {resume_hint(transfer.kind)}")))
            transfer.outcome = "cancelled"
        self.finish(transfer)


def resume_hint(kind: str) -> str:
    """Return what a transfer that was stopped leaves, and how to go on."""
    if kind == "removal":
        return "what it removed is gone, run it again for the rest"
    return "what was verified is kept, run it again to resume"
