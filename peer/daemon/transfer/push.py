"""Pushes one file to one peer: the holder's side of a stream that this peer opens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass

import pserver_pb2 as pb
from daemon.errors import BadUsage, Incompatible, NoHolders
from daemon.models import Version
from daemon.peers.call import Call
from daemon.peers.client import PeerClient
from daemon.peers.limits import RateLimiter
from daemon.protocol import transfer_messages
from daemon.protocol.frames import Frame
from daemon.protocol.stream_io import StreamEnded
from daemon.protocol.transfer_messages import PieceRequest, PieceResponse
from daemon.runtime.concurrency import Threads
from daemon.storage.manifest import Manifest
from daemon.transfer.piece_sender import PieceSender
from daemon.transfer.served_files import CompleteFile

# Seconds without a message from the receiver after which a push fails. A receiver sends one every 2 s.
IDLE_TIMEOUT = 15.0
# Seconds within which the receiver must request a new piece, or publish. It may wait for its lock, verify a part, or
# sync the file. The time to read the file at _MIN_DISK_RATE is added.
PROGRESS_TIMEOUT = 600.0
# Bytes per second.
_MIN_DISK_RATE = 32 << 20
# The first release that stores each name of a content.
_NAMES_RELEASE = "0.2.0"
# How often a receiver may request one piece.
_MAX_REQUESTS_PER_PIECE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Pusher:
    """Pushes files of several pieces."""

    peers: PeerClient
    threads: Threads
    limiter: RateLimiter
    progress_timeout: float = PROGRESS_TIMEOUT

    async def push(
        self, address: str, ticket: str, version: Version, file: CompleteFile, on_sent: Callable[[int], None]
    ) -> None:
        """Return when the receiver has published the file under the name, or had it before.

        Args:
            address: The receiver.
            ticket: Its permission to push this file.
            version: The file, with the name that it gets at the receiver.
            file: Its content; the caller closes it.
            on_sent: Called with the bytes of each block that was sent.

        Raises:
            Incompatible: if the receiver does not store the name, since it has the content.
            PeerError: if the receiver refused the file, or the stream broke.
        """
        async with self.peers.open_call("UploadFile", address, ticket) as call:
            offer = transfer_messages.offer_to_pb(version, file.manifest)
            with suppress(StreamEnded):
                await call.write(Frame((), pb.PushRequest(offer=offer)))
            # If the stream has ended, its requests raise why.
            stream = PushStream(call, file.manifest, self.progress_timeout)
            await PieceSender(
                file, stream, requester=address, disk=self.threads.payload, limiter=self.limiter, on_sent=(on_sent,)
            ).run()
            if not stream.published:
                raise NoHolders(f"{address}: ended without publishing the file: upload it again to resume")
            if not stream.named:
                raise name_not_stored(address)


def name_not_stored(address: str) -> Incompatible:
    """Return the error for a receiver that has the content, and stores no further name of it."""
    has = f"{address}: has the content under another name, and stores no second one"
    return Incompatible(f"{has}; upgrade it to {_NAMES_RELEASE} or later")


class PushStream:
    """The stream of a push, as `transfer_messages.HolderStream`."""

    def __init__(self, call: Call, manifest: Manifest, progress_timeout: float) -> None:
        self._call = call
        self._progress_timeout = progress_timeout + manifest.size / _MIN_DISK_RATE
        # How often each piece was requested.
        self._request_counts = bytearray(manifest.piece_count)
        # Whether the receiver has published the file, and under the name.
        self.published = False
        self.named = False

    async def requests(self) -> AsyncIterator[PieceRequest]:
        """Yield what the receiver requests, until it has published the file.

        Raises:
            NoHolders: if it sends no message, or makes no progress, for too long.
            BadUsage: if it requests the same piece too often.
        """
        responses = self._call.responses()
        clock = asyncio.get_running_loop().time
        last_progress = clock()
        while True:
            left = last_progress + self._progress_timeout - clock()
            try:
                async with asyncio.timeout(max(0.0, min(IDLE_TIMEOUT, left))):
                    response = await anext(responses, None)
            except TimeoutError:
                idle = left > IDLE_TIMEOUT
                reason = f"sent nothing for {IDLE_TIMEOUT:.0f} s" if idle else "requested nothing new for too long"
                raise NoHolders(f"{self._call.address}: {reason}") from None
            if response is None:
                return
            if response.published:
                self.published = True
                # What was requested was stored under the name, by every release.
                self.named = response.named or any(self._request_counts)
                return
            request = transfer_messages.request_from_pb(response)
            if self._count(request):
                last_progress = clock()
            yield request

    def _count(self, request: PieceRequest) -> bool:
        """Count the requested pieces; return whether one of them is requested for the first time."""
        new = False
        for piece in request.pieces:
            # The piece sender rejects numbers that are no piece of the file.
            if piece < len(self._request_counts):
                new = new or not self._request_counts[piece]
                self._request_counts[piece] += 1
                if self._request_counts[piece] > _MAX_REQUESTS_PER_PIECE:
                    raise BadUsage(f"{self._call.address}: requests the same piece again and again")
        return new

    async def send(self, response: PieceResponse) -> None:
        """Send blocks. The offer has reported that this peer has all pieces, so `have` is not sent."""
        if response.blocks:
            await self._call.write(Frame(response.blocks, pb.PushRequest()))
