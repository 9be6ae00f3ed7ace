"""Pushes many small files to one peer over one stream: each is offered, requested, sent and published."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import pserver_pb2 as pb
from daemon.errors import NoHolders, PeerError
from daemon.models import Version
from daemon.peers.call import Call
from daemon.peers.client import PeerClient
from daemon.peers.limits import RateLimiter
from daemon.protocol import status_codes
from daemon.protocol.frames import Frame
from daemon.protocol.stream_io import StreamEnded
from daemon.runtime.batches import batched
from daemon.runtime.concurrency import Threads
from daemon.transfer.push import IDLE_TIMEOUT, name_not_stored
from daemon.transfer.served_files import FileRequest, ServedFiles

# Files that are offered and neither published nor refused.
_MAX_UNRESOLVED = 1024
_OFFERS_PER_MESSAGE = 256
_MESSAGE_MAX_BYTES = 1 << 20
_MESSAGE_MAX_FILES = 256


class Offer(NamedTuple):
    """A file for a receiver, with the ticket that allows the push."""

    version: Version
    ticket: str


# Called once for each offer: the error is None if the receiver has published the file under its name.
OnResult = Callable[[Offer, PeerError | None], None]


class OfferQueue:
    """The files that are not offered yet, by number.

    Names of one content are offered one after the other until the receiver has that content. So it gets the bytes once.
    """

    def __init__(self, offers: Sequence[Offer]) -> None:
        self._queue = deque(enumerate(offers))
        # By id, the names that wait for the name that is offered.
        self._waiting: dict[str, list[tuple[int, Offer]]] = {}
        # Ids that the receiver has.
        self._stored: set[str] = set()

    def pop(self, count: int) -> list[tuple[int, Offer]]:
        """Return up to `count` files that can be offered now."""
        offered: list[tuple[int, Offer]] = []
        while self._queue and len(offered) < count:
            numbered = self._queue.popleft()
            id_ = numbered[1].version.id
            if id_ in self._waiting:
                self._waiting[id_].append(numbered)
                continue
            if id_ not in self._stored:
                self._waiting[id_] = []
            offered.append(numbered)
        return offered

    def on_result(self, offer: Offer, *, stored: bool) -> None:
        """Record that an offered file is stored or refused."""
        if stored:
            self._stored.add(offer.version.id)
        self._queue.extendleft(reversed(self._waiting.pop(offer.version.id, ())))


@dataclass(slots=True)
class _Stream:
    """The offers of one stream, by number."""

    queue: OfferQueue
    on_result: OnResult
    # Neither published nor refused.
    unresolved: dict[int, Offer] = field(default_factory=dict)
    # Requested by the receiver, and not sent.
    to_send: dict[int, None] = field(default_factory=dict)
    # Requested by the receiver, sent or not.
    requested: set[int] = field(default_factory=set)

    def resolve(self, number: int, error: PeerError | None) -> None:
        """Report the outcome of an unresolved offer."""
        offer = self.unresolved.pop(number)
        self.to_send.pop(number, None)
        self.queue.on_result(offer, stored=error is None)
        self.on_result(offer, error)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPusher:
    """Pushes small files."""

    peers: PeerClient
    served_files: ServedFiles
    threads: Threads
    limiter: RateLimiter
    # Seconds without progress after which a push fails.
    progress_timeout: float = 2 * IDLE_TIMEOUT

    async def push(
        self, address: str, offers: Sequence[Offer], on_result: OnResult, on_sent: Callable[[int], None]
    ) -> None:
        """Push files to one peer.

        Args:
            address: The receiver.
            offers: The files; at least one.
            on_result: Called for each file that the receiver published or refused.
            on_sent: Called with the bytes of each message that was sent.

        Raises:
            PeerError: if the stream breaks. The receiver does not have the files without a result.
        """
        async with self.peers.open_call("UploadSmallFiles", address, offers[0].ticket) as call:
            stream = _Stream(OfferQueue(offers), on_result)
            responses = call.responses()
            with suppress(StreamEnded):
                await self._send_offers(call, stream)
            clock = asyncio.get_running_loop().time
            last_progress = clock()
            while stream.unresolved:
                try:
                    # From the last progress, not from the last message: messages without a result count as silence.
                    async with asyncio.timeout(max(0.0, last_progress + self.progress_timeout - clock())):
                        response = await anext(responses, None)
                except TimeoutError:
                    raise NoHolders(f"{address}: accepted nothing for {self.progress_timeout:.0f} s") from None
                if response is None:
                    raise NoHolders(f"{address}: ended without accepting all files")
                before = len(stream.unresolved), len(stream.requested)
                _on_response(address, response, stream)
                if (len(stream.unresolved), len(stream.requested)) != before:
                    last_progress = clock()
                # If the stream has ended, the next responses are its last ones, and then its reason.
                with suppress(StreamEnded):
                    await self._send_files(call, stream, on_sent)
                    if len(stream.unresolved) <= _MAX_UNRESOLVED // 2:
                        await self._send_offers(call, stream)
            with suppress(StreamEnded):
                await call.half_close()

    async def _send_offers(self, call: Call, stream: _Stream) -> None:
        """Offer files until _MAX_UNRESOLVED are unresolved."""
        offered = stream.queue.pop(_MAX_UNRESOLVED - len(stream.unresolved))
        stream.unresolved.update(offered)
        for message in batched(offered, _OFFERS_PER_MESSAGE):
            offers = [
                pb.SmallFileOffer(
                    number=number,
                    name=version.name,
                    size=version.size,
                    ticket=ticket,
                    modified=version.attributes.modified,
                    executable=version.attributes.executable,
                )
                for number, (version, ticket) in message
            ]
            await call.write(Frame((), pb.UploadSmallFilesRequest(offers=offers)))

    async def _send_files(self, call: Call, stream: _Stream, on_sent: Callable[[int], None]) -> None:
        """Send requested files in messages of about 1 MiB, or less if the upload limit would make one slow."""
        while stream.to_send:
            numbers = next(
                batched(
                    stream.to_send,
                    _MESSAGE_MAX_FILES,
                    self.limiter.max_block(_MESSAGE_MAX_BYTES),
                    lambda number: stream.unresolved[number].version.size,
                )
            )
            for number in numbers:
                del stream.to_send[number]
            requests = [FileRequest(number, stream.unresolved[number].version.id) for number in numbers]
            blocks, faults = await self.threads.run(self.threads.payload, self.served_files.read_small_files, requests)
            for number, error in faults:
                stream.resolve(number, error)
            size = sum(len(block.data) for block in blocks)
            await self.limiter.acquire(size, call.address)
            await call.write(Frame(blocks, pb.UploadSmallFilesRequest()))
            on_sent(size)


def _on_response(address: str, response: pb.UploadSmallFilesResponse, stream: _Stream) -> None:
    for verdict in response.verdicts:
        if verdict.number not in stream.unresolved:
            continue
        if verdict.verdict == pb.SmallFileVerdict.VERDICT_WANTED:
            # Sent once, however often the receiver requests it.
            if verdict.number not in stream.requested:
                stream.requested.add(verdict.number)
                stream.to_send[verdict.number] = None
            continue
        error: PeerError | None = None
        if verdict.verdict != pb.SmallFileVerdict.VERDICT_PUBLISHED:
            error = status_codes.error_from_code(verdict.code, f"{address}: {verdict.message}")
        elif not verdict.named and verdict.number not in stream.requested:
            error = name_not_stored(address)
        stream.resolve(verdict.number, error)
