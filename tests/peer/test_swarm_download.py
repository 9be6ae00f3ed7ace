"""Downloads from holders on real ports, some of them hostile: complete, correct, in time, corrupt sources named."""

import asyncio
import gc
import random
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import pytest

import evil_holder as evil
from common.control_messages import Hint, Phase, SourceView
from daemon.errors import NoHolders, NotVerified, PeerError
from daemon.models import Holder as Found
from daemon.peers.client import PeerClient
from daemon.peers.limits import MemoryBudget, RateLimiter
from daemon.protocol.frames import Block
from daemon.protocol.transfer_messages import Have, PieceRequest, PieceResponse
from daemon.runtime.metrics import Metrics
from daemon.runtime.transfers import Transfer
from daemon.swarm.download import Swarm
from daemon.swarm.piece_picker import Picker
from evil_holder import Behaviour, Holder
from swarm_files import manifest_of

MIB = 1 << 20
RNG = random.Random(5)
CONTENT = RNG.randbytes(4 * MIB + 77)


MANIFEST = manifest_of(CONTENT)


@dataclass
class Memory:
    """Stores pieces in memory, and counts writes."""

    pieces: dict[int, bytes] = field(default_factory=dict)
    writes: int = 0

    def store(self, piece: int, data: Sequence[bytes | memoryview]) -> None:
        self.writes += 1
        self.pieces[piece] = b"".join(data)


class Stuck(Memory):
    """Writes when `let_go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.started, self.let_go = threading.Event(), threading.Event()

    def store(self, piece: int, data: Sequence[bytes | memoryview]) -> None:
        self.started.set()
        self.let_go.wait(10)
        super().store(piece, data)


@dataclass
class Outcome:
    """The result of a download."""

    memory: Memory
    holders: dict[str, SourceView]
    corrupt: list[tuple[str, str]]
    contributors: list[str]
    seconds: float
    addresses: list[str]

    @property
    def complete(self) -> bool:
        return b"".join(self.memory.pieces[piece] for piece in sorted(self.memory.pieces)) == CONTENT

    def view(self, number: int) -> SourceView:
        return self.holders[self.addresses[number]]


async def fetch(
    behaviours: Sequence[Behaviour],
    *,
    late: int = 0,
    late_until_corrupt: bool = False,
    seconds: float = 30.0,
    seed: int = 0,
    haste: float = 1,
    rate: int | None = None,
) -> Outcome:
    """Download CONTENT from holders with these behaviours.

    The last `late` holders are found only after 0.8 s, or once a source has sent corrupt data (`late_until_corrupt`).
    `rate` is the download limit in bytes per second. The clock of the download is `haste` times faster than real time.
    """
    memory, corrupt, rng = Memory(), list[tuple[str, str]](), random.Random(seed)
    async with AsyncExitStack() as stack:
        stack.enter_context(pool := ThreadPoolExecutor(3))
        holders = [await stack.enter_async_context(Holder(CONTENT, MANIFEST, each).serving()) for each in behaviours]
        peers = PeerClient(None)
        stack.push_async_callback(peers.close)
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def find() -> list[Found]:
            all_known = bool(corrupt) if late_until_corrupt else loop.time() - began > 0.8
            known = holders if all_known else holders[: len(holders) - late]
            return [Found(holder.address, "ticket", True, "") for holder in known]

        picker = Picker(MANIFEST.piece_count, (), MANIFEST.length, choose=rng.randrange)
        swarm = Swarm(
            MANIFEST,
            picker,
            memory,
            disk=pool,
            budget=MemoryBudget(),
            transfer=Transfer(1, "download", loop.time),
            metrics=Metrics(),
            limiter=RateLimiter(rate, loop.time),
            clock=lambda: haste * loop.time(),
            open_stream=lambda found: peers.open_download(found.address, found.ticket, MANIFEST.piece_count),
            find=find,
            on_corrupt=lambda holder, why: corrupt.append((holder.address, why)),
        )
        async with asyncio.timeout(seconds):
            await swarm.run()
        views = {view.address: view for view in swarm.sources()}
        addresses = [holder.address for holder in holders]
        return Outcome(memory, views, corrupt, list(swarm.contributors), loop.time() - began, addresses)


def run(work: Coroutine[Any, Any, Outcome]) -> Outcome:
    return asyncio.run(work)


def test_honest_holders_share_the_work_and_no_piece_is_written_twice() -> None:
    outcome = run(fetch([evil.slow] * 3))
    assert outcome.complete and outcome.corrupt == []
    assert outcome.memory.writes == MANIFEST.piece_count
    assert len(outcome.contributors) >= 2


def is_ours(module: str) -> bool:
    return module.startswith("daemon.")


@pytest.mark.parametrize(
    "behaviours", [[evil.honest, evil.honest], [evil.hanging], [evil.wrong_bytes], [evil.breaking]]
)
def test_a_download_leaves_no_reference_cycles(behaviours: list[Behaviour]) -> None:
    """A cycle would hold the last pieces in memory until the next garbage collection."""

    async def work() -> None:
        # Suppressed here: an error that leaves asyncio.run is a cycle of its own.
        with suppress(NoHolders, NotVerified):
            await fetch(behaviours, haste=15)

    gc.collect()
    gc.disable()
    try:
        asyncio.run(work())
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        frames = [
            item.f_code for item in gc.garbage if isinstance(item, FrameType) and is_ours(item.f_globals["__name__"])
        ]
        objects = [item for item in gc.garbage if is_ours(type(item).__module__)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert [code.co_qualname for code in frames] == []
    assert objects == []


def flip_one_bit(count: int, seed: int) -> None:
    rng = random.Random(seed)

    async def downloads() -> None:
        for number in range(count):
            at = rng.randrange(len(CONTENT))
            outcome = await fetch([evil.flipping(at), evil.honest], seed=number)
            assert outcome.complete
            # At most one piece was downloaded in vain, and only its source is named.
            assert len(outcome.corrupt) <= 1
            assert all(each == (outcome.addresses[0], f"piece {at // MIB} did not verify") for each in outcome.corrupt)
            if outcome.corrupt:
                assert outcome.view(0).state == "dropped"
            assert outcome.memory.writes == MANIFEST.piece_count
            caught.append(bool(outcome.corrupt))

    caught: list[bool] = []
    asyncio.run(downloads())
    print(f"seed {seed}: {sum(caught)} of {count} hostile holders were asked for the piece that they corrupt")


def flip_in_the_only_holder(count: int, seed: int) -> None:
    """The only holder at first is hostile, so the flipped byte is always received, and must be detected."""
    rng = random.Random(seed)

    async def downloads() -> None:
        for number in range(count):
            at = rng.randrange(len(CONTENT))
            outcome = await fetch([evil.flipping(at), evil.honest], late=1, late_until_corrupt=True, seed=number)
            assert outcome.complete
            assert outcome.corrupt == [(outcome.addresses[0], f"piece {at // MIB} did not verify")]
            assert outcome.memory.writes == MANIFEST.piece_count

    asyncio.run(downloads())


@pytest.mark.timeout(300)
def test_one_flipped_bit_is_detected_and_costs_one_piece_and_names_the_holder() -> None:
    flip_one_bit(80, seed=1)
    flip_in_the_only_holder(20, seed=2)


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_1000_flipped_bits_are_detected() -> None:
    flip_one_bit(500, seed=3)
    flip_in_the_only_holder(500, seed=4)


@pytest.mark.parametrize(
    "behaviour",
    [
        evil.wrong_bytes,
        evil.tiny_blocks,
        evil.endless,
        evil.not_requested,
        evil.oversized,
        evil.false_bitmap,
        evil.odd_bitmap,
        evil.endless_have,
        evil.closing,
        evil.breaking,
        evil.hoarding,
        evil.malformed,
        evil.overlong,
        evil.huge_metadata,
        evil.refusing,
        evil.silent,
    ],
    ids=lambda behaviour: behaviour.__name__,
)
def test_a_download_completes_despite_any_hostile_holder(behaviour: Behaviour) -> None:
    outcome = run(fetch([behaviour, behaviour, evil.honest]))
    assert outcome.complete
    assert outcome.addresses[2] in outcome.contributors
    assert outcome.seconds < 5
    # Only corrupt data is reported.
    assert {address for address, _ in outcome.corrupt} <= (
        {*outcome.addresses[:2]} if behaviour is evil.wrong_bytes else set()
    )
    for view in outcome.holders.values():
        assert view.reason.isprintable() and len(view.reason) < 500


@pytest.mark.parametrize("behaviour", [evil.hanging, evil.trickling], ids=["hanging", "trickling"])
def test_pieces_of_a_hanging_holder_are_requested_from_another(behaviour: Behaviour) -> None:
    outcome = run(fetch([behaviour, evil.honest]))
    assert outcome.complete
    # The idle holder takes over late pieces before the idle timeout.
    assert outcome.seconds < 7
    assert outcome.addresses[1] in outcome.contributors


def test_a_hanging_holder_is_noticed_if_the_other_one_appears_late() -> None:
    outcome = run(fetch([evil.hanging, evil.honest], late=1))
    assert outcome.complete
    assert outcome.seconds < 7


def test_30_silent_holders_do_not_keep_an_honest_one_out() -> None:
    outcome = run(fetch([evil.silent] * 30 + [evil.honest]))
    assert outcome.complete
    assert outcome.seconds < 15


def test_a_download_from_corrupt_sources_only_fails_soon() -> None:
    # Ten seconds pass in a quarter of one.
    with pytest.raises(NotVerified, match="piece 2 did not verify") as error:
        run(fetch([evil.flipping(2 * MIB), evil.flipping(2 * MIB)], haste=40, seconds=5))
    assert error.value.hint is Hint.REPEAT_LATER


def test_an_honest_holder_that_appears_after_corrupt_ones_is_in_time() -> None:
    outcome = run(fetch([evil.wrong_bytes, evil.honest], late=1))
    assert outcome.complete
    assert outcome.contributors == [outcome.addresses[1]]


def test_a_download_without_progress_fails_with_no_holders() -> None:
    # A minute passes in a second and a half.
    with pytest.raises(NoHolders, match=r"sent anything new for 60 s \(.*log in first.*\)$") as error:
        run(fetch([evil.refusing, evil.wrong_bytes], haste=40))
    assert error.value.hint is Hint.RESUME


def test_waiting_for_the_download_limit_is_not_a_stall() -> None:
    # One piece takes 80 s on the clock of the download, whose timeout is 60 s.
    assert run(fetch([evil.honest], haste=100, rate=1_300_000)).complete


def test_silent_holders_time_out_under_a_download_limit_too() -> None:
    with pytest.raises(NoHolders, match=r"sent anything new for 60 s"):
        run(fetch([evil.hanging] * 3, haste=40, rate=1_300_000))


def test_restarted_pieces_are_no_progress() -> None:
    with pytest.raises(NoHolders, match="sent anything new for 60 s"):
        run(fetch([evil.breaking], haste=40))


def test_a_holder_cannot_leave_every_piece_incomplete_in_memory() -> None:
    with pytest.raises(NoHolders, match="started a piece before the previous one was complete"):
        run(fetch([evil.hoarding], haste=40))


class Pusher:
    """The stream of a push that ignores requests and sends fixed responses; an exception is raised."""

    def __init__(self, *responses: Any) -> None:
        self._responses = responses

    def request(self, piece_request: Any) -> None:
        """Ignore it."""

    async def responses(self) -> Any:
        for each in self._responses:
            if isinstance(each, Exception):
                raise each
            yield each

    async def close(self) -> None:
        """Nothing."""


class Sender(Pusher):
    """Sends requested pieces."""

    def __init__(self) -> None:
        super().__init__()
        self._requested = asyncio.Queue[int]()

    def request(self, piece_request: PieceRequest) -> None:
        for piece in piece_request.pieces:
            self._requested.put_nowait(piece)

    async def responses(self) -> Any:
        yield PieceResponse(have=Have(complete=True))
        while True:
            piece = await self._requested.get()
            yield PieceResponse(blocks=(Block(piece, 0, CONTENT[piece * MIB : (piece + 1) * MIB]),))


def pushed(memory: Memory, stream: Pusher, pool: ThreadPoolExecutor, transfer: Transfer | None = None) -> Swarm:
    """A download from one open stream."""
    loop = asyncio.get_running_loop()
    swarm = Swarm(
        MANIFEST,
        Picker(MANIFEST.piece_count, (), MANIFEST.length, choose=lambda n: 0),
        memory,
        disk=pool,
        budget=MemoryBudget(),
        transfer=transfer or Transfer(1, "push", loop.time),
        metrics=Metrics(),
        limiter=RateLimiter(None, loop.time),
        clock=loop.time,
    )
    swarm.join("ben", stream)
    return swarm


@pytest.mark.parametrize("responses", [(), (NoHolders("broke"),)], ids=["ends", "breaks"])
def test_a_push_fails_at_once_if_its_sender_leaves(responses: tuple[PeerError, ...]) -> None:
    async def push() -> None:
        with ThreadPoolExecutor(1) as pool:
            async with asyncio.timeout(3):
                await pushed(Memory(), Pusher(*responses), pool).run()

    with pytest.raises(NoHolders):
        asyncio.run(push())


def test_no_piece_is_written_after_a_download_was_cancelled_several_times() -> None:
    async def push() -> None:
        memory = Stuck()
        with ThreadPoolExecutor(1) as pool:
            task = asyncio.create_task(pushed(memory, Sender(), pool).run())
            await asyncio.to_thread(memory.started.wait, 10)
            for _ in range(3):
                task.cancel()
                # So that each cancellation meets another state.
                for _ in range(10):
                    await asyncio.sleep(0)
            done_too_soon = task.done()
            memory.let_go.set()
            await asyncio.wait([task])
            assert task.cancelled() and not done_too_soon
            assert memory.writes == 1

    asyncio.run(push())


class Late(Pusher):
    """Reports its pieces when `ready` is set, and sends none."""

    def __init__(self) -> None:
        super().__init__()
        self.ready = asyncio.Event()

    async def responses(self) -> Any:
        await self.ready.wait()
        yield PieceResponse(have=Have(complete=True))
        await asyncio.Event().wait()


def test_the_transfer_shows_whether_the_download_waits_for_a_source() -> None:
    async def phases() -> None:
        transfer, stream = Transfer(1, "push", asyncio.get_running_loop().time), Late()

        async def until(phase: Phase) -> None:
            while transfer.counters.phase is not phase:
                await asyncio.sleep(0.01)

        with ThreadPoolExecutor(1) as pool:
            task = asyncio.create_task(pushed(Memory(), stream, pool, transfer).run())
            try:
                async with asyncio.timeout(20):
                    await until(Phase.WAITING)
                    stream.ready.set()
                    await until(Phase.MOVING)
            finally:
                task.cancel()
                await asyncio.wait([task])

    asyncio.run(phases())
