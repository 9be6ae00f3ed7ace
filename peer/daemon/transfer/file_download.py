"""Downloads one file of several pieces: its manifest, its part file, its swarm, its publication.

A push uses the same parts, but the sender offers the manifest.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from common.control_messages import Hint, Phase
from daemon.errors import NoHolders, NoSuchFile, NotVerified, PeerError
from daemon.library.library import HashedFile, Library
from daemon.models import NO_ATTRIBUTES, Attributes, Holder, RemoteFile
from daemon.peers.client import PeerClient
from daemon.peers.limits import MemoryBudget, RateLimiter
from daemon.protocol.transfer_messages import RequesterStream
from daemon.runtime.concurrency import Threads
from daemon.runtime.metrics import Metrics
from daemon.runtime.transfers import Transfer
from daemon.storage.manifest import Manifest
from daemon.storage.part_file import Part, PartStore
from daemon.swarm.download import Swarm
from daemon.swarm.peer_discovery import FindHolders
from daemon.swarm.piece_picker import PARTIAL_MIN_PIECES, Picker
from daemon.swarm.stall import CORRUPT_ONLY_TIMEOUT, FIRST_RETRY_DELAY, NO_PROGRESS_TIMEOUT, next_retry_delay
from daemon.tracker_client.client import TrackerClient
from daemon.transfer.served_files import PartialFile, ServedFiles

log = logging.getLogger(__name__)

# Seconds after which the next holder is asked for the manifest too, if the one before has not answered.
_HEDGE_DELAY = 1.0
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
    # Called with a holder that sent corrupt data, and the reason.
    on_corrupt: Callable[[Holder, str], None] = lambda holder, reason: None
    # The file is stored at another peer's request.
    replica: bool = False
    # What belongs to the name beside the id.
    attributes: Attributes = NO_ATTRIBUTES


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFetcher:
    """Fetches the manifest of a file: from the resume data beside its part file, or from any holder."""

    tracker: TrackerClient
    part_store: PartStore
    peers: PeerClient
    threads: Threads
    clock: Callable[[], float]

    async def fetch(self, file: RemoteFile, on_retry: Callable[[], None]) -> Manifest:
        """Return the manifest of a file.

        Args:
            file: The file, with the holders to ask first.
            on_retry: Called each time no holder had it, before holders are queried again.

        Raises:
            NotVerified: if all holders that answer sent a corrupt manifest, for CORRUPT_ONLY_TIMEOUT seconds.
            NoHolders: if no holder answers for NO_PROGRESS_TIMEOUT seconds.
        """
        version = file.version
        saved = await self.threads.run(self.threads.disk, self.part_store.saved_manifest, version.id)
        if saved is not None:
            return saved
        began = self.clock()
        # Since when all answers are corrupt.
        corrupt_since: float | None = None
        holders: Iterable[Holder] = file.holders
        delay = FIRST_RETRY_DELAY
        while True:
            answer = await self._request_any(version.id, holders or await self._query_holders(version.id))
            if isinstance(answer, Manifest):
                return answer
            now = self.clock()
            corrupt_since = (corrupt_since or now) if isinstance(answer, NotVerified) else None
            timed_out = now - began > NO_PROGRESS_TIMEOUT
            if corrupt_since is not None and (timed_out or now - corrupt_since > CORRUPT_ONLY_TIMEOUT):
                raise NotVerified(answer.message, name=version.name, hint=Hint.REPEAT_LATER)
            if timed_out:
                raise NoHolders(answer.message, name=version.name, hint=Hint.RESUME)
            on_retry()
            await asyncio.sleep(delay)
            delay = next_retry_delay(delay)
            holders = ()

    async def _request_any(self, id_: str, holders: Iterable[Holder]) -> Manifest | PeerError:
        """Request the manifest from holders, in order, _HEDGE_DELAY seconds apart.

        Returns:
            The first manifest of the id; else an error, which is NotVerified only if all answers were corrupt.
        """
        answer: Manifest | PeerError = NoSuchFile("no online peer has it")
        errors: list[PeerError] = []
        waiting = deque(holders)
        running: set[asyncio.Task[Manifest | PeerError]] = set()
        try:
            while waiting or running:
                if waiting:
                    running.add(asyncio.create_task(self._request(id_, waiting.popleft())))
                timeout = _HEDGE_DELAY if waiting else None
                done, running = await asyncio.wait(running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    answer = task.result()
                    if isinstance(answer, Manifest):
                        return answer
                    errors.append(answer)
            return next((error for error in errors if not isinstance(error, NotVerified)), answer)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _request(self, id_: str, holder: Holder) -> Manifest | PeerError:
        try:
            return await self.peers.fetch_manifest(holder.address, holder.ticket, id_)
        except NotVerified as error:
            self.tracker.report_corrupt(id_, holder, error.message)
            return error
        except PeerError as error:
            return error

    async def _query_holders(self, id_: str) -> tuple[Holder, ...]:
        try:
            return next((found.holders for found in await self.tracker.query(ids=[id_])), ())
        except PeerError as error:
            log.info("the tracker cannot be asked for holders now: %s", error)
            return ()


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
            self.threads.disk, lambda stop: self.part_store.open(manifest, name, stop=stop)
        )
        resumed = part.resumed_bytes
        transfer.add_resumed_bytes(resumed + part.zero_bytes)
        with self.served_files.serve_partial(part, name) as partial:
            try:
                holders = await self._download_pieces(part, partial, name, transfer, sources, began)
                transfer.counters.phase = Phase.PUBLISHING
                await self.threads.run_uncancellable(self.threads.disk, self._publish, part, name, sources)
            finally:
                self.library.drop_partial(manifest.id)
        return DownloadStats(self.clock() - began, holders, resumed)

    def _publish(self, part: Part, name: str, sources: DownloadSources) -> None:
        """Publish a file and register it in one step of a thread: a published file always counts. Blocking."""
        fingerprint = part.publish(name, sources.attributes)
        self.library.register([HashedFile(name, fingerprint, part.manifest)], replica=sources.replica)

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
