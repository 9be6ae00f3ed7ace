"""A hostile holder on a real port. Each behaviour is a coroutine that reads requests and sends responses."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

import pserver_pb2 as pb
from daemon.protocol.frames import Block, encode
from daemon.storage.manifest import Manifest

BLOCK = 64 << 10


@dataclass
class Stream:
    """The stream of one requester of DownloadFile, at the holder."""

    holder: "Holder"
    requests: AsyncIterator[bytes]
    context: Any

    async def requested(self) -> AsyncIterator[int]:
        """The requested pieces."""
        async for request in self.requests:
            for piece in pb.PieceRequest.FromString(request).pieces:
                self.holder.requests.append(piece)
                yield piece

    async def send_have(self, **have: Any) -> None:
        """Send a `Have`."""
        await self.context.write(encode((), pb.PieceResponse(have=pb.Have(**have))))

    async def send(self, piece: int, data: bytes, offset: int = 0) -> None:
        """Send one block."""
        await self.context.write(encode([Block(piece, offset, data)]))

    async def send_piece(self, piece: int, data: bytes) -> None:
        """Send a piece in blocks."""
        for at in range(0, len(data), BLOCK):
            await self.send(piece, data[at : at + BLOCK], at)


Behaviour = Callable[[Stream], Awaitable[None]]


@dataclass
class Holder:
    """A holder of `content` that answers DownloadFile with one behaviour."""

    content: bytes
    manifest: Manifest
    behaviour: Behaviour
    requests: list[int] = field(default_factory=list)
    streams: int = 0
    address: str = ""

    def piece(self, number: int) -> bytes:
        """The correct data of a piece."""
        at = self.manifest.offset(number)
        return self.content[at : at + self.manifest.length(number)]

    async def _download(self, requests: AsyncIterator[bytes], context: Any) -> None:
        self.streams += 1
        await self.behaviour(Stream(self, requests, context))

    @asynccontextmanager
    async def serving(self) -> "AsyncIterator[Holder]":
        """Answer on a free port inside the `with` block."""
        server = grpc.aio.server(options=[("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)])
        handlers: Any = {"DownloadFile": grpc.stream_stream_rpc_method_handler(self._download)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("p2p.v1.Transfer", handlers),))
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        try:
            yield self
        finally:
            await server.stop(0)


async def honest(stream: Stream) -> None:
    """Send requested pieces."""
    await stream.send_have(complete=True)
    async for piece in stream.requested():
        await stream.send_piece(piece, stream.holder.piece(piece))


async def slow(stream: Stream) -> None:
    """Send requested pieces, slowly enough that other holders get requests too."""
    await stream.send_have(complete=True)
    async for piece in stream.requested():
        await asyncio.sleep(0.05)
        await stream.send_piece(piece, stream.holder.piece(piece))


def flipping(at: int) -> Behaviour:
    """Flip one bit of the file each time."""

    async def behaviour(stream: Stream) -> None:
        await stream.send_have(complete=True)
        async for piece in stream.requested():
            data = bytearray(stream.holder.piece(piece))
            begins = stream.holder.manifest.offset(piece)
            if begins <= at < begins + len(data):
                data[at - begins] ^= 0x40
            await stream.send_piece(piece, bytes(data))

    return behaviour


async def wrong_bytes(stream: Stream) -> None:
    """Send zeros."""
    await stream.send_have(complete=True)
    async for piece in stream.requested():
        await stream.send_piece(piece, bytes(len(stream.holder.piece(piece))))


async def silent(stream: Stream) -> None:
    """Accept the call and send nothing."""
    await asyncio.Event().wait()


async def hanging(stream: Stream) -> None:
    """Start a piece, then send nothing more."""
    await stream.send_have(complete=True)
    async for piece in stream.requested():
        await stream.send(piece, stream.holder.piece(piece)[:BLOCK])
        await asyncio.Event().wait()


async def trickling(stream: Stream) -> None:
    """Send a byte every 50 ms."""
    await stream.send_have(complete=True)
    async for piece in stream.requested():
        for at, byte in enumerate(stream.holder.piece(piece)):
            await stream.send(piece, bytes([byte]), at)
            await asyncio.sleep(0.05)


async def tiny_blocks(stream: Stream) -> None:
    """Send a piece byte by byte, as fast as possible."""
    await stream.send_have(complete=True)
    async for piece in stream.requested():
        for at, byte in enumerate(stream.holder.piece(piece)):
            await stream.send(piece, bytes([byte]), at)


async def endless(stream: Stream) -> None:
    """Send the same block for ever."""
    await stream.send_have(complete=True)
    async for piece in stream.requested():
        while True:
            await stream.send(piece, stream.holder.piece(piece)[:BLOCK])


async def not_requested(stream: Stream) -> None:
    """Send a piece that was not requested."""
    await stream.send_have(complete=True)
    async for piece in stream.requested():
        await stream.send_piece((piece + 1) % stream.holder.manifest.piece_count + 10**6, b"x" * BLOCK)


async def oversized(stream: Stream) -> None:
    """Send more data than a piece has."""
    await stream.send_have(complete=True)
    async for piece in stream.requested():
        await stream.send(piece, stream.holder.piece(piece)[:-1])
        await stream.send(piece, b"xx", len(stream.holder.piece(piece)) - 1)


async def false_bitmap(stream: Stream) -> None:
    """Report all pieces, and abort the stream at the first request."""
    await stream.send_have(bitmap=b"\xff" * ((stream.holder.manifest.piece_count + 7) // 8))
    async for _ in stream.requested():
        await stream.context.abort(grpc.StatusCode.NOT_FOUND, "no\nsuch\x1b[2Jpiece", (("p2p-code", "no_such_file"),))


async def odd_bitmap(stream: Stream) -> None:
    """Report a bitmap of the wrong length."""
    await stream.send_have(bitmap=b"\xff" * 1000)


async def endless_have(stream: Stream) -> None:
    """Report gained and in-flight pieces for ever, and send none."""
    await stream.send_have(bitmap=b"\x00" * ((stream.holder.manifest.piece_count + 7) // 8))
    while True:
        await stream.send_have(gained=[10**9, *range(5)] * 100, in_flight=[*range(1000)] * 10)


async def closing(stream: Stream) -> None:
    """Close the stream after a piece."""
    await stream.send_have(complete=True)
    async for piece in stream.requested():
        await stream.send_piece(piece, stream.holder.piece(piece))
        return


async def breaking(stream: Stream) -> None:
    """Start a piece, then close the stream, each time."""
    await stream.send_have(complete=True)
    async for piece in stream.requested():
        await stream.send(piece, stream.holder.piece(piece)[:BLOCK])
        return


async def hoarding(stream: Stream) -> None:
    """Send every piece without its last byte, and report it as in flight elsewhere, so that the next is requested."""
    await stream.send_have(complete=True)
    async for piece in stream.requested():
        await stream.send(piece, stream.holder.piece(piece)[:-1])
        await stream.send_have(in_flight=[piece])


async def malformed(stream: Stream) -> None:
    """Send bytes that are no message."""
    await stream.context.write(b"\x0a\xff\xff")


async def overlong(stream: Stream) -> None:
    """Send a message of 8 MiB."""
    await stream.send_have(complete=True)
    async for piece in stream.requested():
        await stream.send(piece, bytes(8 << 20))


async def huge_metadata(stream: Stream) -> None:
    """End with 100 KiB of metadata."""
    await stream.context.abort(grpc.StatusCode.INTERNAL, "x" * 50_000, (("p2p-code", "y" * 50_000),))


async def refusing(stream: Stream) -> None:
    """Abort with `not_logged_in`, which only the own pserver can know."""
    await stream.context.abort(grpc.StatusCode.FAILED_PRECONDITION, "log in first", (("p2p-code", "not_logged_in"),))
