"""Many files of one piece pushed to one peer over one stream: offered, asked for, sent, published."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pserver_pb2 as pb
from node.errors import NoHolders, PeerError
from node.ground.threads import Threads
from node.language import rpc_errors
from node.language.frames import Frame
from node.lines.limits import Bandwidth
from node.lines.peer_client import Call, Peers
from node.model import Version
from node.moving.push import SILENCE
from node.moving.sharing import Sharing

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
    """One stream's files by number: not settled yet, and wanted by the receiver."""

    open: dict[int, Offer] = field(default_factory=dict)
    wanted: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallPusher:
    """Pushes small files."""

    peers: Peers
    sharing: Sharing
    threads: Threads
    bandwidth: Bandwidth

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
        async with self.peers.call("UploadSmallFiles", url, offers[0].ticket) as call:
            run = _Run()
            numbered = iter(enumerate(offers))
            replies = call.replies()
            await self._offer(call, run, numbered)
            while run.open:
                try:
                    async with asyncio.timeout(2 * SILENCE):
                        reply = await anext(replies, None)
                except TimeoutError:
                    raise NoHolders(f"{url}: said nothing for {2 * SILENCE:.0f} s") from None
                if reply is None:
                    raise NoHolders(f"{url}: ended without taking all files")
                self._hear(url, reply, run, settled)
                await self._send(call, run, settled, on_sent)
                if len(run.open) <= _WINDOW // 2:
                    await self._offer(call, run, numbered)
            await call.end()

    async def _offer(self, call: Call, run: _Run, numbered: Iterator[tuple[int, Offer]]) -> None:
        while len(run.open) < _WINDOW:
            offers = []
            for number, offer in numbered:
                run.open[number] = offer
                version = offer.version
                offers.append(pb.SmallOffer(number=number, name=version.name, size=version.size, ticket=offer.ticket))
                if len(offers) == _OFFERS:
                    break
            if not offers:
                return
            await call.write(Frame((), pb.UploadSmallFilesRequest(offers=offers)))

    @staticmethod
    def _hear(
        url: str, reply: pb.UploadSmallFilesReply, run: _Run, settled: Callable[[Offer, PeerError | None], None]
    ) -> None:
        for verdict in reply.verdicts:
            offer = run.open.get(verdict.number)
            if offer is None:
                continue
            if verdict.verdict == pb.SmallVerdict.VERDICT_WANTED:
                run.wanted.append(verdict.number)
                continue
            del run.open[verdict.number]
            refused = verdict.verdict != pb.SmallVerdict.VERDICT_PUBLISHED
            error = rpc_errors.from_code(verdict.code, f"{url}: {verdict.message}") if refused else None
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
            numbers = _frame(run.wanted, run.open, self.bandwidth.share(_FRAME_BYTES))
            del run.wanted[: len(numbers)]
            files = [(number, run.open[number].version.id) for number in numbers]
            blocks, failed = await self.threads.run(self.threads.payload, self.sharing.read_small, files)
            for number, error in failed:
                settled(run.open.pop(number), error)
            size = sum(len(block.data) for block in blocks)
            await self.bandwidth.take(size, call.url)
            await call.write(Frame(blocks, pb.UploadSmallFilesRequest()))
            on_sent(size)


def _frame(wanted: Sequence[int], offers: Mapping[int, Offer], most: int) -> list[int]:
    """Return the files of the next frame: of `most` bytes together, or a single one."""
    numbers: list[int] = []
    size = 0
    for number in wanted[:_FRAME_FILES]:
        size += offers[number].version.size
        if numbers and size > most:
            break
        numbers.append(number)
    return numbers
