"""Two requesters at one holder: a piece in flight to one is deferred for the other."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from daemon.peers.limits import RateLimiter
from daemon.protocol.transfer_messages import PieceRequest, PieceResponse
from daemon.storage.manifest import Manifest
from daemon.transfer.piece_sender import PieceSender
from daemon.transfer.served_files import CompleteFile
from live_pserver import LivePserver

MIB = 1 << 20


@dataclass
class Requester:
    """The other side of a stream: sends requests, and receives blocks while its gate is open."""

    requests_left: "asyncio.Queue[PieceRequest | None]" = field(default_factory=asyncio.Queue)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    received: "asyncio.Queue[int]" = field(default_factory=asyncio.Queue)
    in_flight: list[int] = field(default_factory=list)

    def request(self, *pieces: int) -> None:
        self.requests_left.put_nowait(PieceRequest(pieces=pieces, block_length=MIB))

    async def requests(self) -> AsyncIterator[PieceRequest]:
        while (request := await self.requests_left.get()) is not None:
            yield request

    async def send(self, news: PieceResponse) -> None:
        if news.have is not None:
            self.in_flight.extend(news.have.in_flight)
        for block in news.blocks:
            self.received.put_nowait(block.number)
        if news.blocks:
            await self.gate.wait()


@pytest.fixture
def source(ana: LivePserver, film: Manifest) -> Iterator[CompleteFile]:
    file = ana.pserver.served_files.open_complete(film.id)
    yield file
    file.close()


@asynccontextmanager
async def two_requesters(source: CompleteFile) -> AsyncIterator[tuple[Requester, Requester]]:
    """Serve a slow requester that is receiving piece 3, and a fast one."""
    slow, fast = Requester(), Requester()
    fast.gate.set()
    limiter = RateLimiter(None, asyncio.get_running_loop().time)
    with ThreadPoolExecutor(2) as disk:
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            for name, requester in (("slow", slow), ("fast", fast)):
                group.create_task(PieceSender(source, requester, requester=name, disk=disk, limiter=limiter).run())
            slow.request(3)
            assert await slow.received.get() == 3
            yield slow, fast
            slow.gate.set()
            for requester in (slow, fast):
                requester.requests_left.put_nowait(None)


def test_a_piece_in_flight_to_another_requester_is_deferred(source: CompleteFile) -> None:
    async def story() -> None:
        async with two_requesters(source) as (slow, fast):
            fast.request(3, 7, 8)
            assert [await fast.received.get() for _ in range(2)] == [7, 8]
            assert 3 in fast.in_flight
            slow.gate.set()
            assert await fast.received.get() == 3

    asyncio.run(story())


def test_a_deferred_request_can_be_cancelled(source: CompleteFile) -> None:
    async def story() -> None:
        async with two_requesters(source) as (_, fast):
            fast.request(3, 7)
            assert await fast.received.get() == 7
            fast.requests_left.put_nowait(PieceRequest(cancel=(3,), pieces=(9,)))
            assert await fast.received.get() == 9
            assert fast.received.empty()

    asyncio.run(story())


def test_a_requester_that_does_not_receive_defers_a_piece_only_for_a_while(source: CompleteFile) -> None:
    async def story() -> None:
        async with two_requesters(source) as (slow, fast):
            fast.request(3)
            assert await fast.received.get() == 3
            assert not slow.gate.is_set()

    asyncio.run(story())


def test_a_closed_stream_leaves_no_piece_in_flight(source: CompleteFile) -> None:
    async def story() -> None:
        async with two_requesters(source):
            assert source.is_being_sent(3, lambda have: None)
        assert not source.is_being_sent(3, lambda have: None)

    asyncio.run(story())
