"""Downloads many small files: one stream to each holder, with hundreds of files in flight."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import pserver_pb2 as pb
from common.control_messages import Hint, Phase
from daemon.errors import BadUsage, NoHolders, NotVerified, PeerError
from daemon.models import Holder, RemoteFile
from daemon.peers.call import Call
from daemon.peers.client import PeerClient
from daemon.peers.limits import RateLimiter
from daemon.protocol import status_codes
from daemon.protocol.frames import Frame
from daemon.protocol.stream_io import StreamEnded
from daemon.runtime.batches import batched
from daemon.runtime.concurrency import Threads, shield_until_done
from daemon.runtime.metrics import Metrics
from daemon.runtime.transfers import Transfer
from daemon.swarm.piece_picker import MIN_RATE, SOURCE_IDLE_TIMEOUT
from daemon.swarm.stall import CORRUPT_ONLY_TIMEOUT, FIRST_RETRY_DELAY, NO_PROGRESS_TIMEOUT, next_retry_delay
from daemon.transfer import batch_store
from daemon.transfer.batch_requests import MissingFile, RequestWindow
from daemon.transfer.batch_store import BATCH_MAX_BYTES, BATCH_MAX_FILES, BatchStore, SmallFile

log = logging.getLogger(__name__)

# Files named in one message. A holder accepts 1,024 (`batch_serve.MAX_FILES_PER_MESSAGE`); with fewer the first
# responses come earlier.
_FILES_PER_MESSAGE = 256
# Holders asked at once. More are not faster than one disk.
_MAX_HOLDERS = 8

# Called once for each file: the file, the addresses of its sources, and the error if it failed.
OnResult = Callable[[RemoteFile, tuple[str, ...], PeerError | None], None]
# Returns the files of some ids with their holders now. May raise PeerError.
Query = Callable[[Sequence[str]], Awaitable[Sequence[RemoteFile]]]
# Called with the id, a holder that sent corrupt data for it, and the reason.
OnCorrupt = Callable[[str, Holder, str], None]


class _Received(NamedTuple):
    """A verified file, and the address of the holder that sent it."""

    item: MissingFile
    address: str
    file: SmallFile


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchDownloader:
    """Downloads small files."""

    peers: PeerClient
    store: BatchStore
    threads: Threads
    limiter: RateLimiter
    clock: Callable[[], float]
    metrics: Metrics

    async def download(
        self,
        files: Sequence[RemoteFile],
        transfer: Transfer,
        on_result: OnResult,
        query: Query,
        on_corrupt: OnCorrupt,
    ) -> list[RemoteFile]:
        """Download and publish small files.

        Files without progress for NO_PROGRESS_TIMEOUT seconds end with NoHolders. A file that only sources of corrupt
        data have ends with NotVerified after CORRUPT_ONLY_TIMEOUT seconds.

        Args:
            files: The files with their holders; each is published under its name.
            transfer: Gets the bytes and the phase MOVING or WAITING.
            on_result: Called once for each file that is not returned.
            query: Queries holders again.
            on_corrupt: Called for each corrupt file that a holder sent.

        Returns:
            The files that turned out to have more than one piece; they are not downloaded.
        """
        run = _BatchDownload(self, transfer, on_result, on_corrupt, [MissingFile(file) for file in files])
        return await run.run(query)


class _BatchDownload:
    """The download of one list of small files."""

    def __init__(
        self,
        downloader: BatchDownloader,
        transfer: Transfer,
        on_result: OnResult,
        on_corrupt: OnCorrupt,
        missing: Sequence[MissingFile],
    ) -> None:
        self._downloader = downloader
        self._transfer = transfer
        self._on_result = on_result
        self._on_corrupt = on_corrupt
        # Files that are neither downloaded nor requested.
        self._missing = dict.fromkeys(missing)
        self._large: list[RemoteFile] = []
        # Verified files that wait to be published.
        self._batch: list[_Received] = []
        self._batch_bytes = 0
        self._publish_lock = asyncio.Lock()
        self._publishing: asyncio.Task[None] | None = None
        self._last_progress = downloader.clock()
        # The error of the last query for holders.
        self._query_error: PeerError | None = None

    async def run(self, query: Query) -> list[RemoteFile]:
        """Request files until none is missing or no holder makes progress; return the large ones."""
        try:
            await self._download_until_done(query)
        finally:
            # Also when cancelled: verified files are published.
            await shield_until_done(asyncio.create_task(self._publish_all()))
        for item in self._missing:
            message = item.error.message if item.error else "no online peer has it"
            error: PeerError = NoHolders(message, hint=Hint.RESUME)
            if item.error is None and self._query_error is not None:
                error = self._query_error
            self._on_result(item.file, (), error)
        return self._large

    async def _download_until_done(self, query: Query) -> None:
        delay = FIRST_RETRY_DELAY
        while self._missing:
            before = self._last_progress
            await self._request_from_all()
            await self._start_publishing()
            self._set_aside_large()
            if not self._missing or self._downloader.clock() - self._last_progress > NO_PROGRESS_TIMEOUT:
                break
            self._transfer.counters.phase = Phase.WAITING
            delay = FIRST_RETRY_DELAY if self._last_progress > before else next_retry_delay(delay)
            await asyncio.sleep(delay)
            await self._query_again(query)
            self._fail_corrupt()

    def _set_aside_large(self) -> None:
        """Move the files that a holder called large to `_large`.

        Only after all holders were asked: a hostile holder can call any file large.
        """
        for item in [item for item in self._missing if item.large]:
            del self._missing[item]
            self._large.append(item.file)

    async def _query_again(self, query: Query) -> None:
        found: dict[str, RemoteFile] = {}
        self._query_error = None
        try:
            found = {file.version.id: file for file in await query([item.file.version.id for item in self._missing])}
        except PeerError as error:
            # The known holders may suffice.
            self._query_error = error
        for item in self._missing:
            item.update_holders(found.get(item.file.version.id, item.file).holders)

    def _fail_corrupt(self) -> None:
        """Fail the files that only sources of corrupt data have had for CORRUPT_ONLY_TIMEOUT seconds."""
        limit = self._downloader.clock() - CORRUPT_ONLY_TIMEOUT
        for item in list(self._missing):
            if item.corrupt_holders and not item.holders and item.last_corrupt < limit:
                del self._missing[item]
                holders = ", ".join(sorted(item.corrupt_holders))
                error = NotVerified(f"all holders sent corrupt data ({holders})", hint=Hint.REPEAT_LATER)
                self._on_result(item.file, (), error)

    # -------------------------------------------------------------------------------------------------------- requests

    async def _request_from_all(self) -> None:
        """Request files from their holders until no holder has a missing one."""
        # Repeated, because files that one holder did not send may be requested from holders that were done.
        while counts := Counter(address for item in self._missing for address in item.holders):
            async with asyncio.TaskGroup() as group:
                for address, _ in counts.most_common(_MAX_HOLDERS):
                    group.create_task(self._request_from(address))

    async def _request_from(self, address: str) -> None:
        ticket = next((item.holders[address].ticket for item in self._missing if address in item.holders), None)
        if ticket is None:
            return
        requested: dict[int, MissingFile] = {}
        try:
            async with self._downloader.peers.open_call("DownloadSmallFiles", address, ticket) as call:
                await self._run_stream(address, call, requested)
        except PeerError as error:
            log.info("source failed: %s", error)
            for item in requested.values():
                item.error = error
            # No further request to this holder in this round.
            self._missing.update(dict.fromkeys(requested.values()))
            for item in self._missing:
                item.exclude_holder(address)

    async def _run_stream(self, address: str, call: Call, requested: dict[int, MissingFile]) -> None:
        """Request files from one holder until it has no missing one; `requested` has them by number.

        Raises:
            PeerError: if the stream broke, or the holder makes no progress.
        """
        responses = call.responses()
        numbers = itertools.count()
        clock = self._downloader.clock
        window = RequestWindow(clock)
        last_progress = clock()
        while True:
            requests = self._next_requests(address, requested, numbers, window)
            if requests:
                await self._downloader.limiter.acquire(
                    sum(requested[request.number].file.version.size for request in requests)
                )
                with suppress(StreamEnded):
                    for message in batched(requests, _FILES_PER_MESSAGE):
                        await call.write(pb.DownloadSmallFilesRequest(requests=message))
                last_progress = clock()
            if not requested:
                return
            # A file comes in one message: on a slow link nothing arrives until it is complete.
            timeout = SOURCE_IDLE_TIMEOUT + max(item.file.version.size for item in requested.values()) / MIN_RATE
            try:
                # From the last progress, not from the last message: messages without a result count as silence.
                async with asyncio.timeout(max(0.0, last_progress + timeout - clock())):
                    frame = await anext(responses, None)
            except TimeoutError:
                raise NoHolders(f"{address}: sent nothing for {timeout:.0f} s") from None
            if frame is None:
                raise NoHolders(f"{address}: ended the stream")
            if await self._on_response(address, frame, requested, window):
                last_progress = clock()

    def _next_requests(
        self, address: str, requested: dict[int, MissingFile], numbers: Iterator[int], window: RequestWindow
    ) -> list[pb.SmallFileRequest]:
        """Return the requests for missing files of a holder that its window allows; record them in `requested`."""
        if not window.should_refill():
            return []
        requests: list[pb.SmallFileRequest] = []
        chosen: list[MissingFile] = []
        available = window.available()
        for item in self._missing:
            if available <= 0:
                break
            holder = item.holders.get(address)
            if holder is not None:
                number = next(numbers)
                requested[number] = item
                item.requested_from = holder
                available -= window.on_request(item.file.version.size)
                requests.append(pb.SmallFileRequest(number=number, ticket=holder.ticket))
                chosen.append(item)
        for item in chosen:
            del self._missing[item]
        return requests

    # ------------------------------------------------------------------------------------------------------- responses

    async def _on_response(
        self,
        address: str,
        frame: Frame[pb.DownloadSmallFilesResponse],
        requested: dict[int, MissingFile],
        window: RequestWindow,
    ) -> bool:
        """Handle files and faults; return whether the message answered a request.

        Raises:
            BadUsage: if it has a file that was not requested.
        """
        before = len(requested)
        for fault in frame.rest.faults:
            item = requested.pop(fault.number, None)
            if item is not None:
                window.on_response(1, item.file.version.size)
                item.error = status_codes.error_from_code(fault.code, f"{address}: {fault.message}")
                item.large = item.large or isinstance(item.error, BadUsage)
                self._return_missing(item, address)
        numbers = {block.number for block in frame.blocks}
        if len(numbers) < len(frame.blocks) or not numbers <= requested.keys():
            # `requested` is unchanged, so all of them will be requested from another holder.
            raise BadUsage(f"{address}: sent a file that was not requested")
        arrived = [(requested.pop(block.number), block.data) for block in frame.blocks]
        if not arrived:
            return len(requested) < before
        window.on_response(len(arrived), sum(item.file.version.size for item, _ in arrived))
        self._transfer.counters.phase = Phase.MOVING
        threads = self._downloader.threads
        outcomes = await threads.run(threads.payload, _verify_all, arrived)
        verified: list[_Received] = []
        for (item, _), outcome in zip(arrived, outcomes, strict=True):
            if isinstance(outcome, PeerError):
                self._on_corrupt_file(item, address, outcome)
            else:
                verified.append(_Received(item, address, outcome))
        if verified:
            # Only verified files are progress. Else sources of corrupt data could let the download wait for ever.
            self._last_progress = self._downloader.clock()
            size = sum(received.file.manifest.size for received in verified)
            self._batch += verified
            self._batch_bytes += size
            self._transfer.add_bytes(size)
            self._downloader.metrics.count_received(size, len(verified))
        if len(self._batch) >= BATCH_MAX_FILES or self._batch_bytes >= BATCH_MAX_BYTES:
            await self._start_publishing()
        return True

    def _on_corrupt_file(self, item: MissingFile, address: str, error: PeerError) -> None:
        item.error = error
        item.corrupt_holders.add(address)
        item.last_corrupt = self._downloader.clock()
        self._return_missing(item, address)
        self._downloader.metrics.count_corrupt_piece()
        if item.requested_from is not None:
            self._on_corrupt(item.file.version.id, item.requested_from, error.message)

    def _return_missing(self, item: MissingFile, address: str) -> None:
        item.exclude_holder(address)
        self._missing[item] = None

    # ----------------------------------------------------------------------------------------------------- publication

    async def _start_publishing(self) -> None:
        """Start to publish the batch; the download goes on.

        One batch at a time: a stream that fills the next one waits here, and so does its holder. So at most two batches
        are in memory.
        """
        async with self._publish_lock:
            await self._wait_published()
            batch, self._batch, self._batch_bytes = self._batch, [], 0
            if batch:
                self._publishing = asyncio.create_task(self._publish(batch))

    async def _wait_published(self) -> None:
        """Wait for the batch that is being published. Cancelling the wait does not cancel the publication."""
        if self._publishing is not None:
            await asyncio.shield(self._publishing)

    async def _publish_all(self) -> None:
        await self._start_publishing()
        await self._wait_published()

    async def _publish(self, batch: Sequence[_Received]) -> None:
        threads = self._downloader.threads
        errors: Sequence[PeerError | None]
        try:
            errors = await threads.run(
                threads.disk, self._downloader.store.publish, [received.file for received in batch]
            )
        except PeerError as error:
            # The disk failed, so none of them is published.
            errors = [error] * len(batch)
        for received, fault in zip(batch, errors, strict=True):
            self._on_result(received.item.file, (received.address,), fault)


def _verify_all(files: Sequence[tuple[MissingFile, bytes | memoryview]]) -> list[SmallFile | PeerError]:
    outcomes: list[SmallFile | PeerError] = []
    for item, data in files:
        version = item.file.version
        try:
            outcomes.append(SmallFile(version.name, batch_store.verify(version.id, data), data, version.attributes))
        except PeerError as error:
            outcomes.append(error)
    return outcomes
