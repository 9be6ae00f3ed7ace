"""What waits to be told to the other end of a stream stays small, however long the other end does not listen."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor

from daemon.peers.limits import RateLimiter
from daemon.protocol.piece_streams import Have, PendingRequests, PieceRequest, PieceResponse
from daemon.storage.manifest import Manifest
from daemon.transfer.piece_sender import PieceSender
from swarm_files import manifest_of


def test_wishes_that_wait_become_one() -> None:
    unsent = PendingRequests()
    for wish in (PieceRequest((1, 2), 64, ()), PieceRequest((3,), 0, (2,)), PieceRequest((2,), 128, ())):
        unsent.add(wish)
    assert unsent.pop() == PieceRequest((1, 3, 2), 128, (2,))
    assert not unsent


def test_a_piece_asked_for_and_cancelled_again_and_again_waits_once() -> None:
    unsent = PendingRequests()
    for _ in range(200_000):
        unsent.add(PieceRequest((1,)))
        unsent.add(PieceRequest(cancel=(1,)))
    assert unsent.pop() == PieceRequest((), 0, (1,))
    assert not unsent


def test_as_many_wishes_as_cancellations_are_something_to_send() -> None:
    unsent = PendingRequests()
    unsent.add(PieceRequest((1,), 0, (2,)))
    assert unsent and len(unsent) == 2


def test_what_is_asked_for_again_is_never_told_before_its_cancellation() -> None:
    unsent = PendingRequests()
    last = PendingRequests.MAX_PIECES + 9
    unsent.add(PieceRequest(cancel=tuple(range(last + 1))))
    unsent.add(PieceRequest((last,)))
    assert unsent.pop() == PieceRequest((), 0, tuple(range(PendingRequests.MAX_PIECES)))
    assert unsent.pop() == PieceRequest((last,), 0, tuple(range(PendingRequests.MAX_PIECES, last + 1)))
    assert not unsent


def test_many_wishes_go_in_several_messages() -> None:
    unsent = PendingRequests()
    unsent.add(PieceRequest(tuple(range(1000)), 64, (1000,)))
    first, second = unsent.pop(), unsent.pop()
    assert (*first.pieces, *second.pieces) == tuple(range(1000))
    assert (len(first.pieces), first.cancel, second.cancel) == (PendingRequests.MAX_PIECES, (1000,), ())
    assert not unsent


class Source:
    """A file of one piece, and whoever listens to its news."""

    def __init__(self) -> None:
        self.manifest: Manifest = manifest_of(b"x")
        self.listeners: list[Callable[[Have], None]] = []

    def have(self) -> Have:
        return Have(complete=True)

    def read(self, piece: int, offset: int, length: int) -> bytes:
        return b"x"

    def subscribe(self, listener: Callable[[Have], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def begin_send(self, piece: int, listener: Callable[[Have], None]) -> None:
        """Nobody else is here."""

    def end_send(self, piece: int, listener: Callable[[Have], None]) -> None:
        """Nothing was begun."""

    def is_being_sent(self, piece: int, listener: Callable[[Have], None]) -> bool:
        return False


class Asker:
    """One that does not take the first word until it is told to, and ends the stream when it has heard news."""

    def __init__(self) -> None:
        self.heard: list[PieceResponse] = []
        self.takes = asyncio.Event()
        self.ends = asyncio.Event()

    async def requests(self) -> AsyncIterator[PieceRequest]:
        await self.ends.wait()
        for wish in tuple[PieceRequest, ...]():
            yield wish

    async def send(self, news: PieceResponse) -> None:
        await self.takes.wait()
        self.heard.append(news)
        if len(self.heard) == 2:
            self.ends.set()


def test_a_piece_given_thousands_of_times_is_told_once() -> None:
    async def serving() -> list[PieceResponse]:
        source, asker = Source(), Asker()
        with ThreadPoolExecutor(1) as disk:
            limiter = RateLimiter(None, asyncio.get_running_loop().time)
            task = asyncio.create_task(PieceSender(source, asker, requester="ben", disk=disk, limiter=limiter).run())
            while not source.listeners:
                await asyncio.sleep(0)
            for _ in range(5000):
                source.listeners[0](Have(in_flight=(0,)))
            asker.takes.set()
            async with asyncio.timeout(10):
                await task
        return asker.heard

    first, news = asyncio.run(serving())
    assert first.have == Have(complete=True)
    assert news.have == Have(in_flight=(0,))
