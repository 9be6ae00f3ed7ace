"""Messages that wait for a slow peer stay small: pending piece requests, and events of pieces."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor

from daemon.peers.limits import RateLimiter
from daemon.protocol.transfer_messages import Have, PendingRequests, PieceRequest, PieceResponse
from daemon.storage.manifest import Manifest
from daemon.transfer.piece_sender import PieceSender
from swarm_files import manifest_of


def test_pending_requests_are_merged() -> None:
    pending = PendingRequests()
    for request in (PieceRequest((1, 2), 64, ()), PieceRequest((3,), 0, (2,)), PieceRequest((2,), 128, ())):
        pending.add(request)
    assert pending.pop() == PieceRequest((1, 3, 2), 128, (2,))
    assert not pending


def test_a_piece_requested_and_cancelled_many_times_is_pending_once() -> None:
    pending = PendingRequests()
    for _ in range(200_000):
        pending.add(PieceRequest((1,)))
        pending.add(PieceRequest(cancel=(1,)))
    assert pending.pop() == PieceRequest((), 0, (1,))
    assert not pending


def test_a_request_and_a_cancellation_are_both_pending() -> None:
    pending = PendingRequests()
    pending.add(PieceRequest((1,), 0, (2,)))
    assert pending and len(pending) == 2


def test_a_piece_requested_again_is_sent_after_its_cancellation() -> None:
    pending = PendingRequests()
    last = PendingRequests.MAX_PIECES + 9
    pending.add(PieceRequest(cancel=tuple(range(last + 1))))
    pending.add(PieceRequest((last,)))
    assert pending.pop() == PieceRequest((), 0, tuple(range(PendingRequests.MAX_PIECES)))
    assert pending.pop() == PieceRequest((last,), 0, tuple(range(PendingRequests.MAX_PIECES, last + 1)))
    assert not pending


def test_many_requests_are_sent_in_several_messages() -> None:
    pending = PendingRequests()
    pending.add(PieceRequest(tuple(range(1000)), 64, (1000,)))
    first, second = pending.pop(), pending.pop()
    assert (*first.pieces, *second.pieces) == tuple(range(1000))
    assert (len(first.pieces), first.cancel, second.cancel) == (PendingRequests.MAX_PIECES, (1000,), ())
    assert not pending


class OnePiece:
    """A served file of one piece, and its listeners."""

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
        """There is no other requester."""

    def end_send(self, piece: int, listener: Callable[[Have], None]) -> None:
        """Nothing was started."""

    def is_being_sent(self, piece: int, listener: Callable[[Have], None]) -> bool:
        return False


class SlowRequester:
    """Receives the first message when `receives` is set, and closes the stream after the second one."""

    def __init__(self) -> None:
        self.received: list[PieceResponse] = []
        self.receives = asyncio.Event()
        self.closes = asyncio.Event()

    async def requests(self) -> AsyncIterator[PieceRequest]:
        await self.closes.wait()
        for request in tuple[PieceRequest, ...]():
            yield request

    async def send(self, response: PieceResponse) -> None:
        await self.receives.wait()
        self.received.append(response)
        if len(self.received) == 2:
            self.closes.set()


def test_a_piece_in_flight_elsewhere_many_times_is_reported_once() -> None:
    async def serving() -> list[PieceResponse]:
        file, requester = OnePiece(), SlowRequester()
        with ThreadPoolExecutor(1) as disk:
            limiter = RateLimiter(None, asyncio.get_running_loop().time)
            task = asyncio.create_task(PieceSender(file, requester, requester="ben", disk=disk, limiter=limiter).run())
            while not file.listeners:
                await asyncio.sleep(0)
            for _ in range(5000):
                file.listeners[0](Have(in_flight=(0,)))
            requester.receives.set()
            async with asyncio.timeout(10):
                await task
        return requester.received

    first, response = asyncio.run(serving())
    assert first.have == Have(complete=True)
    assert response.have == Have(in_flight=(0,))
