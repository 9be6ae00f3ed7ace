"""What waits to be told to the other end of a stream stays small, however long the other end does not listen."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor

from daemon.peers.limits import Bandwidth
from daemon.protocol.piece_streams import Have, News, Unsent, Wish
from daemon.storage.manifest import Manifest
from daemon.transfer.piece_sender import serve
from swarm_files import manifest_of


def test_wishes_that_wait_become_one() -> None:
    unsent = Unsent()
    for wish in (Wish((1, 2), 64, ()), Wish((3,), 0, (2,)), Wish((2,), 128, ())):
        unsent.add(wish)
    assert unsent.take() == Wish((1, 3, 2), 128, (2,))
    assert not unsent


def test_a_piece_asked_for_and_cancelled_again_and_again_waits_once() -> None:
    unsent = Unsent()
    for _ in range(200_000):
        unsent.add(Wish((1,)))
        unsent.add(Wish(cancel=(1,)))
    assert unsent.take() == Wish((), 0, (1,))
    assert not unsent


def test_as_many_wishes_as_cancellations_are_something_to_send() -> None:
    unsent = Unsent()
    unsent.add(Wish((1,), 0, (2,)))
    assert unsent and len(unsent) == 2


def test_what_is_asked_for_again_is_never_told_before_its_cancellation() -> None:
    unsent = Unsent()
    last = Unsent.MOST + 9
    unsent.add(Wish(cancel=tuple(range(last + 1))))
    unsent.add(Wish((last,)))
    assert unsent.take() == Wish((), 0, tuple(range(Unsent.MOST)))
    assert unsent.take() == Wish((last,), 0, tuple(range(Unsent.MOST, last + 1)))
    assert not unsent


def test_many_wishes_go_in_several_messages() -> None:
    unsent = Unsent()
    unsent.add(Wish(tuple(range(1000)), 64, (1000,)))
    first, second = unsent.take(), unsent.take()
    assert (*first.pieces, *second.pieces) == tuple(range(1000))
    assert (len(first.pieces), first.cancel, second.cancel) == (Unsent.MOST, (1000,), ())
    assert not unsent


class Source:
    """A file of one piece, and whoever listens to its news."""

    def __init__(self) -> None:
        self.manifest: Manifest = manifest_of(b"x")
        self.listeners: list[Callable[[Have], None]] = []

    def have(self) -> Have:
        return Have(whole=True)

    def read(self, piece: int, offset: int, length: int) -> bytes:
        return b"x"

    def subscribe(self, listener: Callable[[Have], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def give(self, piece: int, listener: Callable[[Have], None]) -> None:
        """Nobody else is here."""

    def given(self, piece: int, listener: Callable[[Have], None]) -> None:
        """Nothing was begun."""

    def on_its_way(self, piece: int, listener: Callable[[Have], None]) -> bool:
        return False


class Asker:
    """One that does not take the first word until it is told to, and ends the stream when it has heard news."""

    def __init__(self) -> None:
        self.heard: list[News] = []
        self.takes = asyncio.Event()
        self.ends = asyncio.Event()

    async def wishes(self) -> AsyncIterator[Wish]:
        await self.ends.wait()
        for wish in tuple[Wish, ...]():
            yield wish

    async def send(self, news: News) -> None:
        await self.takes.wait()
        self.heard.append(news)
        if len(self.heard) == 2:
            self.ends.set()


def test_a_piece_given_thousands_of_times_is_told_once() -> None:
    async def serving() -> list[News]:
        source, asker = Source(), Asker()
        with ThreadPoolExecutor(1) as disk:
            bandwidth = Bandwidth(None, asyncio.get_running_loop().time)
            task = asyncio.create_task(serve(source, asker, asker="ben", disk=disk, bandwidth=bandwidth))
            while not source.listeners:
                await asyncio.sleep(0)
            for _ in range(5000):
                source.listeners[0](Have(given=(0,)))
            asker.takes.set()
            async with asyncio.timeout(10):
                await task
        return asker.heard

    first, news = asyncio.run(serving())
    assert first.have == Have(whole=True)
    assert news.have == Have(given=(0,))
