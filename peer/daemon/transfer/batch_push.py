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
from daemon.transfer.push import IDLE_TIMEOUT
from daemon.transfer.sources import ServedFiles

# Offered and not yet settled.
_MAX_UNRESOLVED = 1024
_OFFERS_PER_MESSAGE = 256
_FRAME_MAX_BYTES = 1 << 20
_FRAME_MAX_FILES = 256


class Offer:
    """A file that a peer should take, with the permission to push it there."""

    def __init__(self, version: Version, ticket: str) -> None:
        self.version = version
        self.ticket = ticket


@dataclass(slots=True)
class _PushState:
    """One stream's files by number: not settled yet; wanted by the receiver, and not sent; wanted at any time."""

    unresolved: dict[int, Offer] = field(default_factory=dict)
    to_send: dict[int, None] = field(default_factory=dict)
    requested: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPusher:
    """Pushes small files."""

    peers: PeerClient
    served: ServedFiles
    threads: Threads
    bandwidth: RateLimiter
    progress_timeout: float = 2 * IDLE_TIMEOUT

    async def push(
        self,
        url: str,
        offers: Sequence[Offer],
        on_result: Callable[[Offer, PeerError | None], None],
        on_sent: Callable[[int], None],
    ) -> None:
        """Push files to one peer; `settled` hears of each that it has published or refused.

        Raises:
            PeerError: if the stream breaks; those not settled by then are not there.
        """
        async with self.peers.open_call("UploadSmallFiles", url, offers[0].ticket) as call:
            run = _PushState()
            numbered = iter(enumerate(offers))
            replies = call.responses()
            await self._offer(call, run, numbered)
            clock = asyncio.get_running_loop().time
            useful = clock()
            while run.unresolved:
                try:
                    # What neither wants nor settles a file is as good as silence.
                    async with asyncio.timeout(max(0.0, useful + self.progress_timeout - clock())):
                        reply = await anext(replies, None)
                except TimeoutError:
                    raise NoHolders(f"{url}: took nothing for {self.progress_timeout:.0f} s") from None
                if reply is None:
                    raise NoHolders(f"{url}: ended without taking all files")
                before = len(run.unresolved), len(run.requested)
                self._on_response(url, reply, run, on_result)
                if (len(run.unresolved), len(run.requested)) != before:
                    useful = clock()
                await self._send(call, run, on_result, on_sent)
                if len(run.unresolved) <= _MAX_UNRESOLVED // 2:
                    await self._offer(call, run, numbered)
            await call.half_close()

    async def _offer(self, call: Call, run: _PushState, numbered: Iterator[tuple[int, Offer]]) -> None:
        while len(run.unresolved) < _MAX_UNRESOLVED:
            offers = []
            for number, offer in numbered:
                run.unresolved[number] = offer
                version = offer.version
                offers.append(
                    pb.SmallFileOffer(number=number, name=version.name, size=version.size, ticket=offer.ticket)
                )
                if len(offers) == _OFFERS_PER_MESSAGE:
                    break
            if not offers:
                return
            await call.write(Frame((), pb.UploadSmallFilesRequest(offers=offers)))

    @staticmethod
    def _on_response(
        url: str,
        reply: pb.UploadSmallFilesResponse,
        run: _PushState,
        settled: Callable[[Offer, PeerError | None], None],
    ) -> None:
        for verdict in reply.verdicts:
            offer = run.unresolved.get(verdict.number)
            if offer is None:
                continue
            if verdict.verdict == pb.SmallFileVerdict.VERDICT_WANTED:
                # Once: or it would be sent as often as the receiver says so.
                if verdict.number not in run.requested:
                    run.requested.add(verdict.number)
                    run.to_send[verdict.number] = None
                continue
            del run.unresolved[verdict.number]
            run.to_send.pop(verdict.number, None)
            refused = verdict.verdict != pb.SmallFileVerdict.VERDICT_PUBLISHED
            error = status_codes.error_from_code(verdict.code, f"{url}: {verdict.message}") if refused else None
            settled(offer, error)

    async def _send(
        self,
        call: Call,
        run: _PushState,
        settled: Callable[[Offer, PeerError | None], None],
        on_sent: Callable[[int], None],
    ) -> None:
        """Send what is wanted, in frames of about 1 MiB; smaller where an upload limit makes one take long."""
        while run.to_send:
            numbers = _frame(run.to_send, run.unresolved, self.bandwidth.max_block(_FRAME_MAX_BYTES))
            for number in numbers:
                del run.to_send[number]
            files = [(number, run.unresolved[number].version.id) for number in numbers]
            blocks, failed = await self.threads.run(self.threads.payload, self.served.read_small_files, files)
            for number, error in failed:
                settled(run.unresolved.pop(number), error)
            size = sum(len(block.data) for block in blocks)
            await self.bandwidth.acquire(size, call.address)
            await call.write(Frame(blocks, pb.UploadSmallFilesRequest()))
            on_sent(size)


def _frame(wanted: Iterable[int], offers: Mapping[int, Offer], most: int) -> list[int]:
    """Return the files of the next frame: of `most` bytes together, or a single one."""
    numbers: list[int] = []
    size = 0
    for number in islice(wanted, _FRAME_MAX_FILES):
        size += offers[number].version.size
        if numbers and size > most:
            break
        numbers.append(number)
    return numbers
