"""One file pushed to one peer: the holder's end over a call that we make."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pserver_pb2 as pb
from daemon.errors import BadUsage, NoHolders
from daemon.peers.client import Call, PeerClient
from daemon.peers.limits import RateLimiter
from daemon.protocol import transfer_messages
from daemon.protocol.frames import Frame
from daemon.protocol.piece_streams import PieceRequest, PieceResponse
from daemon.runtime.executors import Threads
from daemon.storage.manifest import Manifest
from daemon.transfer.piece_sender import send_pieces
from daemon.transfer.sources import CompleteFile

# A receiver says how far it is every 2 s; one that says nothing for this long is given up.
IDLE_TIMEOUT = 15.0
# It may wait for its turn, look at what an earlier push left, or make the file durable for so long, and for as long as
# the file takes to be read at so many bytes per second: then it must ask for a piece, or have published.
PROGRESS_TIMEOUT = 600.0
_MIN_DISK_RATE = 32 << 20
# How often it may ask for one piece.
_MAX_REQUESTS_PER_PIECE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Pusher:
    """Pushes files of several pieces."""

    peers: PeerClient
    threads: Threads
    bandwidth: RateLimiter
    progress_timeout: float = PROGRESS_TIMEOUT

    async def push(
        self, url: str, ticket: str, name: str, source: CompleteFile, on_sent: Callable[[int], None]
    ) -> None:
        """Return when the peer has published the file, or had it before.

        Raises:
            PeerError: if it does not take it.
        """
        async with self.peers.open_call("UploadFile", url, ticket) as call:
            offer = pb.Offer(name=name, manifest=transfer_messages.manifest_to_pb(source.manifest))
            await call.write(Frame((), pb.PushRequest(offer=offer)))
            end = PushStream(call, source.manifest, self.progress_timeout)
            await send_pieces(
                source, end, requester=url, disk=self.threads.payload, bandwidth=self.bandwidth, on_sent=on_sent
            )
            if not end.published:
                raise NoHolders(f"{url}: ended without publishing the file")


class PushStream:
    """HolderEnd of a push."""

    def __init__(self, call: Call, manifest: Manifest, patience: float) -> None:
        self._call = call
        self._patience = patience + manifest.size / _MIN_DISK_RATE
        # How often each piece was asked for.
        self._asked = bytearray(manifest.piece_count)
        self.published = False

    async def requests(self) -> AsyncIterator[PieceRequest]:
        """Yield what the receiver wants, until it has published."""
        replies = self._call.responses()
        clock = asyncio.get_running_loop().time
        useful = clock()
        while True:
            left = useful + self._patience - clock()
            try:
                async with asyncio.timeout(max(0.0, min(IDLE_TIMEOUT, left))):
                    reply = await anext(replies, None)
            except TimeoutError:
                said = (
                    f"said nothing for {IDLE_TIMEOUT:.0f} s"
                    if left > IDLE_TIMEOUT
                    else "asked for nothing new for too long"
                )
                raise NoHolders(f"{self._call.address}: {said}") from None
            if reply is None:
                return
            if reply.published:
                self.published = True
                return
            wish = transfer_messages.request_from_pb(reply)
            if self._count_new(wish):
                useful = clock()
            yield wish

    def _count_new(self, wish: PieceRequest) -> bool:
        """Count what is asked for; tell whether any of it is new."""
        new = False
        for piece in wish.pieces:
            # Whoever serves refuses what is no piece of the file.
            if piece < len(self._asked):
                new = new or not self._asked[piece]
                self._asked[piece] += 1
                if self._asked[piece] > _MAX_REQUESTS_PER_PIECE:
                    raise BadUsage(f"{self._call.address}: asks for the same piece again and again")
        return new

    async def send(self, news: PieceResponse) -> None:
        """Send blocks; that we have all of it was said in the offer."""
        if news.blocks:
            await self._call.write(Frame(news.blocks, pb.PushRequest()))
