"""gRPC in, from other pservers.

The guard has checked the ticket of every call that comes here; nothing is decided here but slots.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import grpc

import pserver_pb2 as pb
from daemon.errors import BadUsage, Interrupted, PeerError
from daemon.peers.limits import UNTAKEN, Bandwidth, OpenStreams, Slots
from daemon.protocol import stream_io, transfer_messages
from daemon.protocol.frames import Frame
from daemon.protocol.piece_streams import Have, News, Wish
from daemon.rpc.auth import GRANT
from daemon.runtime.events import Phase, SourceView
from daemon.runtime.executors import Threads
from daemon.runtime.transfers import Jobs, Transfer
from daemon.storage.manifest import Manifest
from daemon.tracker_client.tickets import Grant
from daemon.transfer.batch_serve import ASKS_MAX, SmallReceiver, SmallServer
from daemon.transfer.piece_sender import serve
from daemon.transfer.push_receiver import Receiver
from daemon.transfer.sources import GrowingFile, Sharing, WholeFile

_VERDICTS = {
    "wanted": pb.SmallFileVerdict.VERDICT_WANTED,
    "published": pb.SmallFileVerdict.VERDICT_PUBLISHED,
    "refused": pb.SmallFileVerdict.VERDICT_REFUSED,
}
Context = grpc.aio.ServicerContext
File = TypeVar("File")
# Who pushes a file offers it within this many seconds; who moves small files says something this often.
_FIRST_WORD = 20.0
_NEXT_WORD = 60.0
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
    # Apart from the streams': whoever goes by the rules asks for a manifest, then opens a stream.
    manifest_slots: Slots
    streams: OpenStreams
    bandwidth: Bandwidth
    jobs: Jobs
    on_sent: Callable[[int], None]

    async def get_manifest(self, request: pb.GetManifestRequest, context: Context[Any, Any]) -> None:
        """The manifest of the ticket's id."""
        grant = GRANT.get()
        _hold(self.manifest_slots, grant, context)
        manifest = await self.threads.run(self.threads.disk, self.sharing.manifest, grant.id)
        await _write(context, transfer_messages.manifest_to_wire(manifest))

    async def download_file(self, requests: AsyncIterator[pb.PieceRequest], context: Context[Any, Any]) -> None:
        """Pieces of the ticket's file."""
        async with self._stream(context) as grant:
            source: WholeFile | GrowingFile | None = self.sharing.open_growing(grant.id)
            if source is None:
                source = await self.threads.run(self.threads.disk, self.sharing.open_whole, grant.id)
            try:
                with self._noted("serving", grant.user) as transfer:
                    transfer.enter(Phase.MOVING, source.name, source.manifest.size)
                    await serve(
                        source,
                        _Asker(requests, context, source),
                        asker=grant.requester,
                        disk=self.threads.payload,
                        bandwidth=self.bandwidth,
                        on_sent=lambda size: self._sent(transfer, size),
                    )
            finally:
                source.close()

    async def download_small_files(
        self, requests: AsyncIterator[pb.DownloadSmallFilesRequest], context: Context[Any, Any]
    ) -> None:
        """Many files of one piece each."""
        async with self._stream(context) as grant:
            async for request in _patiently(requests):
                asks = [(ask.number, ask.ticket) for ask in _named(request.requests)]
                async for blocks, faults in self.small_server.read(grant, asks):
                    await _write(
                        context, Frame(blocks, pb.DownloadSmallFilesResponse(faults=map(_small_fault, faults)))
                    )
                    self.on_sent(sum(len(block.data) for block in blocks))

    async def upload_file(self, requests: AsyncIterator[Frame[pb.PushRequest]], context: Context[Any, Any]) -> None:
        """A file pushed to us."""
        async with self._stream(context) as grant:
            first = await _first(requests)
            name, manifest = transfer_messages.offer_from_wire(first.rest, grant.id)
            end = _Sender(requests, context, manifest)
            async with end.asking():
                await self.receiver.receive(name, manifest, grant.user, end)
            await _write(context, pb.PushResponse(published=True))

    async def upload_small_files(
        self, requests: AsyncIterator[Frame[pb.UploadSmallFilesRequest]], context: Context[Any, Any]
    ) -> None:
        """Many files of one piece each, pushed to us."""
        async with self._stream(context) as grant:
            with self.small_receiver.stream(grant) as stream:
                async for frame in _patiently(requests):
                    offers = [(o.number, o.name, o.size, o.ticket) for o in _named(frame.rest.offers)]
                    verdicts = await stream.offered(offers)
                    if frame.blocks:
                        verdicts += await stream.sent(frame.blocks)
                    await _write(context, pb.UploadSmallFilesResponse(verdicts=map(_verdict, verdicts)))

    @contextmanager
    def _noted(self, kind: str, user: str) -> Iterator[Transfer]:
        """Show a stream in the status for the length of the block."""
        transfer = self.jobs.begin(kind)
        try:
            with transfer.showing(lambda: (SourceView(user, transfer.rate, transfer.counters.done, "active", ""),)):
                yield transfer
        finally:
            self.jobs.end(transfer)

    @asynccontextmanager
    async def _stream(self, context: Context[Any, Any]) -> AsyncIterator[Grant]:
        """Hold a slot for the stream at hand, give its ticket, and end it when this peer is logged out."""
        grant = GRANT.get()
        _hold(self.slots, grant, context)
        async with self.streams.one():
            yield grant

    def _sent(self, transfer: Transfer, size: int) -> None:
        transfer.moved(size)
        self.on_sent(size)


class _Asker:
    """HolderEnd of a download: hears and answers one asker."""

    def __init__(
        self,
        requests: AsyncIterator[pb.PieceRequest],
        context: Context[Any, Any],
        source: WholeFile | GrowingFile,
    ) -> None:
        self._requests = requests
        self._context = context
        self._pieces = source.manifest.pieces

    async def wishes(self) -> AsyncIterator[Wish]:
        """Yield what it wants."""
        async for message in self._requests:
            yield transfer_messages.wish_from_wire(message)

    async def send(self, news: News) -> None:
        """Send, waiting until it is taken."""
        await stream_io.write(self._context, transfer_messages.news_to_wire(news, self._pieces))


class _Sender:
    """AskerEnd of a push: asks the peer that called us."""

    def __init__(
        self, requests: AsyncIterator[Frame[pb.PushRequest]], context: Context[Any, Any], manifest: Manifest
    ) -> None:
        self._requests = requests
        self._context = context
        self._manifest = manifest
        # None is the end.
        self._wishes: asyncio.Queue[Wish | None] = asyncio.Queue()

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Send wishes, and a word now and then, for the length of the block."""
        task = asyncio.create_task(self._ask_on())
        try:
            yield
            # Whoever writes next must not come upon a write of ours that is still under way.
            self._wishes.put_nowait(None)
            await asyncio.gather(task, return_exceptions=True)
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
            wish: Wish | None = Wish()
            try:
                async with asyncio.timeout(_STILL_HERE):
                    wish = await self._wishes.get()
            except TimeoutError:
                pass
            if wish is None:
                return
            await _write(self._context, pb.PushResponse(pieces=wish.pieces, block_length=wish.block_length))


def _hold(slots: Slots, grant: Grant, context: Context[Any, Any]) -> None:
    """Hold a slot until the call is over, not only until we are done with it.

    What an asker does not take lies in gRPC, out of our reach, and so does the word that its stream is over. A slot
    given back before would let it lie there as often as a stream can be opened.

    Raises:
        Busy: if there is none.
    """
    slot = ExitStack()
    slot.enter_context(slots.one(grant.requester, grant.id, grant.user))
    context.add_done_callback(cast("Any", lambda _: slot.close()))


def _named(files: Sequence[File]) -> Sequence[File]:
    """Return the files that a request names. Raises BadUsage, before anything is made of them, if they are too many."""
    if len(files) > ASKS_MAX:
        raise BadUsage(f"more than {ASKS_MAX} files were named in one request")
    return files


async def _first(requests: AsyncIterator[Any]) -> Any:
    try:
        async with asyncio.timeout(_FIRST_WORD):
            return await anext(requests)
    except (TimeoutError, StopAsyncIteration):
        raise Interrupted(f"nothing was offered within {_FIRST_WORD:.0f} s: try again") from None


async def _patiently(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Yield requests; a peer that says nothing for long makes room for others."""
    while True:
        try:
            async with asyncio.timeout(_NEXT_WORD):
                request = await anext(requests, None)
        except TimeoutError:
            raise Interrupted(f"nothing was said for {_NEXT_WORD:.0f} s: open a new stream when you go on") from None
        if request is None:
            return
        yield request


async def _write(context: Context[Any, Any], message: Any) -> None:
    try:
        async with asyncio.timeout(UNTAKEN):
            await stream_io.write(context, message)
    except TimeoutError:
        raise Interrupted(f"nothing was taken for {UNTAKEN:.0f} s: try again") from None


def _small_fault(fault: tuple[int, PeerError]) -> pb.SmallFileFault:
    number, error = fault
    return pb.SmallFileFault(number=number, code=error.code, message=error.message)


def _verdict(verdict: tuple[int, str, PeerError | None]) -> pb.SmallFileVerdict:
    number, word, error = verdict
    kind = _VERDICTS[word]
    if error is None:
        return pb.SmallFileVerdict(number=number, verdict=kind)
    return pb.SmallFileVerdict(number=number, verdict=kind, code=error.code, message=error.message)
