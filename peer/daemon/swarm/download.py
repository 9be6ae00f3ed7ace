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
from daemon.peers.limits import MemoryBudget, RateLimiter
from daemon.protocol.frames import Block
from daemon.protocol.piece_streams import Have, PieceRequest, PieceResponse, RequesterStream
from daemon.runtime.executors import shield_until_done
from daemon.runtime.rate import Rate
from daemon.storage.manifest import Manifest
from daemon.swarm.in_flight_reservation import Room
from daemon.swarm.peer_discovery import Find, Findings, Seeking
from daemon.swarm.piece_assembler import Data, Gathering
from daemon.swarm.piece_picker import Ask, HolderView, Picker
from daemon.swarm.piece_verifier import Settling, Store
from daemon.swarm.source import State
from daemon.swarm.stall import GIVE_UP, Patience

log = logging.getLogger(__name__)

# Holders connected at once.
CONNECTIONS = 24
_TICK = 0.25
# A holder that was dialled says what it has within this many seconds, or makes room for another.
_FIRST_WORD = 5.0


@dataclass(frozen=True, slots=True)
class _Connection:
    """A stream to one holder, and what it owes on it."""

    end: RequesterStream
    owed: Gathering


class Swarm:
    """One download. Make it, `join` holders, `run` it to the end."""

    def __init__(
        self,
        manifest: Manifest,
        picker: Picker,
        store: Store,
        *,
        disk: Executor,
        budget: MemoryBudget,
        bandwidth: RateLimiter,
        clock: Callable[[], float],
        dial: Callable[[Findings], RequesterStream] | None = None,
        find: Find | None = None,
        known: Iterable[Findings] = (),
        on_piece: Callable[[int], None] = lambda piece: None,
        on_liar: Callable[[str, str], None] = lambda holder, why: None,
        on_lost: Callable[[str], None] = lambda why: None,
    ) -> None:
        self._manifest = manifest
        self._picker = picker
        self._settling = Settling(manifest, store, disk)
        self._room = Room(budget, bandwidth, manifest.piece_length)
        self._patience = Patience(clock())
        self._clock = clock
        self._dial = dial
        self._on_piece = on_piece
        self._on_liar = on_liar
        self._on_lost = on_lost
        self._connections: dict[str, _Connection] = {}
        # What comes from each holder, for people; the picker's rates are of the time that it had something to send.
        self._rates = defaultdict[str, Rate](lambda: Rate(clock))
        self._known: dict[str, Findings] = {found.address: found for found in known}
        self._seeking = Seeking(find, self._known, clock) if find is not None else None
        self._tasks: set[asyncio.Task[None]] = set()
        # Why the last stream that broke did so.
        self._fault: PeerError | None = None
        self._pump_now = asyncio.Event()
        self._end: asyncio.Future[None] | None = None
        # Holders that verified pieces came from, in order of their first.
        self.sources: dict[str, None] = {}

    def holders(self) -> list[HolderView]:
        """Return the holders as they stand."""
        views = self._picker.holders()
        return [
            view._replace(rate=self._rates[view.holder].now() if view.holder in self._rates else 0.0) for view in views
        ]

    @property
    def waiting(self) -> bool:
        """Nobody is connected who has what is missing, or whoever is keeps silent."""
        return self._patience.is_waiting(self._clock()) or not self._may_ask

    @property
    def _may_ask(self) -> bool:
        return any(self._picker.wanted_from(name) for name in self._connections)

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
        self._end = asyncio.get_running_loop().create_future()
        self._patience.begin(self._clock())
        try:
            if self._picker.done:
                return
            self._spawn(self._pump())
            self._dial_known()
            self._spawn(self._watch())
            if self._seeking is not None:
                self._spawn(self._seeking.run(self._dial_known))
            await self._end
        finally:
            # Whatever comes in between: after this nothing is written any more.
            await shield_until_done(asyncio.create_task(self._wind_down()))
            self._room.settle(0)
            # A failure knows this frame, and this frame the failure: both would stay until Python looks for cycles.
            self._end = self._fault = None

    async def _wind_down(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._settling.close()

    # -------------------------------------------------------------------------------------------------------- asking

    async def _pump(self) -> None:
        """Ask for pieces whenever there is room and somebody to ask."""
        while True:
            await self._pump_now.wait()
            self._pump_now.clear()
            self._room.settle(self._picker.in_flight)
            if not self._picker.due():
                continue
            while not self._picker.done:
                await self._room.make(self._picker.in_flight)
                ask = self._picker.next(self._clock())
                if ask is None:
                    self._room.settle(self._picker.in_flight)
                    break
                self._room.asked()
                self._send(ask)

    def _send(self, ask: Ask) -> None:
        if ask.instead_of:
            self._cancel(ask.instead_of, ask.piece)
        connection = self._connections.get(ask.holder)
        if connection is None:
            self._picker.failed(ask.holder, "not connected", self._clock())
            return
        connection.owed.owe(ask.piece)
        connection.end.request(PieceRequest(pieces=(ask.piece,), block_length=ask.block_length))

    def _cancel(self, holder: str, piece: int) -> None:
        connection = self._connections.get(holder)
        if connection is not None:
            connection.end.request(PieceRequest(cancel=(piece,)))

    # ----------------------------------------------------------------------------------------------------- conversing

    def _connect(self, name: str, end: RequesterStream) -> None:
        self._connections[name] = _Connection(end, Gathering(self._manifest.length))
        self._spawn(self._converse(name))

    async def _converse(self, name: str) -> None:
        """Hear one holder until its stream ends; then its pieces are somebody else's."""
        end = self._connections[name].end
        try:
            stream = end.responses()
            await self._hear_first(name, stream)
            async for news in stream:
                await self._hear(name, news)
            self._picker.left(name, self._clock())
        except PeerError as error:
            # Without its traceback, which knows this frame: else both stay, and a piece, until Python looks for cycles.
            self._fault = error.with_traceback(None)
            log.info("lost a holder: %s: %s", name, error)
            self._picker.failed(name, error.message.removeprefix(f"{name}: "), self._clock())
            self._on_lost("failed")
            retry = self._picker.state(name) is State.WAITING and error.code in ("not_allowed", "no_such_file")
            if retry and self._seeking is not None:
                self._seeking.soon()
        finally:
            del self._connections[name]
            self._pump_now.set()
            await end.close()

    async def _hear_first(self, name: str, stream: AsyncIterator[PieceResponse]) -> None:
        """Hear what a holder says first; it may end without a word."""
        try:
            # Not in the frame that hears the rest: a timeout knows its task, whose end knows that frame, and a piece.
            async with asyncio.timeout(_FIRST_WORD):
                news = await anext(stream, None)
        except TimeoutError:
            raise NoHolders(f"said nothing for {_FIRST_WORD:.0f} s") from None
        if news is not None:
            await self._hear(name, news)

    async def _hear(self, name: str, news: PieceResponse) -> None:
        now = self._clock()
        if self._picker.state(name) in (None, State.WAITING):
            self._picker.add(name, now)
        if news.have is not None:
            self._hear_have(name, news.have)
        if news.blocks:
            size = sum(len(block.data) for block in news.blocks)
            self._picker.heard(name, size, now)
            self._rates[name].add(size)
            for block in news.blocks:
                await self._take(name, block, now)
        self._pump_now.set()

    def _hear_have(self, name: str, have: Have) -> None:
        if have.complete:
            self._picker.has(name, (1 << self._manifest.pieces) - 1, whole=True)
        elif have.pieces is not None:
            self._picker.has(name, have.pieces, whole=False)
        self._picker.gained(name, have.gained)
        for holder, piece in self._picker.given(name, have.in_flight, self._clock()):
            self._cancel(holder, piece)

    async def _take(self, name: str, block: Block, now: float) -> None:
        """Gather a piece from its blocks; a whole one is verified and written while the next is on its way."""
        data = self._connections[name].owed.take(block)
        if not self._picker.is_missing(block.number):
            return
        self._patience.came(name, block.number, block.offset + len(block.data), now)
        if data is None:
            return
        self._picker.received(name, block.number, self._clock())
        await self._settling.turn()
        self._spawn(self._finish(name, block.number, data))

    async def _finish(self, name: str, piece: int, data: Data) -> None:
        if not await self._settling.settle(piece, data):
            self._expose(name, piece)
            return
        if self._picker.is_missing(piece):
            self.sources.setdefault(name)
            self._patience.verified(name, piece)
            for holder, other in self._picker.arrived(name, piece, self._clock()):
                self._cancel(holder, other)
            self._on_piece(piece)
        self._pump_now.set()
        if self._picker.done and self._end is not None and not self._end.done():
            self._end.set_result(None)

    def _expose(self, name: str, piece: int) -> None:
        """A holder sent a whole piece that does not verify: it is the liar, for the piece came from it alone."""
        why = f"piece {piece} did not verify"
        log.warning("dropped a holder: %s: %s", name, why)
        self._fault = fault = NotVerified(f"{why}: push it again to resume")
        self._patience.exposed(self._clock())
        self._picker.drop(name, why, piece)
        self._on_liar(name, why)
        connection = self._connections.get(name)
        if connection is not None:
            self._spawn(connection.end.close())
        if self._dial is None:
            self._give_up(fault)
        self._pump_now.set()

    # ------------------------------------------------------------------------------------------------------- watching

    async def _watch(self) -> None:
        """Take pieces from silent holders, try lost ones again, give up when nobody is heard of."""
        last = self._clock()
        while True:
            now = self._clock()
            if self._room.waiting and not self._picker.in_flight and self._may_ask:
                self._patience.pause(now - last)
            last = now
            overdue = self._picker.overdue(now)
            for holder, piece in overdue:
                self._cancel(holder, piece)
                self._pump_now.set()
            for _ in {holder for holder, _ in overdue}:
                self._on_lost("silent")
            self._dial_known()
            if self._only_liars() and self._patience.is_over_with_liars(now):
                self._give_up(NotVerified(self._lament("no holder sent what verifies", "when another peer has it")))
            if self._patience.is_over(now):
                self._give_up(NoHolders(self._lament(f"no holder sent anything for {GIVE_UP:.0f} s", "to resume")))
            if self._dial is None and not self._connections and not self._settling.busy:
                # A push comes from one peer only: nobody else could go on with it.
                self._give_up(self._fault or NoHolders("ended before the file was whole: push it again to resume"))
            # Nobody's news says that a holder is silent by now, and that an idle one could take over from it.
            self._pump_now.set()
            await asyncio.sleep(_TICK)

    def _only_liars(self) -> bool:
        holders = self._picker.holders()
        return bool(holders) and all(view.state is State.DROPPED for view in holders)

    def _give_up(self, error: PeerError) -> None:
        if self._end is not None and not self._end.done() and not self._picker.done:
            self._end.set_exception(error)

    def _dial_known(self) -> None:
        if self._dial is None:
            return
        now = self._clock()
        for name, found in self._known.items():
            if name in self._connections or not self._picker.may_dial(name, now):
                continue
            if len(self._connections) >= CONNECTIONS:
                self._close_a_stalled_one()
                return
            self._connect(name, self._dial(found))

    def _close_a_stalled_one(self) -> None:
        """Make room for a holder that might send something, by the end of one that does not."""
        for name, connection in self._connections.items():
            if self._picker.state(name) is State.STALLED:
                self._spawn(connection.end.close())
                return

    def _lament(self, what: str, when: str) -> str:
        states = "; ".join(f"{view.holder}: {view.why}" for view in self.holders() if view.why)
        return f"{what} ({states or 'none answers'}): run it again {when}"

    # --------------------------------------------------------------------------------------------------- small change

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) and self._end is not None and not self._end.done():
            self._end.set_exception(error)
