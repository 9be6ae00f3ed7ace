"""gRPC in, from other pservers.

The guard has checked the ticket of every call that comes here; nothing is decided here but slots.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc

import pserver_pb2 as pb
from node import wire
from node.errors import Interrupted, PeerError
from node.frames import Frame
from node.guard import GRANT
from node.jobs import Jobs, Phase, SourceView, Transfer
from node.limits import Bandwidth, Slots
from node.piece_server import serve
from node.pieces import Manifest
from node.receiver import Receiver
from node.sharing import GrowingFile, Sharing, WholeFile
from node.small_serve import SmallReceiver, SmallServer
from node.streams import Have, News, Wish
from node.threads import Threads

_VERDICTS = {
    "wanted": pb.SmallVerdict.VERDICT_WANTED,
    "published": pb.SmallVerdict.VERDICT_PUBLISHED,
    "refused": pb.SmallVerdict.VERDICT_REFUSED,
}
Context = grpc.aio.ServicerContext
# A peer that opens a stream says what it wants within this many seconds.
_FIRST_WORD = 20.0
# A receiver says how far it is this often.
_STILL_HERE = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferService:
    """The Transfer service; each method is one of the .proto."""

    sharing: Sharing
    receiver: Receiver
    small_server: SmallServer
    small_receiver: SmallReceiver
    threads: Threads
    slots: Slots
    bandwidth: Bandwidth
    jobs: Jobs
    on_sent: Callable[[int], None]

    async def get_manifest(self, request: pb.GetManifestRequest, context: Context[Any, Any]) -> pb.Manifest:
        """The manifest of the ticket's id."""
        grant = GRANT.get()
        return wire.manifest_to_wire(await self.threads.run(self.threads.disk, self.sharing.manifest, grant.id))

    async def download_file(self, requests: AsyncIterator[pb.DownloadFileRequest], context: Context[Any, Any]) -> None:
        """Pieces of the ticket's file."""
        grant = GRANT.get()
        with self.slots.one(grant.asker, grant.id):
            source: WholeFile | GrowingFile | None = self.sharing.open_growing(grant.id)
            if source is None:
                source = await self.threads.run(self.threads.disk, self.sharing.open_whole, grant.id)
            transfer = self.jobs.begin("serving")
            transfer.enter(Phase.MOVING, source.name, source.manifest.size)
            try:
                with transfer.showing(lambda: (_asker(grant.user, transfer),)):
                    await serve(
                        source,
                        _Asker(requests, context, source),
                        asker=grant.asker,
                        disk=self.threads.payload,
                        bandwidth=self.bandwidth,
                        on_sent=lambda size: self._sent(transfer, size),
                    )
            finally:
                self.jobs.end(transfer)
                source.close()

    async def download_small_files(
        self, requests: AsyncIterator[pb.DownloadSmallFilesRequest], context: Context[Any, Any]
    ) -> None:
        """Many files of one piece each."""
        grant = GRANT.get()
        with self.slots.one(grant.asker, grant.id):
            async for request in requests:
                asks = [(ask.number, ask.ticket) for ask in request.asks]
                async for blocks, faults in self.small_server.read(grant, asks):
                    await _write(context, Frame(blocks, pb.DownloadSmallFilesReply(faults=map(_small_fault, faults))))
                    self.on_sent(sum(len(block.data) for block in blocks))

    async def upload_file(
        self, requests: AsyncIterator[Frame[pb.UploadFileRequest]], context: Context[Any, Any]
    ) -> None:
        """A file pushed to us."""
        grant = GRANT.get()
        with self.slots.one(grant.asker, grant.id):
            first = await _first(requests)
            name, manifest = wire.offer_from_wire(first.rest, grant.id)
            end = _Sender(requests, context, manifest)
            async with end.asking():
                await self.receiver.receive(name, manifest, grant.user, end)
            await context.write(pb.UploadFileReply(published=True))

    async def upload_small_files(
        self, requests: AsyncIterator[Frame[pb.UploadSmallFilesRequest]], context: Context[Any, Any]
    ) -> None:
        """Many files of one piece each, pushed to us."""
        grant = GRANT.get()
        with self.slots.one(grant.asker, grant.id), self.small_receiver.stream(grant) as stream:
            async for frame in requests:
                verdicts = stream.offered([(o.number, o.name, o.size, o.ticket) for o in frame.rest.offers])
                if frame.blocks:
                    verdicts += await stream.sent(frame.blocks)
                await _write(context, pb.UploadSmallFilesReply(verdicts=map(_verdict, verdicts)))

    def _sent(self, transfer: Transfer, size: int) -> None:
        transfer.moved(size)
        self.on_sent(size)


class _Asker:
    """HolderEnd of a download: hears and answers one asker."""

    def __init__(
        self,
        requests: AsyncIterator[pb.DownloadFileRequest],
        context: Context[Any, Any],
        source: WholeFile | GrowingFile,
    ) -> None:
        self._requests = requests
        self._context = context
        self._pieces = source.manifest.pieces

    async def wishes(self) -> AsyncIterator[Wish]:
        """Yield what it wants."""
        async for message in self._requests:
            yield wire.wish_from_wire(message)

    async def send(self, news: News) -> None:
        """Send, waiting until it is taken."""
        await self._context.write(wire.news_to_wire(news, self._pieces))


class _Sender:
    """AskerEnd of a push: asks the peer that called us."""

    def __init__(
        self, requests: AsyncIterator[Frame[pb.UploadFileRequest]], context: Context[Any, Any], manifest: Manifest
    ) -> None:
        self._requests = requests
        self._context = context
        self._manifest = manifest
        self._wishes: asyncio.Queue[Wish] = asyncio.Queue()

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Send wishes, and a word now and then, for the length of the block."""
        task = asyncio.create_task(self._ask_on())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def ask(self, wish: Wish) -> None:
        """Send a wish, without waiting. A push knows no cancelling: what comes twice is harmless."""
        if wish.pieces:
            self._wishes.put_nowait(wish)

    async def news(self) -> AsyncIterator[News]:
        """Yield what it sends."""
        yield News(have=Have(whole=True))
        async for frame in self._requests:
            yield News(frame.blocks)

    async def close(self) -> None:
        """Nothing: the stream ends with the call."""

    async def _ask_on(self) -> None:
        while True:
            wish = Wish()
            try:
                async with asyncio.timeout(_STILL_HERE):
                    wish = await self._wishes.get()
            except TimeoutError:
                pass
            await self._context.write(pb.UploadFileReply(pieces=wish.pieces, block_length=wish.block_length))


async def _first(requests: AsyncIterator[Any]) -> Any:
    try:
        async with asyncio.timeout(_FIRST_WORD):
            return await anext(requests)
    except (TimeoutError, StopAsyncIteration):
        raise Interrupted(f"nothing was offered within {_FIRST_WORD:.0f} s") from None


async def _write(context: Context[Any, Any], message: Any) -> None:
    try:
        async with asyncio.timeout(20):
            await context.write(message)
    except TimeoutError:
        raise Interrupted("nothing was taken for 20 s") from None


def _asker(user: str, transfer: Transfer) -> SourceView:
    progress = transfer.counters
    return SourceView(user, transfer.rate, progress.done, "active", "")


def _small_fault(fault: tuple[int, PeerError]) -> pb.SmallFault:
    number, error = fault
    return pb.SmallFault(number=number, code=error.code, message=error.message)


def _verdict(verdict: tuple[int, str, PeerError | None]) -> pb.SmallVerdict:
    number, word, error = verdict
    kind = _VERDICTS[word]
    if error is None:
        return pb.SmallVerdict(number=number, verdict=kind)
    return pb.SmallVerdict(number=number, verdict=kind, code=error.code, message=error.message)
