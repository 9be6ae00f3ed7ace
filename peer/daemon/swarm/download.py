"""One file fetched from many holders at once: the I/O around the picker.

Every piece is held in memory until it verifies, and only then written, so no holder can spoil what another has sent.
The pieces asked for bound the memory: nothing is sent that was not asked, and nothing is asked without room in the
budget.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from daemon.errors import NoHolders, NotVerified, PeerError
from daemon.models import Holder
from daemon.peers.limits import MemoryBudget, RateLimiter
from daemon.protocol.frames import Block
from daemon.protocol.piece_streams import Have, PieceRequest, PieceResponse, RequesterStream
from daemon.runtime.executors import shield_until_done
from daemon.runtime.rate import Rate
from daemon.storage.manifest import Manifest
from daemon.swarm.in_flight_reservation import InFlightReservation
from daemon.swarm.peer_discovery import FindHolders, PeerDiscovery
from daemon.swarm.piece_assembler import PieceAssembler, PieceData
from daemon.swarm.piece_picker import Assignment, Picker, SourceInfo
from daemon.swarm.piece_verifier import PieceStore, PieceVerifier
from daemon.swarm.source import SourceStatus
from daemon.swarm.stall import NO_PROGRESS_TIMEOUT, StallDetector

log = logging.getLogger(__name__)

# Holders connected at once.
MAX_CONNECTIONS = 24
_TICK_SECONDS = 0.25
# A holder that was dialled says what it has within this many seconds, or makes room for another.
_FIRST_MESSAGE_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class _Connection:
    """A stream to one holder, and what it owes on it."""

    stream: RequesterStream
    assembler: PieceAssembler


class Swarm:
    """One download. Make it, `join` holders, `run` it to the end."""

    def __init__(
        self,
        manifest: Manifest,
        picker: Picker,
        store: PieceStore,
        *,
        disk: Executor,
        budget: MemoryBudget,
        bandwidth: RateLimiter,
        clock: Callable[[], float],
        dial: Callable[[Holder], RequesterStream] | None = None,
        find: FindHolders | None = None,
        known: Iterable[Holder] = (),
        on_piece_verified: Callable[[int], None] = lambda piece: None,
        on_corrupt: Callable[[str, str], None] = lambda holder, why: None,
        on_source_lost: Callable[[str], None] = lambda why: None,
    ) -> None:
        self._manifest = manifest
        self._picker = picker
        self._verifier = PieceVerifier(manifest, store, disk)
        self._reservation = InFlightReservation(budget, bandwidth, manifest.piece_length)
        self._stall = StallDetector(clock())
        self._clock = clock
        self._dial = dial
        self._on_piece = on_piece_verified
        self._on_liar = on_corrupt
        self._on_lost = on_source_lost
        self._connections: dict[str, _Connection] = {}
        # What comes from each holder, for people; the picker's rates are of the time that it had something to send.
        self._display_rates = defaultdict[str, Rate](lambda: Rate(clock))
        self._known: dict[str, Holder] = {found.address: found for found in known}
        self._discovery = PeerDiscovery(find, self._known, clock) if find is not None else None
        self._tasks: set[asyncio.Task[None]] = set()
        # Why the last stream that broke did so.
        self._last_error: PeerError | None = None
        self._wake = asyncio.Event()
        self._finished: asyncio.Future[None] | None = None
        # Holders that verified pieces came from, in order of their first.
        self.contributors: dict[str, None] = {}

    def sources(self) -> list[SourceInfo]:
        """Return the holders as they stand."""
        views = self._picker.sources()
        return [
            view._replace(rate=self._display_rates[view.source].now() if view.source in self._display_rates else 0.0)
            for view in views
        ]

    @property
    def is_waiting(self) -> bool:
        """Nobody is connected who has what is missing, or whoever is keeps silent."""
        return self._stall.is_waiting(self._clock()) or not self._may_ask

    @property
    def _may_ask(self) -> bool:
        return any(self._picker.is_useful(name) for name in self._connections)

    def join(self, name: str, end: RequesterStream) -> None:
        """Add a holder whose stream is open already: a push."""
        self._connect(name, end)

    async def run(self) -> None:
        """Return when every piece is verified and written.

        Raises:
            NoHolders: if nobody sent anything for GIVE_UP seconds.
            NotVerified: if what every holder sent did not verify.
            PeerError: if the disk failed; what was verified is kept.
        """
        self._finished = asyncio.get_running_loop().create_future()
        self._stall.start(self._clock())
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
            # Whatever comes in between: after this nothing is written any more.
            await shield_until_done(asyncio.create_task(self._shut_down()))
            self._reservation.release_excess(0)
            # A failure knows this frame, and this frame the failure: both would stay until Python looks for cycles.
            self._finished = self._last_error = None

    async def _shut_down(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._verifier.close()

    # -------------------------------------------------------------------------------------------------------- asking

    async def _request_pieces(self) -> None:
        """Ask for pieces whenever there is room and somebody to ask."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._reservation.release_excess(self._picker.in_flight)
            if not self._picker.should_request():
                continue
            while not self._picker.complete:
                await self._reservation.acquire(self._picker.in_flight)
                ask = self._picker.pick(self._clock())
                if ask is None:
                    self._reservation.release_excess(self._picker.in_flight)
                    break
                self._reservation.charge()
                self._send(ask)

    def _send(self, ask: Assignment) -> None:
        if ask.replaces:
            self._cancel(ask.replaces, ask.piece)
        connection = self._connections.get(ask.source)
        if connection is None:
            self._picker.on_failed(ask.source, "not connected", self._clock())
            return
        connection.assembler.expect(ask.piece)
        connection.stream.request(PieceRequest(pieces=(ask.piece,), block_length=ask.block_length))

    def _cancel(self, holder: str, piece: int) -> None:
        connection = self._connections.get(holder)
        if connection is not None:
            connection.stream.request(PieceRequest(cancel=(piece,)))

    # ----------------------------------------------------------------------------------------------------- conversing

    def _connect(self, name: str, end: RequesterStream) -> None:
        self._connections[name] = _Connection(end, PieceAssembler(self._manifest.length))
        self._spawn(self._run_stream(name))

    async def _run_stream(self, name: str) -> None:
        """Hear one holder until its stream ends; then its pieces are somebody else's."""
        end = self._connections[name].stream
        try:
            stream = end.responses()
            await self._read_first_message(name, stream)
            async for news in stream:
                await self._on_message(name, news)
            self._picker.on_closed(name, self._clock())
        except PeerError as error:
            # Without its traceback, which knows this frame: else both stay, and a piece, until Python looks for cycles.
            self._last_error = error.with_traceback(None)
            log.info("lost a holder: %s: %s", name, error)
            self._picker.on_failed(name, error.message.removeprefix(f"{name}: "), self._clock())
            self._on_lost("failed")
            retry = self._picker.state(name) is SourceStatus.WAITING and error.code in ("not_allowed", "no_such_file")
            if retry and self._discovery is not None:
                self._discovery.query_soon()
        finally:
            del self._connections[name]
            self._wake.set()
            await end.close()

    async def _read_first_message(self, name: str, stream: AsyncIterator[PieceResponse]) -> None:
        """Hear what a holder says first; it may end without a word."""
        try:
            # Not in the frame that hears the rest: a timeout knows its task, whose end knows that frame, and a piece.
            async with asyncio.timeout(_FIRST_MESSAGE_TIMEOUT):
                news = await anext(stream, None)
        except TimeoutError:
            raise NoHolders(f"said nothing for {_FIRST_MESSAGE_TIMEOUT:.0f} s") from None
        if news is not None:
            await self._on_message(name, news)

    async def _on_message(self, name: str, news: PieceResponse) -> None:
        now = self._clock()
        if self._picker.state(name) in (None, SourceStatus.WAITING):
            self._picker.add_source(name, now)
        if news.have is not None:
            self._on_have(name, news.have)
        if news.blocks:
            size = sum(len(block.data) for block in news.blocks)
            self._picker.on_data(name, size, now)
            self._display_rates[name].add(size)
            for block in news.blocks:
                await self._on_block(name, block, now)
        self._wake.set()

    def _on_have(self, name: str, have: Have) -> None:
        if have.complete:
            self._picker.set_pieces(name, (1 << self._manifest.piece_count) - 1, whole=True)
        elif have.pieces is not None:
            self._picker.set_pieces(name, have.pieces, whole=False)
        self._picker.add_pieces(name, have.gained)
        for holder, piece in self._picker.on_in_flight_elsewhere(name, have.in_flight, self._clock()):
            self._cancel(holder, piece)

    async def _on_block(self, name: str, block: Block, now: float) -> None:
        """Gather a piece from its blocks; a whole one is verified and written while the next is on its way."""
        data = self._connections[name].assembler.add_block(block)
        if not self._picker.is_missing(block.number):
            return
        self._stall.on_progress(name, block.number, block.offset + len(block.data), now)
        if data is None:
            return
        self._picker.on_received(name, block.number, self._clock())
        await self._verifier.acquire()
        self._spawn(self._complete_piece(name, block.number, data))

    async def _complete_piece(self, name: str, piece: int, data: PieceData) -> None:
        if not await self._verifier.verify_and_write(piece, data):
            self._drop_corrupt(name, piece)
            return
        if self._picker.is_missing(piece):
            self.contributors.setdefault(name)
            self._stall.on_verified(name, piece)
            for holder, other in self._picker.on_verified(name, piece, self._clock()):
                self._cancel(holder, other)
            self._on_piece(piece)
        self._wake.set()
        if self._picker.complete and self._finished is not None and not self._finished.done():
            self._finished.set_result(None)

    def _drop_corrupt(self, name: str, piece: int) -> None:
        """A holder sent a whole piece that does not verify: it is the liar, for the piece came from it alone."""
        why = f"piece {piece} did not verify"
        log.warning("dropped a holder: %s: %s", name, why)
        self._last_error = fault = NotVerified(f"{why}: push it again to resume")
        self._stall.on_corrupt(self._clock())
        self._picker.drop(name, why, piece)
        self._on_liar(name, why)
        connection = self._connections.get(name)
        if connection is not None:
            self._spawn(connection.stream.close())
        if self._dial is None:
            self._fail(fault)
        self._wake.set()

    # ------------------------------------------------------------------------------------------------------- watching

    async def _watch(self) -> None:
        """Take pieces from silent holders, try lost ones again, give up when nobody is heard of."""
        last = self._clock()
        while True:
            now = self._clock()
            if self._reservation.waiting and not self._picker.in_flight and self._may_ask:
                self._stall.exclude(now - last)
            last = now
            overdue = self._picker.reassign_stalled(now)
            for holder, piece in overdue:
                self._cancel(holder, piece)
                self._wake.set()
            for _ in {holder for holder, _ in overdue}:
                self._on_lost("silent")
            self._connect_known()
            if self._only_corrupt_sources() and self._stall.corrupt_only_timed_out(now):
                self._fail(
                    NotVerified(self._failure_summary("no holder sent what verifies", "when another peer has it"))
                )
            if self._stall.timed_out(now):
                self._fail(
                    NoHolders(
                        self._failure_summary(f"no holder sent anything for {NO_PROGRESS_TIMEOUT:.0f} s", "to resume")
                    )
                )
            if self._dial is None and not self._connections and not self._verifier.busy:
                # A push comes from one peer only: nobody else could go on with it.
                self._fail(self._last_error or NoHolders("ended before the file was whole: push it again to resume"))
            # Nobody's news says that a holder is silent by now, and that an idle one could take over from it.
            self._wake.set()
            await asyncio.sleep(_TICK_SECONDS)

    def _only_corrupt_sources(self) -> bool:
        holders = self._picker.sources()
        return bool(holders) and all(view.state is SourceStatus.DROPPED for view in holders)

    def _fail(self, error: PeerError) -> None:
        if self._finished is not None and not self._finished.done() and not self._picker.complete:
            self._finished.set_exception(error)

    def _connect_known(self) -> None:
        if self._dial is None:
            return
        now = self._clock()
        for name, found in self._known.items():
            if name in self._connections or not self._picker.may_connect(name, now):
                continue
            if len(self._connections) >= MAX_CONNECTIONS:
                self._close_one_stalled()
                return
            self._connect(name, self._dial(found))

    def _close_one_stalled(self) -> None:
        """Make room for a holder that might send something, by the end of one that does not."""
        for name, connection in self._connections.items():
            if self._picker.state(name) is SourceStatus.STALLED:
                self._spawn(connection.stream.close())
                return

    def _failure_summary(self, what: str, when: str) -> str:
        states = "; ".join(f"{view.source}: {view.why}" for view in self.sources() if view.why)
        return f"{what} ({states or 'none answers'}): run it again {when}"

    # --------------------------------------------------------------------------------------------------- small change

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if (
            not task.cancelled()
            and (error := task.exception())
            and self._finished is not None
            and not self._finished.done()
        ):
            self._finished.set_exception(error)
