"""Many files of one piece brought here: one stream to each holder, hundreds of files on their way at once."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

import pserver_pb2 as pb
from common.control_messages import Phase
from daemon.errors import BadUsage, NoHolders, NotVerified, PeerError
from daemon.models import RemoteFile
from daemon.peers.client import Call, PeerClient
from daemon.peers.limits import RateLimiter
from daemon.protocol import status_codes
from daemon.protocol.frames import Frame
from daemon.runtime.executors import Threads, shield_until_done
from daemon.runtime.metrics import Metrics
from daemon.runtime.transfers import Transfer
from daemon.swarm.piece_picker import MIN_RATE, SOURCE_IDLE_TIMEOUT
from daemon.swarm.stall import CORRUPT_ONLY_TIMEOUT, FIRST_RETRY_DELAY, NO_PROGRESS_TIMEOUT, next_retry_delay
from daemon.transfer import batch_store
from daemon.transfer.batch_store import BATCH_MAX_BYTES, BATCH_MAX_FILES, BatchStore, SmallFile
from daemon.transfer.batch_wanted import MissingFile
from daemon.transfer.request_window import RequestWindow

log = logging.getLogger(__name__)

# Files named in one request: of the 1,024 that a server bears with, so many that the first answers come early.
_FILES_PER_REQUEST = 256
# Holders asked at once; more would not be quicker than one disk.
_MAX_HOLDERS = 8

# A file and whom it came from, or why it did not.
OnResult = Callable[[RemoteFile, tuple[str, ...], PeerError | None], None]
Query = Callable[[Sequence[str]], Awaitable[Sequence[RemoteFile]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchDownloader:
    """Brings small files here."""

    peers: PeerClient
    store: BatchStore
    threads: Threads
    bandwidth: RateLimiter
    clock: Callable[[], float]
    metrics: Metrics

    async def download(
        self,
        files: Sequence[RemoteFile],
        transfer: Transfer,
        on_result: OnResult,
        query: Query,
        on_corrupt: Callable[[str, str, str], None],
    ) -> list[RemoteFile]:
        """Fetch and publish files; `outcome` hears of each as it is done. Return those that are not small after all.

        `query` looks for holders of ids again; `on_liar` is told (id, holder, why). When no file has come for GIVE_UP
        seconds, those that are lacking end with NoHolders; one that only liars have ends with NotVerified.
        """
        return await BatchDownload(self, transfer, on_result, on_corrupt).run(
            [MissingFile(file) for file in files], query
        )


class BatchDownload:
    """One order's small files."""

    def __init__(
        self, fetcher: BatchDownloader, transfer: Transfer, outcome: OnResult, on_liar: Callable[[str, str, str], None]
    ) -> None:
        self._fetcher = fetcher
        self._transfer = transfer
        self._on_result = outcome
        self._on_corrupt = on_liar
        # Not here yet, and not asked for now.
        self._missing: dict[MissingFile, None] = {}
        # Of several pieces, as somebody says.
        self._large: list[RemoteFile] = []
        self._batch: list[tuple[MissingFile, str, SmallFile]] = []
        self._batch_bytes = 0
        self._storing = asyncio.Lock()
        self._publishing: asyncio.Task[None] | None = None
        self._last_progress = fetcher.clock()
        # Why the tracker did not say who has what is lacking, when it was asked last.
        self._query_error: PeerError | None = None

    async def run(self, wanted: list[MissingFile], query: Query) -> list[RemoteFile]:
        """Go round among the holders until every file is here, or nobody sends anything any more; return the large."""
        self._missing = dict.fromkeys(wanted)
        try:
            await self._download_until_done(query)
        finally:
            # Broken off, too: what was verified is kept.
            await shield_until_done(asyncio.create_task(self._publish_all()))
        for item in self._missing:
            why = item.fault.message if item.fault else "nobody who is alive has it"
            lost = NoHolders(f"{why}: run it again to resume")
            self._on_result(item.file, (), lost if item.fault or not self._query_error else self._query_error)
        return self._large

    async def _download_until_done(self, query: Query) -> None:
        pause = FIRST_RETRY_DELAY
        while self._missing:
            before = self._last_progress
            await self._request_from_all()
            await self._start_publishing()
            self._set_aside_large()
            if not self._missing or self._fetcher.clock() - self._last_progress > NO_PROGRESS_TIMEOUT:
                break
            self._transfer.counters.phase = Phase.WAITING
            pause = FIRST_RETRY_DELAY if self._last_progress > before else next_retry_delay(pause)
            await asyncio.sleep(pause)
            await self._query_again(query)
            self._fail_corrupt()

    def _set_aside_large(self) -> None:
        """Leave alone what nobody sends and somebody calls large: believed only now, for whoever says so may lie."""
        for item in [item for item in self._missing if item.large]:
            del self._missing[item]
            self._large.append(item.file)

    async def _query_again(self, query: Query) -> None:
        found: dict[str, RemoteFile] = {}
        self._query_error = None
        try:
            found = {file.version.id: file for file in await query([item.file.version.id for item in self._missing])}
        except PeerError as error:
            # The holders known so far may do.
            self._query_error = error
        for item in self._missing:
            item.update_holders(found.get(item.file.version.id, item.file).holders)

    def _fail_corrupt(self) -> None:
        """Give up what nobody but liars has had for a while."""
        late = self._fetcher.clock() - CORRUPT_ONLY_TIMEOUT
        for item in [
            item for item in self._missing if item.corrupt_holders and not item.holders and item.last_corrupt < late
        ]:
            del self._missing[item]
            lies = f"no holder sent what verifies ({', '.join(sorted(item.corrupt_holders))} did not)"
            self._on_result(item.file, (), NotVerified(f"{lies}: run it again when another peer has it"))

    async def _request_from_all(self) -> None:
        """Ask the holders for what they have, until none has anything left to give."""
        # What one holder had taken and did not send is the others', who may have had nothing more to do.
        while counts := Counter(url for item in self._missing for url in item.holders):
            async with asyncio.TaskGroup() as group:
                for url, _ in counts.most_common(_MAX_HOLDERS):
                    group.create_task(self._request_from(url))

    async def _request_from(self, url: str) -> None:
        opener = next((item.holders[url].ticket for item in self._missing if url in item.holders), None)
        if opener is None:
            return
        asked: dict[int, MissingFile] = {}
        try:
            async with self._fetcher.peers.open_call("DownloadSmallFiles", url, opener) as call:
                await self._run_stream(url, call, asked)
        except PeerError as error:
            log.info("lost a holder of small files: %s", error)
            for item in asked.values():
                item.fault = error
            # What it was asked for, and whatever else it has, is somebody else's this round.
            self._missing.update(dict.fromkeys(asked.values()))
            for item in self._missing:
                item.exclude_holder(url)

    async def _run_stream(self, url: str, call: Call, asked: dict[int, MissingFile]) -> None:
        """Keep the holder busy until it has nothing more that is wanted."""
        replies = call.responses()
        numbers = itertools.count()
        pace = RequestWindow(self._fetcher.clock)
        useful = self._fetcher.clock()
        while True:
            asks = self._next_requests(url, asked, numbers, pace)
            if asks:
                await self._fetcher.bandwidth.acquire(sum(asked[ask.number].file.version.size for ask in asks))
                for at in range(0, len(asks), _FILES_PER_REQUEST):
                    await call.write(pb.DownloadSmallFilesRequest(requests=asks[at : at + _FILES_PER_REQUEST]))
                useful = self._fetcher.clock()
            if not asked:
                return
            # A file comes in one message: on a slow link nothing is heard of it until it is here.
            patience = SOURCE_IDLE_TIMEOUT + max(item.file.version.size for item in asked.values()) / MIN_RATE
            try:
                # What settles nothing is as good as silence.
                async with asyncio.timeout(max(0.0, useful + patience - self._fetcher.clock())):
                    frame = await anext(replies, None)
            except TimeoutError:
                raise NoHolders(f"{url}: sent nothing for {patience:.0f} s") from None
            if frame is None:
                raise NoHolders(f"{url}: ended the stream")
            if await self._on_response(url, frame, asked, pace):
                useful = self._fetcher.clock()

    def _next_requests(
        self, url: str, asked: dict[int, MissingFile], numbers: Iterator[int], pace: RequestWindow
    ) -> list[pb.SmallFileRequest]:
        """Take files that this holder has, as many as its pace allows."""
        if not pace.should_refill():
            return []
        asks: list[pb.SmallFileRequest] = []
        chosen: list[MissingFile] = []
        room = pace.available()
        for item in self._missing:
            if room <= 0:
                break
            holder = item.holders.get(url)
            if holder is not None:
                number = next(numbers)
                asked[number] = item
                room -= pace.on_request(item.file.version.size)
                asks.append(pb.SmallFileRequest(number=number, ticket=holder.ticket))
                chosen.append(item)
        for item in chosen:
            del self._missing[item]
        return asks

    async def _on_response(
        self, url: str, frame: Frame[pb.DownloadSmallFilesResponse], asked: dict[int, MissingFile], pace: RequestWindow
    ) -> bool:
        """Take what a holder says; tell whether it settled anything that it was asked for."""
        before = len(asked)
        for fault in frame.rest.faults:
            item = asked.pop(fault.number, None)
            if item is not None:
                pace.on_response(1, item.file.version.size)
                item.fault = status_codes.error_from_code(fault.code, f"{url}: {fault.message}")
                item.large = item.large or isinstance(item.fault, BadUsage)
                self._return_missing(item, url)
        numbers = {block.number for block in frame.blocks}
        if len(numbers) < len(frame.blocks) or not numbers <= asked.keys():
            # All are still asked for: whoever asks another holder now asks for all of them.
            raise BadUsage(f"{url}: sent a file that nobody asked for")
        arrived = [(asked.pop(block.number), block.data) for block in frame.blocks]
        if not arrived:
            return len(asked) < before
        pace.on_response(len(arrived), sum(item.file.version.size for item, _ in arrived))
        self._transfer.counters.phase = Phase.MOVING
        outcomes = await self._fetcher.threads.run(self._fetcher.threads.payload, _verify_all, arrived)
        good: list[tuple[MissingFile, str, SmallFile]] = []
        for (item, _), outcome in zip(arrived, outcomes, strict=True):
            if isinstance(outcome, PeerError):
                item.fault = outcome
                item.corrupt_holders.add(url)
                item.last_corrupt = self._fetcher.clock()
                self._return_missing(item, url)
                self._fetcher.metrics.count_corrupt_piece()
                self._on_corrupt(item.file.version.id, url, outcome.message)
            else:
                good.append((item, url, outcome))
        if good:
            # What does not verify is no sign of life: or liars could keep an order waiting for ever.
            self._last_progress = self._fetcher.clock()
            size = sum(small.manifest.size for _, _, small in good)
            self._batch += good
            self._batch_bytes += size
            self._transfer.add_bytes(size)
            self._fetcher.metrics.count_received(size, len(good))
        if len(self._batch) >= BATCH_MAX_FILES or self._batch_bytes >= BATCH_MAX_BYTES:
            await self._start_publishing()
        return True

    def _return_missing(self, item: MissingFile, url: str) -> None:
        item.exclude_holder(url)
        self._missing[item] = None

    async def _start_publishing(self) -> None:
        """Begin to publish what has arrived, while more comes.

        One batch at a time: whoever brings the next one waits, and so do the holders. So two are in memory, at most.
        """
        async with self._storing:
            await self._wait_published()
            batch, self._batch, self._batch_bytes = self._batch, [], 0
            if batch:
                self._publishing = asyncio.create_task(self._publish(batch))

    async def _wait_published(self) -> None:
        """Wait for the batch that is being published. Whoever is cancelled meanwhile leaves it alone."""
        if self._publishing is not None:
            await asyncio.shield(self._publishing)

    async def _publish_all(self) -> None:
        await self._start_publishing()
        await self._wait_published()

    async def _publish(self, batch: Sequence[tuple[MissingFile, str, SmallFile]]) -> None:
        threads = self._fetcher.threads
        outcomes: Sequence[PeerError | None]
        try:
            outcomes = await threads.run(threads.disk, self._fetcher.store.publish, [small for _, _, small in batch])
        except PeerError as error:
            # The disk's fault, not the holder's: none of them is published.
            outcomes = [error] * len(batch)
        for (item, url, _), fault in zip(batch, outcomes, strict=True):
            self._on_result(item.file, (url,), fault)


def _verify_all(files: Sequence[tuple[MissingFile, bytes | memoryview]]) -> list[SmallFile | PeerError]:
    outcomes: list[SmallFile | PeerError] = []
    for item, data in files:
        version = item.file.version
        try:
            outcomes.append(SmallFile(version.name, batch_store.verify(version.id, data), data))
        except PeerError as error:
            outcomes.append(error)
    return outcomes
