"""One file from many sources at once: the streams, threads and timers around the picker.

Each piece stays in memory until it is verified, and only then is it written. So no source can corrupt data that another
source sent. Requests bound the memory: a source may send only requested pieces, and nothing is requested without room
in the budget.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from common.control_messages import Hint, Phase, SourceView
from daemon.errors import NoHolders, NoSuchFile, NotAllowed, NotVerified, PeerError
from daemon.models import Holder
from daemon.peers.limits import MemoryBudget, RateLimiter
from daemon.protocol.frames import Block
from daemon.protocol.transfer_messages import Have, PieceRequest, PieceResponse, RequesterStream
from daemon.runtime.concurrency import TaskSet, shield_until_done
from daemon.runtime.metrics import Metrics, Rate
from daemon.runtime.transfers import Transfer
from daemon.storage.manifest import Manifest
from daemon.swarm.peer_discovery import FindHolders, PeerDiscovery
from daemon.swarm.piece_picker import Assignment, Picker
from daemon.swarm.pieces import InFlightReservation, PieceAssembler, PieceData, PieceStore, PieceVerifier
from daemon.swarm.source import SourceStatus
from daemon.swarm.stall import NO_PROGRESS_TIMEOUT, StallDetector

log = logging.getLogger(__name__)

# Sources connected at once.
MAX_CONNECTIONS = 24
_TICK_SECONDS = 0.25
# A connected source sends its first message within this many seconds, or makes room for another.
_FIRST_MESSAGE_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class _Connection:
    """A stream to one source, and the pieces that it may send."""

    stream: RequesterStream
    assembler: PieceAssembler


class Swarm:
    """One download. Create it, `join` open streams, then `run` it once."""

    def __init__(
        self,
        manifest: Manifest,
        picker: Picker,
        store: PieceStore,
        *,
        transfer: Transfer,
        metrics: Metrics,
        disk: Executor,
        budget: MemoryBudget,
        limiter: RateLimiter,
        clock: Callable[[], float],
        open_stream: Callable[[Holder], RequesterStream] | None = None,
        find: FindHolders | None = None,
        known: Iterable[Holder] = (),
        on_piece: Callable[[int], None] = lambda piece: None,
        on_corrupt: Callable[[Holder, str], None] = lambda holder, reason: None,
    ) -> None:
        """Create a download that is not running.

        Args:
            manifest: The file.
            picker: Chooses the pieces; knows those that are present already.
            store: The destination of verified pieces.
            transfer: Gets the verified bytes, and the phase MOVING or WAITING.
            metrics: Counts verified and corrupt pieces, and lost sources.
            disk: The threads that verify and write.
            budget: The memory that all downloads share.
            limiter: The download limit of this peer.
            clock: Returns seconds.
            open_stream: Opens a stream to a holder; None for a push, which has the one source that joined.
            find: Queries the tracker for holders.
            known: Holders known already.
            on_piece: Called with each verified piece, after it is written.
            on_corrupt: Called with a holder that sent corrupt data, and the reason; not for the sender of a push.
        """
        self._manifest = manifest
        self._picker = picker
        self._verifier = PieceVerifier(manifest, store, disk)
        self._reservation = InFlightReservation(budget, limiter, manifest.piece_length)
        self._stall = StallDetector(clock())
        self._transfer = transfer
        self._metrics = metrics
        self._clock = clock
        self._open_stream = open_stream
        self._on_piece = on_piece
        self._on_corrupt = on_corrupt
        self._connections: dict[str, _Connection] = {}
        # What comes from each source, for the user. The rates of the picker leave out the time without requests.
        self._display_rates = defaultdict[str, Rate](lambda: Rate(clock))
        self._known: dict[str, Holder] = {holder.address: holder for holder in known}
        self._discovery = PeerDiscovery(find, self._known, clock) if find is not None else None
        self._tasks = TaskSet()
        # The error of the last stream that failed.
        self._last_error: PeerError | None = None
        self._wake = asyncio.Event()
        self._finished: asyncio.Future[None] | None = None
        # Sources of verified pieces, in order of their first.
        self.contributors: dict[str, None] = {}

    def sources(self) -> list[SourceView]:
        """Return all sources as the user sees them."""
        rates = self._display_rates
        return [
            SourceView(
                each.source,
                rates[each.source].now() if each.source in rates else 0.0,
                each.bytes,
                each.state.value,
                each.reason,
            )
            for each in self._picker.sources()
        ]

    def join(self, address: str, stream: RequesterStream) -> None:
        """Add a source whose stream is open: the sender of a push."""
        self._connect(address, stream)

    async def run(self) -> None:
        """Return when every piece is verified and written.

        Raises:
            NoHolders: if no source sent anything new for NO_PROGRESS_TIMEOUT seconds.
            NotVerified: if all sources sent corrupt data.
            PeerError: if the disk failed. Verified pieces stay on disk.
        """
        self._finished = asyncio.get_running_loop().create_future()
        self._stall.start(self._clock())
        self._transfer.counters.phase = Phase.MOVING
        try:
            if self._picker.complete:
                return
            self._spawn(self._request_pieces())
            self._connect_known()
            self._spawn(self._watch())
            if self._discovery is not None:
                self._spawn(self._discovery.run(self._connect_known))
            await self._finished
        finally:
            # Also if this task is cancelled again: after this, nothing is written.
            await shield_until_done(asyncio.create_task(self._shut_down()))
            self._reservation.release_excess(0)
            # An error references this frame by its traceback; both would stay until the next garbage collection.
            self._finished = self._last_error = None

    async def _shut_down(self) -> None:
        await self._tasks.cancel()
        await self._verifier.close()

    # ------------------------------------------------------------------------------------------------------- requests

    async def _request_pieces(self) -> None:
        """Request pieces whenever there is room and a source for them."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._reservation.release_excess(self._picker.in_flight)
            if not self._picker.should_request():
                continue
            while not self._picker.complete:
                await self._reservation.acquire(self._picker.in_flight)
                assignment = self._picker.pick(self._clock())
                if assignment is None:
                    self._reservation.release_excess(self._picker.in_flight)
                    break
                self._reservation.charge()
                self._send(assignment)

    def _send(self, assignment: Assignment) -> None:
        source, piece, block_length, replaces = assignment
        if replaces:
            self._cancel(replaces, piece)
        connection = self._connections.get(source)
        if connection is None:
            self._picker.on_failed(source, "not connected", self._clock())
            return
        connection.assembler.expect(piece)
        connection.stream.request(PieceRequest(pieces=(piece,), block_length=block_length))

    def _cancel(self, source: str, piece: int) -> None:
        connection = self._connections.get(source)
        if connection is not None:
            connection.stream.request(PieceRequest(cancel=(piece,)))

    # -------------------------------------------------------------------------------------------------------- streams

    def _connect(self, source: str, stream: RequesterStream) -> None:
        self._connections[source] = _Connection(stream, PieceAssembler(self._manifest.length))
        self._spawn(self._run_stream(source))

    async def _run_stream(self, source: str) -> None:
        """Handle the messages of one source until its stream ends."""
        stream = self._connections[source].stream
        try:
            responses = stream.responses()
            await self._read_first_message(source, responses)
            async for response in responses:
                await self._on_message(source, response)
            self._picker.on_closed(source, self._clock())
        except PeerError as error:
            # Its traceback references this frame: a cycle that would hold a piece until the next garbage collection.
            self._last_error = error.with_traceback(None)
            log.info("source failed: %s: %s", source, error)
            self._picker.on_failed(source, error.message.removeprefix(f"{source}: "), self._clock())
            self._metrics.count_dropped_holder("failed")
            new_ticket = isinstance(error, (NotAllowed, NoSuchFile))
            if new_ticket and self._discovery is not None and self._picker.state(source) is SourceStatus.WAITING:
                self._discovery.query_soon()
        finally:
            del self._connections[source]
            self._wake.set()
            await stream.close()

    async def _read_first_message(self, source: str, responses: AsyncIterator[PieceResponse]) -> None:
        """Handle the first message of a source, if it sends one."""
        try:
            # In a frame of its own: the timeout references the task, and the task would reference the frame that
            # handles all other messages, and with it a piece.
            async with asyncio.timeout(_FIRST_MESSAGE_TIMEOUT):
                response = await anext(responses, None)
        except TimeoutError:
            raise NoHolders(f"sent nothing for {_FIRST_MESSAGE_TIMEOUT:.0f} s") from None
        if response is not None:
            await self._on_message(source, response)

    async def _on_message(self, source: str, response: PieceResponse) -> None:
        now = self._clock()
        if self._picker.state(source) in (None, SourceStatus.WAITING):
            self._picker.add_source(source, now)
        if response.have is not None:
            self._on_have(source, response.have)
        if response.blocks:
            size = sum(len(block.data) for block in response.blocks)
            self._picker.on_data(source, size, now)
            self._display_rates[source].add(size)
            for block in response.blocks:
                await self._on_block(source, block, now)
        self._wake.set()

    def _on_have(self, source: str, have: Have) -> None:
        if have.complete:
            self._picker.set_pieces(source, (1 << self._manifest.piece_count) - 1, complete=True)
        elif have.pieces is not None:
            self._picker.set_pieces(source, have.pieces, complete=False)
        self._picker.add_pieces(source, have.gained)
        for other, piece in self._picker.on_in_flight_elsewhere(source, have.in_flight, self._clock()):
            self._cancel(other, piece)

    async def _on_block(self, source: str, block: Block, now: float) -> None:
        """Assemble a piece; a complete one is verified and written while the next one arrives."""
        data = self._connections[source].assembler.add_block(block)
        if not self._picker.is_missing(block.number):
            return
        self._stall.on_progress(source, block.number, block.offset + len(block.data), now)
        if data is None:
            return
        self._picker.on_received(source, block.number, self._clock())
        await self._verifier.acquire()
        self._spawn(self._complete_piece(source, block.number, data))

    async def _complete_piece(self, source: str, piece: int, data: PieceData) -> None:
        if not await self._verifier.verify_and_write(piece, data):
            self._drop_corrupt(source, piece)
            return
        if self._picker.is_missing(piece):
            self.contributors.setdefault(source)
            self._stall.on_verified(source, piece)
            for other, duplicate in self._picker.on_verified(source, piece, self._clock()):
                self._cancel(other, duplicate)
            size = self._manifest.length(piece)
            self._transfer.add_bytes(size)
            self._metrics.count_received(size)
            self._on_piece(piece)
        self._wake.set()
        if self._picker.complete and self._finished is not None and not self._finished.done():
            self._finished.set_result(None)

    def _drop_corrupt(self, source: str, piece: int) -> None:
        """Drop a source that sent a corrupt piece. All blocks of the piece came from this source."""
        reason = f"piece {piece} did not verify"
        log.warning("source dropped: %s: %s", source, reason)
        self._last_error = error = NotVerified(f"{reason}: upload it again to resume")
        self._stall.on_corrupt(self._clock())
        self._picker.drop(source, reason, piece)
        self._metrics.count_corrupt_piece()
        holder = self._known.get(source)
        if holder is not None:
            self._on_corrupt(holder, reason)
        connection = self._connections.get(source)
        if connection is not None:
            self._spawn(connection.stream.close())
        if self._open_stream is None:
            self._fail(error)
        self._wake.set()

    # --------------------------------------------------------------------------------------------------------- timers

    async def _watch(self) -> None:
        """Reassign the requests of stalled sources, reconnect failed ones, and fail after a time without progress."""
        last = self._clock()
        while True:
            now = self._clock()
            useful = self._has_useful_source()
            if self._reservation.waiting and not self._picker.in_flight and useful:
                self._stall.exclude(now - last)
            last = now
            reassigned = self._picker.reassign_stalled(now)
            for source, piece in reassigned:
                self._cancel(source, piece)
            for _ in {source for source, _ in reassigned}:
                self._metrics.count_dropped_holder("silent")
            self._connect_known()
            self._check_timeouts(now)
            # Without a message from any source too: one may have stalled by now, and an idle one may take over.
            self._wake.set()
            await asyncio.sleep(_TICK_SECONDS)
            waiting = self._stall.is_waiting(self._clock()) or not self._has_useful_source()
            self._transfer.counters.phase = Phase.WAITING if waiting else Phase.MOVING

    def _check_timeouts(self, now: float) -> None:
        if self._only_corrupt_sources() and self._stall.corrupt_only_timed_out(now):
            message = self._failure_message("all holders sent corrupt data")
            self._fail(NotVerified(message, hint=Hint.REPEAT_LATER))
        if self._stall.timed_out(now):
            message = self._failure_message(f"no holder sent anything new for {NO_PROGRESS_TIMEOUT:.0f} s")
            self._fail(NoHolders(message, hint=Hint.RESUME))
        if self._open_stream is None and not self._connections and not self._verifier.busy:
            # The sender of a push is its only source.
            self._fail(self._last_error or NoHolders("ended before the file was complete: upload it again to resume"))

    def _has_useful_source(self) -> bool:
        return any(self._picker.is_useful(source) for source in self._connections)

    def _only_corrupt_sources(self) -> bool:
        sources = self._picker.sources()
        return bool(sources) and all(each.state is SourceStatus.DROPPED for each in sources)

    def _connect_known(self) -> None:
        if self._open_stream is None:
            return
        now = self._clock()
        for source, holder in self._known.items():
            if source in self._connections or not self._picker.may_connect(source, now):
                continue
            if len(self._connections) >= MAX_CONNECTIONS:
                self._close_one_stalled()
                return
            self._connect(source, self._open_stream(holder))

    def _close_one_stalled(self) -> None:
        """Close the stream to a stalled source, so that another one can be connected."""
        for source, connection in self._connections.items():
            if self._picker.state(source) is SourceStatus.STALLED:
                self._spawn(connection.stream.close())
                return

    # -------------------------------------------------------------------------------------------------------- failure

    def _fail(self, error: PeerError) -> None:
        if self._finished is not None and not self._finished.done() and not self._picker.complete:
            self._finished.set_exception(error)

    def _failure_message(self, what: str) -> str:
        states = "; ".join(f"{each.source}: {each.reason}" for each in self._picker.sources() if each.reason)
        return f"{what} ({states or 'no holder answers'})"

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.start(work).add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and self._finished is not None and not self._finished.done():
            self._finished.set_exception(error)
