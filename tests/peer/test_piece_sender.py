"""Two askers at one holder: it sends nothing twice that one of them will soon have from the other."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from daemon.peers.limits import RateLimiter
from daemon.protocol.piece_streams import PieceRequest, PieceResponse
from daemon.storage.manifest import Manifest
from daemon.transfer.piece_sender import PieceSender
from daemon.transfer.served_files import CompleteFile
from live_pserver import LivePserver

MIB = 1 << 20


@dataclass
class Asker:
    """The other end of a stream: says what it wants, and takes what is sent as long as its gate is open."""

    wishes_left: "asyncio.Queue[PieceRequest | None]" = field(default_factory=asyncio.Queue)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    begun: "asyncio.Queue[int]" = field(default_factory=asyncio.Queue)
    given: list[int] = field(default_factory=list)

    def ask(self, *pieces: int) -> None:
        self.wishes_left.put_nowait(PieceRequest(pieces=pieces, block_length=MIB))

    async def requests(self) -> AsyncIterator[PieceRequest]:
        while (wish := await self.wishes_left.get()) is not None:
            yield wish

    async def send(self, news: PieceResponse) -> None:
        if news.have is not None:
            self.given.extend(news.have.in_flight)
        for block in news.blocks:
            self.begun.put_nowait(block.number)
        if news.blocks:
            await self.gate.wait()


@pytest.fixture
def source(ana: LivePserver, film: Manifest) -> Iterator[CompleteFile]:
    file = ana.pserver.sources.open_complete(film.id)
    yield file
    file.close()


@asynccontextmanager
async def two_askers(source: CompleteFile) -> AsyncIterator[tuple[Asker, Asker]]:
    """Serve one that is being sent piece 3 and takes its time, and one that takes all at once."""
    slow, quick = Asker(), Asker()
    quick.gate.set()
    limiter = RateLimiter(None, asyncio.get_running_loop().time)
    with ThreadPoolExecutor(2) as disk:
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            for name, asker in (("slow", slow), ("quick", quick)):
                group.create_task(PieceSender(source, asker, requester=name, disk=disk, limiter=limiter).run())
            slow.ask(3)
            assert await slow.begun.get() == 3
            yield slow, quick
            slow.gate.set()
            for asker in (slow, quick):
                asker.wishes_left.put_nowait(None)


def test_a_piece_on_its_way_to_another_asker_is_passed_over(source: CompleteFile) -> None:
    async def story() -> None:
        async with two_askers(source) as (slow, quick):
            quick.ask(3, 7, 8)
            assert [await quick.begun.get() for _ in range(2)] == [7, 8]
            assert 3 in quick.given
            slow.gate.set()
            assert await quick.begun.get() == 3

    asyncio.run(story())


def test_a_wish_for_what_another_is_being_sent_can_be_taken_back(source: CompleteFile) -> None:
    async def story() -> None:
        async with two_askers(source) as (_, quick):
            quick.ask(3, 7)
            assert await quick.begun.get() == 7
            quick.wishes_left.put_nowait(PieceRequest(cancel=(3,), pieces=(9,)))
            assert await quick.begun.get() == 9
            assert quick.begun.empty()

    asyncio.run(story())


def test_an_asker_that_takes_nothing_keeps_its_piece_from_nobody(source: CompleteFile) -> None:
    async def story() -> None:
        async with two_askers(source) as (slow, quick):
            quick.ask(3)
            assert await quick.begun.get() == 3
            assert not slow.gate.is_set()

    asyncio.run(story())


def test_a_stream_that_ends_leaves_nothing_on_its_way(source: CompleteFile) -> None:
    async def story() -> None:
        async with two_askers(source):
            assert source.is_being_sent(3, lambda have: None)
        assert not source.is_being_sent(3, lambda have: None)

    asyncio.run(story())
