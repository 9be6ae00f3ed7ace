"""Many files of one piece pushed to one peer over one stream: offered, asked for, sent, published."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import pserver_pb2 as pb
from daemon.errors import NoHolders, PeerError
from daemon.models import Version
from daemon.peers.client import Call, PeerClient
from daemon.peers.limits import RateLimiter
from daemon.protocol import status_codes
from daemon.protocol.frames import Frame
from daemon.runtime.executors import Threads
from daemon.transfer.push import SILENCE
from daemon.transfer.sources import Sharing

# Offered and not yet settled.
_WINDOW = 1024
_OFFERS = 256
_FRAME_BYTES = 1 << 20
_FRAME_FILES = 256


class Offer:
    """A file that a peer should take, with the permission to push it there."""

    def __init__(self, version: Version, ticket: str) -> None:
        self.version = version
        self.ticket = ticket


@dataclass(slots=True)
class _Run:
    """One stream's files by number: not settled yet; wanted by the receiver, and not sent; wanted at any time."""

    open: dict[int, Offer] = field(default_factory=dict)
    wanted: dict[int, None] = field(default_factory=dict)
    asked: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallPusher:
    """Pushes small files."""

    peers: PeerClient
    sharing: Sharing
    threads: Threads
    bandwidth: RateLimiter
    patience: float = 2 * SILENCE

    async def push(
        self,
        url: str,
        offers: Sequence[Offer],
        settled: Callable[[Offer, PeerError | None], None],
        on_sent: Callable[[int], None],
    ) -> None:
        """Push files to one peer; `settled` hears of each that it has published or refused.

        Raises:
            PeerError: if the stream breaks; those not settled by then are not there.
        """
        async with self.peers.open_call("UploadSmallFiles", url, offers[0].ticket) as call:
            run = _Run()
            numbered = iter(enumerate(offers))
            replies = call.responses()
            await self._offer(call, run, numbered)
            clock = asyncio.get_running_loop().time
            useful = clock()
            while run.open:
                try:
                    # What neither wants nor settles a file is as good as silence.
                    async with asyncio.timeout(max(0.0, useful + self.patience - clock())):
                        reply = await anext(replies, None)
                except TimeoutError:
                    raise NoHolders(f"{url}: took nothing for {self.patience:.0f} s") from None
                if reply is None:
                    raise NoHolders(f"{url}: ended without taking all files")
                before = len(run.open), len(run.asked)
                self._hear(url, reply, run, settled)
                if (len(run.open), len(run.asked)) != before:
                    useful = clock()
                await self._send(call, run, settled, on_sent)
                if len(run.open) <= _WINDOW // 2:
                    await self._offer(call, run, numbered)
            await call.half_close()

    async def _offer(self, call: Call, run: _Run, numbered: Iterator[tuple[int, Offer]]) -> None:
        while len(run.open) < _WINDOW:
            offers = []
            for number, offer in numbered:
                run.open[number] = offer
                version = offer.version
                offers.append(
                    pb.SmallFileOffer(number=number, name=version.name, size=version.size, ticket=offer.ticket)
                )
                if len(offers) == _OFFERS:
                    break
            if not offers:
                return
            await call.write(Frame((), pb.UploadSmallFilesRequest(offers=offers)))

    @staticmethod
    def _hear(
        url: str, reply: pb.UploadSmallFilesResponse, run: _Run, settled: Callable[[Offer, PeerError | None], None]
    ) -> None:
        for verdict in reply.verdicts:
            offer = run.open.get(verdict.number)
            if offer is None:
                continue
            if verdict.verdict == pb.SmallFileVerdict.VERDICT_WANTED:
                # Once: or it would be sent as often as the receiver says so.
                if verdict.number not in run.asked:
                    run.asked.add(verdict.number)
                    run.wanted[verdict.number] = None
                continue
            del run.open[verdict.number]
            run.wanted.pop(verdict.number, None)
            refused = verdict.verdict != pb.SmallFileVerdict.VERDICT_PUBLISHED
            error = status_codes.error_from_code(verdict.code, f"{url}: {verdict.message}") if refused else None
            settled(offer, error)

    async def _send(
        self,
        call: Call,
        run: _Run,
        settled: Callable[[Offer, PeerError | None], None],
        on_sent: Callable[[int], None],
    ) -> None:
        """Send what is wanted, in frames of about 1 MiB; smaller where an upload limit makes one take long."""
        while run.wanted:
            numbers = _frame(run.wanted, run.open, self.bandwidth.max_block(_FRAME_BYTES))
            for number in numbers:
                del run.wanted[number]
            files = [(number, run.open[number].version.id) for number in numbers]
            blocks, failed = await self.threads.run(self.threads.payload, self.sharing.read_small, files)
            for number, error in failed:
                settled(run.open.pop(number), error)
            size = sum(len(block.data) for block in blocks)
            await self.bandwidth.acquire(size, call.address)
            await call.write(Frame(blocks, pb.UploadSmallFilesRequest()))
            on_sent(size)


def _frame(wanted: Iterable[int], offers: Mapping[int, Offer], most: int) -> list[int]:
    """Return the files of the next frame: of `most` bytes together, or a single one."""
    numbers: list[int] = []
    size = 0
    for number in islice(wanted, _FRAME_FILES):
        size += offers[number].version.size
        if numbers and size > most:
            break
        numbers.append(number)
    return numbers
