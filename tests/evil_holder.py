"""A holder that does not play by the rules, on a real port: each way of it is a coroutine that hears and answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

import pserver_pb2 as pb
from daemon.protocol.frames import Block, encode
from daemon.storage.manifest import Manifest

CRUMB = 64 << 10


@dataclass
class Stream:
    """One asker's stream of DownloadFile, as the holder has it."""

    holder: "Holder"
    requests: AsyncIterator[bytes]
    context: Any

    async def asked(self) -> AsyncIterator[int]:
        """The pieces that are asked for."""
        async for request in self.requests:
            for piece in pb.PieceRequest.FromString(request).pieces:
                self.holder.asked.append(piece)
                yield piece

    async def say(self, **have: Any) -> None:
        """Say what is here."""
        await self.context.write(encode((), pb.PieceResponse(have=pb.Have(**have))))

    async def send(self, piece: int, data: bytes, offset: int = 0) -> None:
        """Send one block."""
        await self.context.write(encode([Block(piece, offset, data)]))

    async def send_piece(self, piece: int, data: bytes) -> None:
        """Send a piece in blocks."""
        for at in range(0, len(data), CRUMB):
            await self.send(piece, data[at : at + CRUMB], at)


Way = Callable[[Stream], Awaitable[None]]


@dataclass
class Holder:
    """A holder of `content` that answers DownloadFile in its own way."""

    content: bytes
    manifest: Manifest
    way: Way
    asked: list[int] = field(default_factory=list)
    streams: int = 0
    url: str = ""

    def piece(self, number: int) -> bytes:
        """A piece as it should be."""
        at = self.manifest.offset(number)
        return self.content[at : at + self.manifest.length(number)]

    async def _download(self, requests: AsyncIterator[bytes], context: Any) -> None:
        self.streams += 1
        await self.way(Stream(self, requests, context))

    @asynccontextmanager
    async def serving(self) -> "AsyncIterator[Holder]":
        """Answer on a free port for the length of the block."""
        server = grpc.aio.server(options=[("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)])
        handlers: Any = {"DownloadFile": grpc.stream_stream_rpc_method_handler(self._download)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("p2p.v1.Transfer", handlers),))
        self.url = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        try:
            yield self
        finally:
            await server.stop(0)


async def honest(stream: Stream) -> None:
    """Send what is asked for."""
    await stream.say(complete=True)
    async for piece in stream.asked():
        await stream.send_piece(piece, stream.holder.piece(piece))


async def unhurried(stream: Stream) -> None:
    """Send what is asked for, so slowly that there is time to ask others, too."""
    await stream.say(complete=True)
    async for piece in stream.asked():
        await asyncio.sleep(0.05)
        await stream.send_piece(piece, stream.holder.piece(piece))


def flipping(at: int) -> Way:
    """Send one byte of the file wrong, each time."""

    async def way(stream: Stream) -> None:
        await stream.say(complete=True)
        async for piece in stream.asked():
            data = bytearray(stream.holder.piece(piece))
            begins = stream.holder.manifest.offset(piece)
            if begins <= at < begins + len(data):
                data[at - begins] ^= 0x40
            await stream.send_piece(piece, bytes(data))

    return way


async def wrong_bytes(stream: Stream) -> None:
    """Send zeros."""
    await stream.say(complete=True)
    async for piece in stream.asked():
        await stream.send_piece(piece, bytes(len(stream.holder.piece(piece))))


async def silent(stream: Stream) -> None:
    """Take the call and say nothing at all."""
    await asyncio.Event().wait()


async def hanging(stream: Stream) -> None:
    """Begin with a piece, and then send no more."""
    await stream.say(complete=True)
    async for piece in stream.asked():
        await stream.send(piece, stream.holder.piece(piece)[:CRUMB])
        await asyncio.Event().wait()


async def trickling(stream: Stream) -> None:
    """Send a byte now and then."""
    await stream.say(complete=True)
    async for piece in stream.asked():
        for at, byte in enumerate(stream.holder.piece(piece)):
            await stream.send(piece, bytes([byte]), at)
            await asyncio.sleep(0.05)


async def crumbling(stream: Stream) -> None:
    """Send a piece byte by byte, as fast as it goes."""
    await stream.say(complete=True)
    async for piece in stream.asked():
        for at, byte in enumerate(stream.holder.piece(piece)):
            await stream.send(piece, bytes([byte]), at)


async def endless(stream: Stream) -> None:
    """Send the same block for ever."""
    await stream.say(complete=True)
    async for piece in stream.asked():
        while True:
            await stream.send(piece, stream.holder.piece(piece)[:CRUMB])


async def unasked(stream: Stream) -> None:
    """Send a piece that nobody asked for."""
    await stream.say(complete=True)
    async for piece in stream.asked():
        await stream.send_piece((piece + 1) % stream.holder.manifest.piece_count + 10**6, b"x" * CRUMB)


async def oversized(stream: Stream) -> None:
    """Send more than a piece has."""
    await stream.say(complete=True)
    async for piece in stream.asked():
        await stream.send(piece, stream.holder.piece(piece)[:-1])
        await stream.send(piece, b"xx", len(stream.holder.piece(piece)) - 1)


async def lying_bitmap(stream: Stream) -> None:
    """Say that all is here, and end the stream when asked for it."""
    await stream.say(bitmap=b"\xff" * ((stream.holder.manifest.piece_count + 7) // 8))
    async for _ in stream.asked():
        await stream.context.abort(grpc.StatusCode.NOT_FOUND, "no\nsuch\x1b[2Jpiece", (("p2p-code", "no_such_file"),))


async def odd_bitmap(stream: Stream) -> None:
    """Say what cannot be."""
    await stream.say(bitmap=b"\xff" * 1000)


async def chattering(stream: Stream) -> None:
    """Tell of gains and gifts without end, and send nothing."""
    await stream.say(bitmap=b"\x00" * ((stream.holder.manifest.piece_count + 7) // 8))
    while True:
        await stream.say(gained=[10**9, *range(5)] * 100, in_flight=[*range(1000)] * 10)


async def early(stream: Stream) -> None:
    """End the stream after a piece."""
    await stream.say(complete=True)
    async for piece in stream.asked():
        await stream.send_piece(piece, stream.holder.piece(piece))
        return


async def breaking(stream: Stream) -> None:
    """Begin with a piece, and end the stream, again and again."""
    await stream.say(complete=True)
    async for piece in stream.asked():
        await stream.send(piece, stream.holder.piece(piece)[:CRUMB])
        return


async def hoarding(stream: Stream) -> None:
    """Send every piece but for its last byte, and say that somebody else gets it, so that the next is asked for."""
    await stream.say(complete=True)
    async for piece in stream.asked():
        await stream.send(piece, stream.holder.piece(piece)[:-1])
        await stream.say(in_flight=[piece])


async def malformed(stream: Stream) -> None:
    """Send what is no message."""
    await stream.context.write(b"\x0a\xff\xff")


async def overlong(stream: Stream) -> None:
    """Send a message of 8 MiB."""
    await stream.say(complete=True)
    async for piece in stream.asked():
        await stream.send(piece, bytes(8 << 20))


async def huge_metadata(stream: Stream) -> None:
    """End with 100 KiB of metadata."""
    await stream.context.abort(grpc.StatusCode.INTERNAL, "x" * 50_000, (("p2p-code", "y" * 50_000),))


async def refusing(stream: Stream) -> None:
    """Say that the asker is not logged in, which is not for another peer to say."""
    await stream.context.abort(grpc.StatusCode.FAILED_PRECONDITION, "log in first", (("p2p-code", "not_logged_in"),))
