"""One file of several pieces brought here: its part file, its swarm, its publication.

Downloads and pushes both come through here.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from common.control_messages import Phase, SourceView
from daemon.library.library import Library
from daemon.models import Holder
from daemon.peers.limits import MemoryBudget, RateLimiter
from daemon.protocol.piece_streams import RequesterStream
from daemon.runtime.executors import Threads
from daemon.runtime.metrics import Metrics
from daemon.runtime.transfers import Transfer
from daemon.storage.manifest import Manifest
from daemon.storage.part_file import Part, PartStore
from daemon.swarm.download import Swarm
from daemon.swarm.peer_discovery import FindHolders
from daemon.swarm.piece_picker import PARTIAL_MIN_PIECES, Picker, SourceInfo
from daemon.transfer.sources import PartialFile, ServedFiles

log = logging.getLogger(__name__)

# A short file is announced in part only when it takes so many seconds.
PARTIAL_MIN_SECONDS = 2.0
# Bytes after which the system is asked to begin writing, so that the sync at the end is short.
_FLUSH_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class DownloadStats:
    """How a file came here."""

    seconds: float
    holders: tuple[str, ...]
    # Bytes that were found verified on disk.
    resumed_bytes: int


@dataclass(frozen=True, slots=True)
class DownloadSources:
    """Where the pieces come from: holders that are looked for and dialled, or a stream that is open already."""

    dial: Callable[[Holder], RequesterStream] | None = None
    find: FindHolders | None = None
    # Holders found already.
    known: Sequence[Holder] = ()
    pushed: tuple[str, RequesterStream] | None = None
    on_corrupt: Callable[[str, str], None] = lambda holder, why: None
    # The file is kept at another's request.
    replica: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDownloader:
    """Brings files here. One at a time for each id: the caller holds its lock."""

    threads: Threads
    parts: PartStore
    library: Library
    served: ServedFiles
    budget: MemoryBudget
    bandwidth: RateLimiter
    clock: Callable[[], float]
    announce_soon: Callable[[], None]
    metrics: Metrics

    async def download(
        self, manifest: Manifest, name: str, transfer: Transfer, sources: DownloadSources
    ) -> DownloadStats:
        """Fetch what is missing, publish it under `name`, put it in the library.

        Raises:
            NoHolders: if nobody sent anything for too long. What was verified is kept.
            PeerError: if the disk refuses, or the name is taken.
        """
        began = self.clock()
        part = await self.threads.run_cancellable(self.threads.disk, lambda stop: self.parts.open(manifest, stop=stop))
        resumed = part.resumed_bytes
        transfer.add_resumed_bytes(resumed)
        with self.served.serve_partial(part, name) as growing:
            try:
                holders = await self._download_pieces(part, growing, name, transfer, sources, began)
                transfer.counters.phase = Phase.PUBLISHING
                await self.threads.run_uncancellable(self.threads.disk, self._publish, part, name, sources.replica)
            finally:
                self.library.drop_partial(manifest.id)
        return DownloadStats(self.clock() - began, holders, resumed)

    def _publish(self, part: Part, name: str, kept: bool) -> None:
        """Publish and hold a file in one step of a thread: none is published and not counted. Blocking."""
        stamp = part.publish(name)
        self.library.register([(name, stamp, part.manifest)], replica=kept)

    async def _download_pieces(
        self, part: Part, growing: PartialFile, name: str, transfer: Transfer, sources: DownloadSources, began: float
    ) -> tuple[str, ...]:
        manifest = part.manifest
        picker = Picker(manifest.piece_count, part.verified.present(), manifest.length, choose=random.randrange)
        keeper = BackgroundFlusher(part, self.threads)
        announced = False

        def on_piece(piece: int) -> None:
            nonlocal announced
            transfer.add_bytes(manifest.length(piece))
            self.metrics.count_received(manifest.length(piece))
            growing.add_piece(piece)
            keeper.note_written(manifest.length(piece))
            if not announced and (
                manifest.piece_count > PARTIAL_MIN_PIECES or self.clock() - began > PARTIAL_MIN_SECONDS
            ):
                announced = True
                self.library.add_partial(name, manifest.id, manifest.size)
                self.announce_soon()

        def on_liar(holder: str, why: str) -> None:
            self.metrics.count_corrupt_piece()
            sources.on_corrupt(holder, why)

        swarm = Swarm(
            manifest,
            picker,
            part,
            disk=self.threads.payload,
            budget=self.budget,
            bandwidth=self.bandwidth,
            clock=self.clock,
            dial=sources.dial,
            find=sources.find,
            known=sources.known,
            on_piece_verified=on_piece,
            on_corrupt=on_liar,
            on_source_lost=self.metrics.count_dropped_holder,
        )
        if sources.pushed is not None:
            swarm.join(*sources.pushed)
        watch = asyncio.create_task(_show_waiting(swarm, transfer))
        try:
            with transfer.show_sources(lambda: map(source_view, swarm.sources())):
                await swarm.run()
        finally:
            watch.cancel()
            await keeper.close()
        return tuple(swarm.contributors)


class BackgroundFlusher:
    """Has what was written brought to the disk while more comes."""

    def __init__(self, part: Part, threads: Threads) -> None:
        self._part = part
        self._threads = threads
        self._dirty = 0
        self._task: asyncio.Task[None] | None = None

    def note_written(self, size: int) -> None:
        """Count verified bytes."""
        self._dirty += size
        if self._dirty >= _FLUSH_BYTES and (self._task is None or self._task.done()):
            self._dirty = 0
            self._task = asyncio.create_task(self._threads.run(self._threads.disk, self._part.start_writeback))

    async def close(self) -> None:
        """Wait for the last flush; its failure is the final sync's to tell."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)


async def _show_waiting(swarm: Swarm, transfer: Transfer) -> None:
    while True:
        transfer.counters.phase = Phase.WAITING if swarm.is_waiting else Phase.MOVING
        await asyncio.sleep(0.5)


def source_view(holder: SourceInfo) -> SourceView:
    """Return a holder as people see it."""
    return SourceView(holder.source, holder.rate, holder.bytes, holder.state.value, holder.why)
