"""Pieces on their way: assembled from requested blocks only, written only if they verify, and only once."""

import asyncio
import itertools
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.errors import BadUsage
from daemon.protocol.frames import Block
from daemon.swarm.pieces import PieceAssembler, PieceVerifier
from swarm_files import manifest_of

LENGTH = 40_000
PIECE = bytes(range(250)) * (LENGTH // 250)
MIB = 1 << 20
LARGE_PIECE = bytes(MIB)
MANIFEST = manifest_of(LARGE_PIECE)


@pytest.fixture
def assembler() -> PieceAssembler:
    return PieceAssembler(lambda piece: LENGTH)


def blocks(piece: int, cuts: Iterable[int]) -> list[Block]:
    """A piece, cut at these places."""
    edges = [0, *sorted(set(cuts) - {0, LENGTH}), LENGTH]
    return [Block(piece, a, PIECE[a:b]) for a, b in itertools.pairwise(edges)]


@given(st.lists(st.integers(1, LENGTH - 1), max_size=12), st.lists(st.integers(1, LENGTH - 1), max_size=12))
def test_a_piece_is_complete_with_its_last_block_however_it_was_cut(cuts: list[int], others: list[int]) -> None:
    assembler = PieceAssembler(lambda piece: LENGTH)
    assembler.expect(3)
    assembler.expect(4)
    for piece, cut in ((4, cuts), (3, others)):
        *first, last = blocks(piece, cut)
        assert all(assembler.add_block(block) is None for block in first)
        data = assembler.add_block(last)
        assert data is not None
        assert b"".join(data) == PIECE


def test_a_piece_that_starts_before_the_previous_one_is_complete_is_refused(assembler: PieceAssembler) -> None:
    assembler.expect(3)
    assembler.expect(4)
    first, last = blocks(3, [20_000])
    assembler.add_block(first)
    with pytest.raises(BadUsage, match="before the previous one was complete"):
        assembler.add_block(Block(4, 0, PIECE))
    assert b"".join(assembler.add_block(last) or ()) == PIECE
    assert assembler.add_block(Block(4, 0, PIECE)) == [PIECE]


@pytest.mark.parametrize(
    ("offset", "size"),
    [(1, 10), (LENGTH, 1), (0, LENGTH + 1), (0, 0)],
    ids=["gap", "beyond", "too long", "empty"],
)
def test_a_block_that_does_not_fit_is_refused(assembler: PieceAssembler, offset: int, size: int) -> None:
    assembler.expect(0)
    with pytest.raises(BadUsage, match="does not fit"):
        assembler.add_block(Block(0, offset, bytes(size)))


def test_a_repeated_block_is_refused(assembler: PieceAssembler) -> None:
    assembler.expect(0)
    assembler.add_block(Block(0, 0, bytes(10)))
    with pytest.raises(BadUsage, match="does not fit"):
        assembler.add_block(Block(0, 0, bytes(10)))


def test_a_piece_that_was_not_requested_is_refused(assembler: PieceAssembler) -> None:
    assembler.expect(0)
    with pytest.raises(BadUsage, match="not requested"):
        assembler.add_block(Block(1, 0, PIECE))
    assert assembler.add_block(Block(0, 0, PIECE)) == [PIECE]
    with pytest.raises(BadUsage, match="not requested"):
        assembler.add_block(Block(0, 0, PIECE))


def test_a_piece_requested_again_after_a_cancellation_may_start_over(assembler: PieceAssembler) -> None:
    assembler.expect(0)
    assembler.add_block(Block(0, 0, bytes(10)))
    assembler.expect(0)
    for block in blocks(0, [20_000]):
        data = assembler.add_block(block)
    assert data is not None
    assert b"".join(data) == PIECE
    with pytest.raises(BadUsage):
        assembler.add_block(Block(0, 0, PIECE))


def test_a_piece_sent_before_its_cancellation_arrived_may_be_sent_again(assembler: PieceAssembler) -> None:
    assembler.expect(0)
    assembler.expect(0)
    for _ in range(2):
        taken = [assembler.add_block(block) for block in blocks(0, [20_000])]
        assert taken[0] is None and b"".join(taken[1] or ()) == PIECE
    with pytest.raises(BadUsage, match="not requested"):
        assembler.add_block(Block(0, 0, PIECE))


@pytest.mark.parametrize("length", [1, 1024, 16_384])
def test_a_small_piece_may_come_in_a_few_small_blocks(length: int) -> None:
    assembler = PieceAssembler(lambda piece: length)
    assembler.expect(0)
    cut = min(16, length)
    for at in range(cut - 1):
        assert assembler.add_block(Block(0, at, b"x")) is None
    assert assembler.add_block(Block(0, cut - 1, bytes(length - cut + 1))) is not None


def test_tiny_blocks_are_refused_before_they_cost_much_memory(assembler: PieceAssembler) -> None:
    assembler.expect(0)
    tiny = (Block(0, offset, PIECE[offset : offset + 1]) for offset in range(LENGTH))
    with pytest.raises(BadUsage, match="too many small blocks"):
        all(assembler.add_block(block) is None for block in tiny)
    assert next(tiny).offset < 100


# --- PieceVerifier


@dataclass
class SlowStore:
    """Writes when `go_on` is set."""

    written: list[int] = field(default_factory=list)
    started: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def store(self, piece: int, data: Sequence[bytes | memoryview]) -> None:
        self.started.set()
        assert self.go_on.wait(10)
        self.written.append(piece)


async def verify(verifier: PieceVerifier, data: bytes) -> bool:
    await verifier.acquire()
    return await verifier.verify_and_write(0, [data])


def test_a_piece_from_two_sources_at_once_is_written_once() -> None:
    async def story() -> None:
        store = SlowStore()
        with ThreadPoolExecutor(3) as pool:
            verifier = PieceVerifier(MANIFEST, store, pool)
            first = asyncio.create_task(verify(verifier, LARGE_PIECE))
            await asyncio.to_thread(store.started.wait, 10)
            second = asyncio.create_task(verify(verifier, LARGE_PIECE))
            store.go_on.set()
            assert list(await asyncio.gather(first, second)) == [True, True]
            assert not verifier.busy
        assert store.written == [0]

    asyncio.run(story())


def test_a_duplicate_that_arrives_before_the_first_write_is_noticed_is_not_written() -> None:
    async def story() -> None:
        store = SlowStore()
        store.go_on.set()
        with ThreadPoolExecutor(1) as pool:
            verifier = PieceVerifier(MANIFEST, store, pool)
            await verifier.acquire()
            first = asyncio.create_task(verify(verifier, LARGE_PIECE))
            await asyncio.sleep(0)
            # The only thread has written the first one, and the event loop has not noticed it yet.
            pool.submit(lambda: None).result(10)
            assert store.written == [0]
            assert await verifier.verify_and_write(0, [LARGE_PIECE])
            assert await first
        assert store.written == [0]

    asyncio.run(story())


def test_a_good_piece_after_a_corrupt_one_is_written() -> None:
    async def story() -> None:
        store = SlowStore()
        store.go_on.set()
        with ThreadPoolExecutor(3) as pool:
            verifier = PieceVerifier(MANIFEST, store, pool)
            assert list(await asyncio.gather(verify(verifier, b"x" * MIB), verify(verifier, LARGE_PIECE))) == [
                False,
                True,
            ]
        assert store.written == [0]

    asyncio.run(story())


def test_closing_waits_for_a_write_whose_download_was_cancelled() -> None:
    async def story() -> None:
        store = SlowStore()
        with ThreadPoolExecutor(3) as pool:
            verifier = PieceVerifier(MANIFEST, store, pool)
            work = asyncio.create_task(verify(verifier, LARGE_PIECE))
            await asyncio.to_thread(store.started.wait, 10)
            work.cancel()
            await asyncio.wait([work])
            closing = asyncio.create_task(verifier.close())
            done, _ = await asyncio.wait([closing], timeout=0.05)
            assert not done
            store.go_on.set()
            await closing
            assert store.written == [0]

    asyncio.run(story())
