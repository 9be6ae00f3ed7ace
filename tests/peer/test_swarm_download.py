"""A download from holders on real ports, of which some lie, hang or babble: whole, right, in time, the liars named."""

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
from common.control_messages import SourceView
from daemon.errors import NoHolders, NotVerified, PeerError
from daemon.models import Holder as Found
from daemon.peers.client import PeerClient
from daemon.peers.limits import MemoryBudget, RateLimiter
from daemon.protocol.frames import Block
from daemon.protocol.piece_streams import Have, PieceRequest, PieceResponse
from daemon.runtime.metrics import Metrics
from daemon.runtime.transfers import Transfer
from daemon.swarm.download import Swarm
from daemon.swarm.piece_picker import Picker
from evil_holder import Holder, Way
from swarm_files import manifest_of

MIB = 1 << 20
RNG = random.Random(5)
CONTENT = RNG.randbytes(4 * MIB + 77)


MANIFEST = manifest_of(CONTENT)


@dataclass
class Memory:
    """Where the pieces go: checks that none comes twice."""

    pieces: dict[int, bytes] = field(default_factory=dict)
    writes: int = 0

    def store(self, piece: int, data: Sequence[bytes | memoryview]) -> None:
        self.writes += 1
        self.pieces[piece] = b"".join(data)


class Stuck(Memory):
    """Writes when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.let_go = threading.Event(), threading.Event()

    def store(self, piece: int, data: Sequence[bytes | memoryview]) -> None:
        self.begun.set()
        self.let_go.wait(10)
        super().store(piece, data)


@dataclass
class Outcome:
    """What became of a download."""

    memory: Memory
    holders: dict[str, SourceView]
    liars: list[tuple[str, str]]
    sources: list[str]
    seconds: float
    urls: list[str]

    @property
    def whole(self) -> bool:
        return b"".join(self.memory.pieces[piece] for piece in sorted(self.memory.pieces)) == CONTENT

    def view(self, number: int) -> SourceView:
        return self.holders[self.urls[number]]


async def fetch(
    ways: Sequence[Way],
    *,
    late: int = 0,
    seconds: float = 30.0,
    seed: int = 0,
    haste: float = 1,
    rate: int | None = None,
) -> Outcome:
    """Download CONTENT from holders that behave so; the last `late` are found only after a while. `rate` is the limit
    in bytes per second, `haste` how much quicker than time the download's own clock goes.
    """
    memory, liars, rng = Memory(), list[tuple[str, str]](), random.Random(seed)
    async with AsyncExitStack() as stack:
        stack.enter_context(pool := ThreadPoolExecutor(3))
        holders = [await stack.enter_async_context(Holder(CONTENT, MANIFEST, way).serving()) for way in ways]
        peers = PeerClient(None)
        stack.push_async_callback(peers.close)
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def find() -> list[Found]:
            known = holders if loop.time() - began > 0.8 else holders[: len(holders) - late]
            return [Found(holder.url, "ticket", True, "") for holder in known]

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
            on_corrupt=lambda holder, why: liars.append((holder, why)),
        )
        async with asyncio.timeout(seconds):
            await swarm.run()
        views = {view.address: view for view in swarm.sources()}
        urls = [holder.url for holder in holders]
        return Outcome(memory, views, liars, list(swarm.contributors), loop.time() - began, urls)


def run(work: Coroutine[Any, Any, Outcome]) -> Outcome:
    return asyncio.run(work)


def test_honest_holders_share_the_work_and_nothing_comes_twice() -> None:
    outcome = run(fetch([evil.unhurried] * 3))
    assert outcome.whole and outcome.liars == []
    assert outcome.memory.writes == MANIFEST.piece_count
    assert len(outcome.sources) >= 2


@pytest.mark.parametrize("ways", [[evil.honest, evil.honest], [evil.hanging], [evil.wrong_bytes], [evil.breaking]])
def test_a_download_leaves_nothing_to_the_search_for_cycles(ways: list[Way]) -> None:
    """Its last pieces would stay in memory until Python looks for them."""

    async def work() -> None:
        # Not what asyncio.run would raise: that is a cycle of its own.
        with suppress(NoHolders, NotVerified):
            await fetch(ways, haste=15)

    gc.collect()
    gc.disable()
    try:
        asyncio.run(work())
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = [item for item in gc.garbage if isinstance(item, FrameType)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    ours = [frame.f_code for frame in left if frame.f_globals["__name__"].startswith("daemon.")]
    assert [code.co_qualname for code in ours] == []


def flip_one_byte(count: int, seed: int) -> None:
    rng = random.Random(seed)

    async def all_of_them() -> None:
        for number in range(count):
            at = rng.randrange(len(CONTENT))
            outcome = await fetch([evil.flipping(at), evil.honest], seed=number)
            assert outcome.whole
            # At most one piece was fetched for nothing, and the one who spoilt it is named, nobody else.
            assert len(outcome.liars) <= 1
            assert all(liar == (outcome.urls[0], f"piece {at // MIB} did not verify") for liar in outcome.liars)
            if outcome.liars:
                assert outcome.view(0).state == "dropped"
            assert outcome.memory.writes == MANIFEST.piece_count
            caught.append(bool(outcome.liars))

    caught: list[bool] = []
    asyncio.run(all_of_them())
    print(f"seed {seed}: {sum(caught)} liars were asked for the piece that they spoil, of {count}")


def flip_in_the_only_holder(count: int, seed: int) -> None:
    """With one holder only, the spoilt byte is always met: it must always be found."""
    rng = random.Random(seed)

    async def all_of_them() -> None:
        for number in range(count):
            at = rng.randrange(len(CONTENT))
            outcome = await fetch([evil.flipping(at), evil.honest], late=1, seed=number)
            assert outcome.whole
            assert outcome.liars == [(outcome.urls[0], f"piece {at // MIB} did not verify")]
            assert outcome.memory.writes == MANIFEST.piece_count

    asyncio.run(all_of_them())


@pytest.mark.timeout(300)
def test_one_flipped_byte_is_found_and_costs_a_piece_and_names_the_holder() -> None:
    flip_one_byte(80, seed=1)
    flip_in_the_only_holder(20, seed=2)


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_1000_flipped_bytes() -> None:
    flip_one_byte(500, seed=3)
    flip_in_the_only_holder(500, seed=4)


@pytest.mark.parametrize(
    "way",
    [
        evil.wrong_bytes,
        evil.crumbling,
        evil.endless,
        evil.unasked,
        evil.oversized,
        evil.lying_bitmap,
        evil.odd_bitmap,
        evil.chattering,
        evil.early,
        evil.breaking,
        evil.hoarding,
        evil.malformed,
        evil.overlong,
        evil.huge_metadata,
        evil.refusing,
        evil.silent,
    ],
    ids=lambda way: way.__name__,
)
def test_a_download_ends_well_whatever_one_holder_does(way: Way) -> None:
    outcome = run(fetch([way, way, evil.honest]))
    assert outcome.whole
    assert outcome.urls[2] in outcome.sources
    assert outcome.seconds < 5
    # Only bytes that do not verify are a lie that is reported.
    assert {liar for liar, _ in outcome.liars} <= ({*outcome.urls[:2]} if way is evil.wrong_bytes else set())
    for view in outcome.holders.values():
        assert view.reason.isprintable() and len(view.reason) < 500


@pytest.mark.parametrize("way", [evil.hanging, evil.trickling], ids=["hanging", "trickling"])
def test_pieces_of_one_that_hangs_are_asked_of_another(way: Way) -> None:
    outcome = run(fetch([way, evil.honest]))
    assert outcome.whole
    # Before the silence is long enough to be noticed, the idle holder has taken over what was late.
    assert outcome.seconds < 7
    assert outcome.urls[1] in outcome.sources


def test_one_that_hangs_is_noticed_when_the_other_comes_late() -> None:
    outcome = run(fetch([evil.hanging, evil.honest], late=1))
    assert outcome.whole
    assert outcome.seconds < 7


def test_thirty_silent_holders_leave_room_for_an_honest_one() -> None:
    outcome = run(fetch([evil.silent] * 30 + [evil.honest]))
    assert outcome.whole
    assert outcome.seconds < 15


def test_nobody_but_liars_ends_with_that_and_soon() -> None:
    # Ten seconds pass in a quarter of one.
    with pytest.raises(NotVerified, match=r"piece 2 did not verify.*run it again when another peer has it"):
        run(fetch([evil.flipping(2 * MIB), evil.flipping(2 * MIB)], haste=40, seconds=5))


def test_an_honest_holder_that_comes_after_the_liars_is_in_time() -> None:
    outcome = run(fetch([evil.wrong_bytes, evil.honest], late=1))
    assert outcome.whole
    assert outcome.sources == [outcome.urls[1]]


def test_nobody_who_sends_anything_ends_with_no_holders() -> None:
    # A minute passes in a second and a half.
    with pytest.raises(NoHolders, match=r"sent anything new for 60 s.*run it again to resume"):
        run(fetch([evil.refusing, evil.wrong_bytes], haste=40))


def test_a_limit_of_our_own_that_takes_longer_for_a_piece_is_nobodys_silence() -> None:
    # A piece each 80 s of the download's clock, which gives up after 60.
    assert run(fetch([evil.honest], haste=100, rate=1_300_000)).whole


def test_silence_under_a_limit_of_our_own_is_given_up_on_all_the_same() -> None:
    with pytest.raises(NoHolders, match=r"sent anything new for 60 s"):
        run(fetch([evil.hanging] * 3, haste=40, rate=1_300_000))


def test_beginnings_without_end_are_no_sign_of_life() -> None:
    with pytest.raises(NoHolders, match="run it again to resume"):
        run(fetch([evil.breaking], haste=40))


def test_a_holder_cannot_have_us_keep_the_beginnings_of_all_pieces() -> None:
    with pytest.raises(NoHolders, match="it started a piece before the previous one was complete"):
        run(fetch([evil.hoarding], haste=40))


class Pusher:
    """AskerEnd of a push whose sender does as told."""

    def __init__(self, *news: Any) -> None:
        self._news = news

    def request(self, wish: Any) -> None:
        """Nothing is done about it."""

    async def responses(self) -> Any:
        for each in self._news:
            if isinstance(each, Exception):
                raise each
            yield each

    async def close(self) -> None:
        """Nothing."""


class Sender(Pusher):
    """Sends what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._asked = asyncio.Queue[int]()

    def request(self, wish: PieceRequest) -> None:
        for piece in wish.pieces:
            self._asked.put_nowait(piece)

    async def responses(self) -> Any:
        yield PieceResponse(have=Have(complete=True))
        while True:
            piece = await self._asked.get()
            yield PieceResponse(blocks=(Block(piece, 0, CONTENT[piece * MIB : (piece + 1) * MIB]),))


def pushed(memory: Memory, end: Pusher, pool: ThreadPoolExecutor) -> Swarm:
    """A file that comes by one stream."""
    loop = asyncio.get_running_loop()
    swarm = Swarm(
        MANIFEST,
        Picker(MANIFEST.piece_count, (), MANIFEST.length, choose=lambda n: 0),
        memory,
        disk=pool,
        budget=MemoryBudget(),
        transfer=Transfer(1, "push", loop.time),
        metrics=Metrics(),
        limiter=RateLimiter(None, loop.time),
        clock=loop.time,
    )
    swarm.join("ben", end)
    return swarm


@pytest.mark.parametrize("end", [(), (NoHolders("broke"),)], ids=["ends", "breaks"])
def test_a_push_whose_sender_goes_away_ends_at_once(end: tuple[PeerError, ...]) -> None:
    async def push() -> None:
        with ThreadPoolExecutor(1) as pool:
            async with asyncio.timeout(3):
                await pushed(Memory(), Pusher(*end), pool).run()

    with pytest.raises(NoHolders):
        asyncio.run(push())


def test_nothing_is_written_any_more_when_a_download_is_over_however_often_it_is_cancelled() -> None:
    async def push() -> None:
        memory = Stuck()
        with ThreadPoolExecutor(1) as pool:
            task = asyncio.create_task(pushed(memory, Sender(), pool).run())
            await asyncio.to_thread(memory.begun.wait, 10)
            for _ in range(3):
                task.cancel()
                # So that each finds it at another place.
                for _ in range(10):
                    await asyncio.sleep(0)
            over_too_soon = task.done()
            memory.let_go.set()
            await asyncio.wait([task])
            assert task.cancelled() and not over_too_soon
            assert memory.writes == 1

    asyncio.run(push())
