"""Pieces on their way to the disk: only what verifies is written, and only once."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from daemon.swarm.pieces import PieceVerifier
from swarm_files import manifest_of

MIB = 1 << 20
PIECE = bytes(MIB)
MANIFEST = manifest_of(PIECE)


@dataclass
class SlowStore:
    """Writes when it is let."""

    written: list[int] = field(default_factory=list)
    begun: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def store(self, piece: int, data: Sequence[bytes | memoryview]) -> None:
        self.begun.set()
        assert self.go_on.wait(10)
        self.written.append(piece)


async def settle(settling: PieceVerifier, data: bytes) -> bool:
    await settling.acquire()
    return await settling.verify_and_write(0, [data])


def test_a_piece_that_comes_from_two_holders_at_once_is_written_once() -> None:
    async def story() -> None:
        store = SlowStore()
        with ThreadPoolExecutor(3) as pool:
            settling = PieceVerifier(MANIFEST, store, pool)
            first = asyncio.create_task(settle(settling, PIECE))
            await asyncio.to_thread(store.begun.wait, 10)
            second = asyncio.create_task(settle(settling, PIECE))
            store.go_on.set()
            assert list(await asyncio.gather(first, second)) == [True, True]
            assert not settling.busy
        assert store.written == [0]

    asyncio.run(story())


def test_a_copy_that_comes_before_the_first_was_noted_is_not_written() -> None:
    async def story() -> None:
        store = SlowStore()
        store.go_on.set()
        with ThreadPoolExecutor(1) as pool:
            settling = PieceVerifier(MANIFEST, store, pool)
            await settling.acquire()
            first = asyncio.create_task(settle(settling, PIECE))
            await asyncio.sleep(0)
            # The only thread is done with the first, and this loop has not heard so.
            pool.submit(lambda: None).result(10)
            assert store.written == [0]
            assert await settling.verify_and_write(0, [PIECE])
            assert await first
        assert store.written == [0]

    asyncio.run(story())


def test_a_good_piece_behind_a_bad_one_is_written() -> None:
    async def story() -> None:
        store = SlowStore()
        store.go_on.set()
        with ThreadPoolExecutor(3) as pool:
            settling = PieceVerifier(MANIFEST, store, pool)
            assert list(await asyncio.gather(settle(settling, b"x" * MIB), settle(settling, PIECE))) == [False, True]
        assert store.written == [0]

    asyncio.run(story())


def test_closing_waits_for_a_write_whose_download_was_cancelled() -> None:
    async def story() -> None:
        store = SlowStore()
        with ThreadPoolExecutor(3) as pool:
            settling = PieceVerifier(MANIFEST, store, pool)
            work = asyncio.create_task(settle(settling, PIECE))
            await asyncio.to_thread(store.begun.wait, 10)
            work.cancel()
            await asyncio.wait([work])
            closing = asyncio.create_task(settling.close())
            done, _ = await asyncio.wait([closing], timeout=0.05)
            assert not done
            store.go_on.set()
            await closing
            assert store.written == [0]

    asyncio.run(story())
