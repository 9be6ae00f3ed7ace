"""Downloads one file of several pieces: its part file, its swarm, its publication. Used for downloads and pushes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from common.control_messages import Phase
from daemon.library.library import HashedFile, Library
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
from daemon.swarm.piece_picker import PARTIAL_MIN_PIECES, Picker
from daemon.transfer.served_files import PartialFile, ServedFiles

# A file of at most PARTIAL_MIN_PIECES pieces is announced as partial once its download has run for this many seconds.
PARTIAL_MIN_SECONDS = 2.0
# Bytes after which the system is asked to start writing, so that the final sync is short.
_WRITEBACK_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class DownloadStats:
    """How a file was downloaded."""

    seconds: float
    # Addresses of the sources of verified pieces.
    holders: tuple[str, ...]
    # Bytes that were verified on disk before this download.
    resumed_bytes: int


@dataclass(frozen=True, slots=True)
class DownloadSources:
    """Where the pieces come from: holders that are queried and connected, or the open stream of a push."""

    # Opens a stream to a holder; None for a push.
    open_stream: Callable[[Holder], RequesterStream] | None = None
    find: FindHolders | None = None
    # Holders known already.
    known: Sequence[Holder] = ()
    # Address and stream of the sender of a push.
    pushed: tuple[str, RequesterStream] | None = None
    # Called with the address of a source that sent corrupt data, and the reason.
    on_corrupt: Callable[[str, str], None] = lambda source, reason: None
    # The file is stored at another peer's request.
    replica: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDownloader:
    """Downloads files, one at a time for each id: the caller holds the lock of the id."""

    threads: Threads
    part_store: PartStore
    library: Library
    served_files: ServedFiles
    budget: MemoryBudget
    limiter: RateLimiter
    clock: Callable[[], float]
    # Announces the library soon.
    request_sync: Callable[[], None]
    metrics: Metrics

    async def download(
        self, manifest: Manifest, name: str, transfer: Transfer, sources: DownloadSources
    ) -> DownloadStats:
        """Download the missing pieces of a file, publish it under `name`, and add it to the library.

        Raises:
            NoHolders: if no source sent anything new for too long. Verified pieces stay on disk.
            NotVerified: if all sources sent corrupt data.
            PeerError: if the disk failed, or `name` is taken.
        """
        began = self.clock()
        part = await self.threads.run_cancellable(
            self.threads.disk, lambda stop: self.part_store.open(manifest, stop=stop)
        )
        resumed = part.resumed_bytes
        transfer.add_resumed_bytes(resumed)
        with self.served_files.serve_partial(part, name) as partial:
            try:
                holders = await self._download_pieces(part, partial, name, transfer, sources, began)
                transfer.counters.phase = Phase.PUBLISHING
                await self.threads.run_uncancellable(self.threads.disk, self._publish, part, name, sources.replica)
            finally:
                self.library.drop_partial(manifest.id)
        return DownloadStats(self.clock() - began, holders, resumed)

    def _publish(self, part: Part, name: str, replica: bool) -> None:
        """Publish a file and register it in one step of a thread: a published file always counts. Blocking."""
        fingerprint = part.publish(name)
        self.library.register([HashedFile(name, fingerprint, part.manifest)], replica=replica)

    async def _download_pieces(
        self,
        part: Part,
        partial: PartialFile,
        name: str,
        transfer: Transfer,
        sources: DownloadSources,
        began: float,
    ) -> tuple[str, ...]:
        """Run the swarm of a file; return the sources of verified pieces."""
        manifest = part.manifest
        writeback = _Writeback(part, self.threads)
        announced = False

        def on_piece(piece: int) -> None:
            nonlocal announced
            partial.add_piece(piece)
            writeback.count_written(manifest.length(piece))
            if not announced and (
                manifest.piece_count > PARTIAL_MIN_PIECES or self.clock() - began > PARTIAL_MIN_SECONDS
            ):
                announced = True
                self.library.add_partial(name, manifest.id, manifest.size)
                self.request_sync()

        swarm = Swarm(
            manifest,
            Picker(manifest.piece_count, part.verified.present(), manifest.length, choose=random.randrange),
            part,
            transfer=transfer,
            metrics=self.metrics,
            disk=self.threads.payload,
            budget=self.budget,
            limiter=self.limiter,
            clock=self.clock,
            open_stream=sources.open_stream,
            find=sources.find,
            known=sources.known,
            on_piece=on_piece,
            on_corrupt=sources.on_corrupt,
        )
        if sources.pushed is not None:
            swarm.join(*sources.pushed)
        try:
            with transfer.show_sources(swarm.sources):
                await swarm.run()
        finally:
            await writeback.close()
        return tuple(swarm.contributors)


class _Writeback:
    """Lets the system write verified pieces to the disk while more pieces arrive."""

    def __init__(self, part: Part, threads: Threads) -> None:
        self._part = part
        self._threads = threads
        self._unwritten = 0
        self._task: asyncio.Task[None] | None = None

    def count_written(self, size: int) -> None:
        """Count `size` bytes in the part file; start a writeback when there are enough."""
        self._unwritten += size
        if self._unwritten >= _WRITEBACK_BYTES and (self._task is None or self._task.done()):
            self._unwritten = 0
            self._task = asyncio.create_task(self._threads.run(self._threads.disk, self._part.start_writeback))

    async def close(self) -> None:
        """Wait for the writeback under way. If it failed, the final sync reports the error."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
