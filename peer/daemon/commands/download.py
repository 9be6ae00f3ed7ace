"""The download command: resolves its arguments, uses local content where there is some, downloads the rest.

Each file ends in one result of the transfer. Small files are downloaded in batches, larger ones a few at a time.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from common.control_messages import Notice, Phase
from common.formatting import pluralise
from daemon.commands.download_target import DownloadTarget
from daemon.commands.local_content import DownloadRun, LocalContent
from daemon.commands.resolve import ResolvedFile, Resolver
from daemon.errors import BadUsage, PeerError, TrackerUnreachable
from daemon.models import Holder, RemoteFile, Version
from daemon.peers.client import PeerClient
from daemon.peers.limits import KeyedLocks
from daemon.runtime.batches import batched
from daemon.runtime.concurrency import Threads, paced
from daemon.runtime.transfers import Transfer
from daemon.storage.manifest import Manifest
from daemon.storage.shared_folder import SharedFolder
from daemon.swarm.stall import FIRST_RETRY_DELAY, NO_PROGRESS_TIMEOUT, next_retry_delay
from daemon.tracker_client.client import TrackerClient
from daemon.tracker_client.login import Account
from daemon.transfer.batch_download import BatchDownloader
from daemon.transfer.batch_store import SMALL_FILE_MAX
from daemon.transfer.file_download import DownloadSources, DownloadStats, FileDownloader, ManifestFetcher

# Large files of one command that are downloaded at once: the start of the next ones overlaps the end of the first.
_LARGE_AT_ONCE = 3
# Small files of one tracker query, download and announcement. Two such batches are done before their tickets expire.
_BATCH_FILES = 4000
_BATCH_BYTES = 128 << 20

# The holders of a batch by id, or why the tracker cannot be queried.
_Holders = Mapping[str, tuple[Holder, ...]] | PeerError


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadHandler:
    """Runs download commands."""

    account: Account
    resolver: Resolver
    folder: SharedFolder
    local_content: LocalContent
    tracker: TrackerClient
    manifest_fetcher: ManifestFetcher
    peers: PeerClient
    file_downloader: FileDownloader
    batch_downloader: BatchDownloader
    # One transfer at a time for each id.
    content_locks: KeyedLocks
    # While the context is open, incoming pushes of this id give way.
    prioritise_local: Callable[[str], AbstractAsyncContextManager[None]]
    # Announces what is new in the library, if the tracker can be reached.
    announce: Callable[[], Coroutine[Any, Any, None]]
    threads: Threads
    clock: Callable[[], float]

    async def run(self, names: Sequence[str], output: str, transfer: Transfer, *, newest: bool = False) -> None:
        """Download the files that the arguments mean.

        Args:
            names: The arguments, as `Resolver.resolve` takes them.
            output: The output option, as `DownloadTarget.parse` takes it.
            transfer: Gets a result for each file, and a fault for each argument without a file.
            newest: Of a name with several versions, the one that was modified last is meant.

        Raises:
            NotLoggedIn: This peer is logged out.
            BadUsage, BadName: There are no arguments, or the output option is wrong.
            TrackerUnreachable: The tracker does not answer.
        """
        self.account.require_login()
        if not names:
            raise BadUsage("a download needs at least one name")
        resolved = await self.resolver.resolve(names, newest=newest)
        multiple = len(resolved) > 1 or any(name.endswith("/") for name in names)
        target = DownloadTarget.parse(output, multiple=multiple)
        command = DownloadRun(target, transfer, self.clock, self.clock())
        transfer.counters.files_total = len(resolved)
        storable = await self._storable(command, await self.local_content.find_missing(command, resolved))
        self._notify_ignored(command, storable)
        first, repeated = _split_repeated(storable)
        transfer.start_phase(Phase.MOVING, total=sum(item.file.version.size for item in first))
        await self._download(command, first)
        await self._download(command, await self.local_content.copy_small(command, repeated))

    async def _storable(self, command: DownloadRun, items: Sequence[ResolvedFile]) -> list[ResolvedFile]:
        """Return the files that can be stored under their names; the others get their result before bytes move."""
        names = [command.name_of(item) for item in items]
        faults = await self.threads.run(self.threads.disk, self.folder.target_faults, names)
        for item, fault in zip(items, faults, strict=True):
            if fault is not None:
                command.fail(item, fault)
        return [item for item, fault in zip(items, faults, strict=True) if fault is None]

    def _notify_ignored(self, command: DownloadRun, items: Sequence[ResolvedFile]) -> None:
        """Tell the user which files will be stored and not shared, since `.p2pignore` leaves them out."""
        names = [name for item in items if self.folder.ignore_rules.reason_for(name := command.name_of(item))]
        if names:
            reason = self.folder.ignore_rules.reason_for(names[0])
            others = f", and {pluralise(len(names) - 1, 'other file')}" if len(names) > 1 else ""
            command.transfer.emit(Notice(f"not shared from here: {names[0]} {reason}{others}"))

    # ------------------------------------------------------------------------------------------------------ downloads

    async def _download(self, command: DownloadRun, items: Sequence[ResolvedFile]) -> None:
        """Download files; each gets its result."""
        small = [item for item in items if item.file.version.size <= SMALL_FILE_MAX]
        slots = asyncio.Semaphore(_LARGE_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            if small:
                group.create_task(self._download_small(command, small))
            for item in items:
                if item.file.version.size > SMALL_FILE_MAX:
                    await slots.acquire()
                    task = group.create_task(self._download_large(command, item))
                    task.add_done_callback(lambda _: slots.release())

    async def _download_small(self, command: DownloadRun, items: Sequence[ResolvedFile]) -> None:
        """Download small files in batches. The next batch is queried, and the last one announced, meanwhile."""
        large: list[ResolvedFile] = []
        batches = list(batched(items, _BATCH_FILES, _BATCH_BYTES, lambda item: item.file.version.size))
        async with asyncio.TaskGroup() as group:
            # For the first batch, the holders that the resolver got are recent enough.
            unknown = [item for item in batches[0] if not item.file.holders]
            query = group.create_task(self._query_holders(command, unknown))
            for number, batch in enumerate(batches, 1):
                holders = await query
                if isinstance(holders, PeerError):
                    for item in itertools.chain(batch, *batches[number:]):
                        command.fail(item, holders)
                    break
                if number < len(batches):
                    query = group.create_task(self._query_holders(command, batches[number]))
                large += await self._download_batch(command, batch, holders)
                group.create_task(self.announce())
        # The index had their size wrong; the manifest is right.
        for item in large:
            await self._download_large(command, item)

    async def _query_holders(self, command: DownloadRun, batch: Sequence[ResolvedFile]) -> _Holders:
        """Return the holders of some files, retrying for a while if the tracker does not answer."""
        ids = [item.file.version.id for item in batch]
        end, delay = self.clock() + NO_PROGRESS_TIMEOUT, FIRST_RETRY_DELAY
        while True:
            try:
                return {found.version.id: found.holders for found in await self._query(ids)}
            except TrackerUnreachable as error:
                if self.clock() > end:
                    return error
            except PeerError as error:
                return error
            # The next file that arrives changes the phase again, if an earlier batch is still under way.
            command.transfer.counters.phase = Phase.WAITING
            await asyncio.sleep(delay)
            delay = next_retry_delay(delay)

    async def _download_batch(
        self, command: DownloadRun, batch: Sequence[ResolvedFile], holders: Mapping[str, tuple[Holder, ...]]
    ) -> list[ResolvedFile]:
        """Download small files; return those that are large after all."""
        items: dict[Version, ResolvedFile] = {}
        wanted: list[RemoteFile] = []
        for item in batch:
            version = item.file.version._replace(name=command.name_of(item))
            items[version] = item
            wanted.append(RemoteFile(version, holders.get(version.id, item.file.holders)))
        arrived: list[tuple[ResolvedFile, tuple[str, ...]]] = []

        def on_result(file: RemoteFile, sources: tuple[str, ...], fault: PeerError | None) -> None:
            if fault is not None:
                command.fail(items[file.version], fault)
            else:
                arrived.append((items[file.version], sources))

        large = await self.batch_downloader.download(
            wanted, command.transfer, on_result, self._query, self.tracker.report_corrupt
        )
        stats = command.stats()
        async for item, sources in paced(arrived):
            try:
                await self.local_content.finish(command, item, DownloadStats(stats.seconds, sources, 0))
            except PeerError as error:
                command.fail(item, error)
        return [_with(items[file.version], holders=file.holders) for file in large]

    async def _download_large(self, command: DownloadRun, item: ResolvedFile) -> None:
        """Download one file of several pieces, and report its result."""
        id_ = item.file.version.id
        try:
            queued = self.content_locks.in_use(id_)
            if queued:
                command.show(Phase.QUEUED, item)
            async with self._exclusive(id_):
                command.show(Phase.PREPARING, item)
                # Another transfer may have brought the content meanwhile.
                if await self.local_content.use(command, item, queued=queued):
                    return
                holders = item.file.holders or await self._try_find_holders(id_)
                manifest = await self._fetch_manifest(command, _with(item, holders=holders))
                # The size in the index may be wrong.
                item = _with(item, size=manifest.size)
                stats = await self._download_pieces(command, item, manifest, holders)
            await self.announce()
            await self.local_content.finish(command, item, stats)
        except PeerError as error:
            command.fail(item, error)

    async def _fetch_manifest(self, command: DownloadRun, item: ResolvedFile) -> Manifest:
        return await self.manifest_fetcher.fetch(item.file, lambda: command.show(Phase.WAITING, item))

    async def _download_pieces(
        self, command: DownloadRun, item: ResolvedFile, manifest: Manifest, known: tuple[Holder, ...]
    ) -> DownloadStats:
        sources = DownloadSources(
            open_stream=lambda holder: self.peers.open_download(holder.address, holder.ticket, manifest.piece_count),
            find=lambda: self._find_holders(manifest.id),
            known=known,
            on_corrupt=lambda holder, reason: self.tracker.report_corrupt(manifest.id, holder, reason),
            attributes=item.file.version.attributes,
        )
        return await self.file_downloader.download(manifest, command.name_of(item), command.transfer, sources)

    @asynccontextmanager
    async def _exclusive(self, id_: str) -> AsyncIterator[None]:
        """Hold the lock of an id. Pushes of the id that hold it or wait for it give way."""
        async with AsyncExitStack() as waiting:
            await waiting.enter_async_context(self.prioritise_local(id_))
            async with self.content_locks.acquire(id_):
                await waiting.aclose()
                yield

    async def _try_find_holders(self, id_: str) -> tuple[Holder, ...]:
        # If the tracker does not answer now, the manifest fetcher and the swarm query it again.
        with suppress(PeerError):
            return await self._find_holders(id_)
        return ()

    async def _find_holders(self, id_: str) -> tuple[Holder, ...]:
        return next((found.holders for found in await self._query([id_])), ())

    async def _query(self, ids: Sequence[str]) -> list[RemoteFile]:
        return await self.tracker.query(ids=ids)


def _split_repeated(items: Sequence[ResolvedFile]) -> tuple[list[ResolvedFile], list[ResolvedFile]]:
    """Return the files to download, and the small files that have the content of one of them.

    A large file waits for the other transfer of its content by the lock of its id.
    """
    first: list[ResolvedFile] = []
    repeated: list[ResolvedFile] = []
    ids: set[str] = set()
    for item in items:
        version = item.file.version
        (repeated if version.size <= SMALL_FILE_MAX and version.id in ids else first).append(item)
        ids.add(version.id)
    return first, repeated


def _with(item: ResolvedFile, *, holders: tuple[Holder, ...] | None = None, size: int | None = None) -> ResolvedFile:
    """Return the file with other holders or another size."""
    version = item.file.version if size is None else item.file.version._replace(size=size)
    return item._replace(file=RemoteFile(version, item.file.holders if holders is None else holders))
