"""What of a download order must come from others: small files together, the others a few at a time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from common.control_messages import Phase
from daemon.commands.download_target import DownloadTarget
from daemon.commands.local_resolver import LocalResolver
from daemon.errors import PeerError, TrackerUnreachable
from daemon.models import Holder, RemoteFile, Version
from daemon.peers.client import PeerClient
from daemon.peers.limits import KeyedLocks
from daemon.storage.manifest import Manifest
from daemon.swarm.stall import FIRST_RETRY_DELAY, NO_PROGRESS_TIMEOUT, next_retry_delay
from daemon.tracker_client.client import TrackerClient
from daemon.transfer.batch_download import BatchDownloader
from daemon.transfer.batch_store import SMALL_FILE_MAX
from daemon.transfer.file_download import DownloadSources, DownloadStats, FileDownloader
from daemon.transfer.manifest_fetch import ManifestFetcher

# Files of several pieces that one order fetches at once: the next ones' beginnings overlap with this one's end.
_AT_ONCE = 3
# Small files that are looked up, fetched and announced together: so few that two lots come before their tickets expire.
_LOOK_UP = 4000
_LOOK_UP_BYTES = 128 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadJob:
    """Fetches versions for an order, and has them delivered."""

    tracker: TrackerClient
    manifests: ManifestFetcher
    peers: PeerClient
    fetcher: FileDownloader
    small_fetcher: BatchDownloader
    locks: KeyedLocks
    # Has pushes of an id give way, for as long as it is waited for.
    prioritise_local: Callable[[str], AbstractAsyncContextManager[None]]
    announce: Callable[[], Coroutine[Any, Any, None]]
    local: LocalResolver
    clock: Callable[[], float]

    async def fetch(self, target: DownloadTarget, wanted: Sequence[RemoteFile]) -> None:
        """Fetch versions; the order is told a result for each."""
        small = [item for item in wanted if item.version.size <= SMALL_FILE_MAX]
        large = [item for item in wanted if item.version.size > SMALL_FILE_MAX]
        turns = asyncio.Semaphore(_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            if small:
                group.create_task(self._fetch_small(target, small))
            for item in large:
                await turns.acquire()
                group.create_task(self._fetch_large(target, item)).add_done_callback(lambda _: turns.release())

    # ---------------------------------------------------------------------------------------------------- small files

    async def _fetch_small(self, order: DownloadTarget, files: Sequence[RemoteFile]) -> None:
        """Fetch small files in batches: the next one is looked up, and the last one announced, meanwhile."""
        large: list[RemoteFile] = []
        batches = list(_batches(files))
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(self._holders(order, batches[0]))
            for number, batch in enumerate(batches, 1):
                found = await looking
                if isinstance(found, PeerError):
                    for item in itertools.chain(batch, *batches[number:]):
                        order.report_fault(item, found)
                    break
                if number < len(batches):
                    looking = group.create_task(self._holders(order, batches[number]))
                large += await self._fetch_batch(order, batch, found)
                group.create_task(self.announce())
        # The index had their size wrong: their manifest has not.
        for item in large:
            await self._fetch_large(order, item)

    async def _holders(
        self, order: DownloadTarget, batch: Sequence[RemoteFile]
    ) -> dict[str, tuple[Holder, ...]] | PeerError:
        """Return who has what is in a batch, by id, or why the tracker does not say; one that is away is waited for."""
        end, pause = self.clock() + NO_PROGRESS_TIMEOUT, FIRST_RETRY_DELAY
        while True:
            try:
                return {found.version.id: found.holders for found in await self._look_up([i.version.id for i in batch])}
            except TrackerUnreachable as error:
                if self.clock() > end:
                    return error
            except PeerError as error:
                return error
            # Until something arrives, if this batch was looked up ahead of its time.
            order.transfer.counters.phase = Phase.WAITING
            await asyncio.sleep(pause)
            pause = next_retry_delay(pause)

    async def _fetch_batch(
        self, order: DownloadTarget, batch: Sequence[RemoteFile], found: Mapping[str, tuple[Holder, ...]]
    ) -> list[RemoteFile]:
        """Fetch small files; return those that are not small after all."""
        wanted = [
            RemoteFile(_renamed(item, order.local_name(item)), found.get(item.version.id, item.holders))
            for item in batch
        ]
        arrived: list[tuple[RemoteFile, tuple[str, ...]]] = []

        def outcome(item: RemoteFile, holders: tuple[str, ...], fault: PeerError | None) -> None:
            if fault is not None:
                order.report_fault(item, fault)
            else:
                arrived.append((item, holders))

        large = await self.small_fetcher.download(
            wanted, order.transfer, outcome, self._look_up, self.tracker.report_corrupt
        )
        seconds = order.elapsed
        for item, holders in arrived:
            try:
                await self.local.report_done(order, item, DownloadStats(seconds, holders, 0))
            except PeerError as error:
                order.report_fault(item, error)
        return large

    # ---------------------------------------------------------------------------------------------------- large files

    async def _fetch_large(self, order: DownloadTarget, item: RemoteFile) -> None:
        try:
            queued = self.locks.in_use(item.version.id)
            if queued:
                counters = order.transfer.counters
                counters.phase, counters.name = Phase.QUEUED, order.local_name(item)
            async with self._in_turn(item.version.id):
                order.transfer.counters.phase = Phase.PREPARING
                # It may have come under this name or another while this one waited.
                if await self.local.use_local_copy(order, item, queued=queued):
                    return
                manifest = await self._manifest(order, item)
                brought = await self._bring(order, item, manifest)
            # The index may have told a wrong size.
            item = RemoteFile(Version(item.version.name, item.version.id, manifest.size), item.holders)
            await self.announce()
            await self.local.report_done(order, item, brought)
        except PeerError as error:
            order.report_fault(item, error)

    async def _manifest(self, order: DownloadTarget, item: RemoteFile) -> Manifest:
        counters = order.transfer.counters
        counters.name = order.local_name(item)

        def wait() -> None:
            counters.phase = Phase.WAITING

        return await self.manifests.fetch(item, wait)

    async def _bring(self, order: DownloadTarget, item: RemoteFile, manifest: Manifest) -> DownloadStats:
        sources = DownloadSources(
            dial=lambda holder: self.peers.open_download(holder.address, holder.ticket, manifest.piece_count),
            find=lambda: self._find(manifest.id),
            known=item.holders,
            on_corrupt=lambda holder, why: self.tracker.report_corrupt(manifest.id, holder, why),
        )
        return await self.fetcher.download(manifest, order.local_name(item), order.transfer, sources)

    @asynccontextmanager
    async def _in_turn(self, id_: str) -> AsyncIterator[None]:
        """Hold the id's lock; pushers that are before us give way."""
        async with AsyncExitStack() as waiting:
            await waiting.enter_async_context(self.prioritise_local(id_))
            async with self.locks.acquire(id_):
                await waiting.aclose()
                yield

    async def _find(self, id_: str) -> tuple[Holder, ...]:
        return next((found.holders for found in await self._look_up([id_])), ())

    async def _look_up(self, ids: Sequence[str]) -> list[RemoteFile]:
        """Return versions of ids with holders and fresh tickets."""
        return await self.tracker.query(ids=ids)


def _renamed(item: RemoteFile, name: str) -> Version:
    return Version(name, item.version.id, item.version.size)


def _batches(files: Iterable[RemoteFile]) -> Iterator[list[RemoteFile]]:
    batch: list[RemoteFile] = []
    size = 0
    for file in files:
        if len(batch) == _LOOK_UP or (batch and size + file.version.size > _LOOK_UP_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.version.size
    if batch:
        yield batch
