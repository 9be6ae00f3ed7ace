"""gRPC in, from other pservers.

The guard has checked the ticket of every call that comes here; nothing is decided here but slots.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import grpc

import pserver_pb2 as pb
from common.control_messages import Phase, SourceView
from daemon.errors import BadUsage, Interrupted
from daemon.peers.limits import SEND_TIMEOUT, ActiveStreams, RateLimiter, StreamSlots
from daemon.protocol import stream_io, transfer_messages
from daemon.protocol.frames import Frame
from daemon.protocol.piece_streams import Have, PieceRequest, PieceResponse
from daemon.rpc.auth import CURRENT_GRANT
from daemon.runtime.executors import Threads
from daemon.runtime.metrics import SentBytes
from daemon.runtime.transfers import Transfer, TransferRegistry
from daemon.storage.manifest import Manifest
from daemon.tracker_client.tickets import Grant
from daemon.transfer.batch_serve import (
    MAX_FILES_PER_MESSAGE,
    BatchReceiver,
    BatchServer,
    Decision,
    FileOffer,
    TicketRequest,
    Verdict,
)
from daemon.transfer.piece_sender import PieceSender
from daemon.transfer.push_receiver import PushReceiver
from daemon.transfer.served_files import CompleteFile, FileFault, PartialFile, ServedFiles

_DECISIONS = {
    Decision.WANTED: pb.SmallFileVerdict.VERDICT_WANTED,
    Decision.PUBLISHED: pb.SmallFileVerdict.VERDICT_PUBLISHED,
    Decision.REFUSED: pb.SmallFileVerdict.VERDICT_REFUSED,
}
Context = grpc.aio.ServicerContext
File = TypeVar("File")
# Who pushes a file offers it within this many seconds; who moves small files says something this often.
_OFFER_TIMEOUT = 20.0
_IDLE_TIMEOUT = 60.0
# A receiver says how far it is this often.
_KEEPALIVE_INTERVAL = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferService:
    """The Transfer service; each method is one of the .proto."""

    sources: ServedFiles
    push_receiver: PushReceiver
    batch_server: BatchServer
    batch_receiver: BatchReceiver
    threads: Threads
    stream_slots: StreamSlots
    # Apart from the streams': whoever goes by the rules asks for a manifest, then opens a stream.
    manifest_slots: StreamSlots
    active_streams: ActiveStreams
    upload_limiter: RateLimiter
    transfers: TransferRegistry
    sent_bytes: SentBytes

    async def get_manifest(self, request: pb.GetManifestRequest, context: Context[Any, Any]) -> None:
        """The manifest of the ticket's id."""
        grant = CURRENT_GRANT.get()
        _acquire_slot_until_call_ends(self.manifest_slots, grant, context)
        manifest = await self.threads.run(self.threads.disk, self.sources.manifest, grant.id)
        await _write_with_timeout(context, transfer_messages.manifest_to_pb(manifest))

    async def download_file(self, requests: AsyncIterator[pb.PieceRequest], context: Context[Any, Any]) -> None:
        """Pieces of the ticket's file."""
        async with self._stream(context) as grant:
            source: CompleteFile | PartialFile | None = self.sources.open_partial(grant.id)
            if source is None:
                source = await self.threads.run(self.threads.disk, self.sources.open_complete, grant.id)
            try:
                with self._noted("serving", grant.user) as transfer:
                    transfer.start_phase(Phase.MOVING, source.name, source.manifest.size)
                    await PieceSender(
                        source,
                        _DownloadEndpoint(requests, context, source),
                        requester=grant.requester,
                        disk=self.threads.payload,
                        limiter=self.upload_limiter,
                        on_sent=(transfer.add_bytes, self.sent_bytes.add),
                    ).run()
            finally:
                source.close()

    async def download_small_files(
        self, requests: AsyncIterator[pb.DownloadSmallFilesRequest], context: Context[Any, Any]
    ) -> None:
        """Many files of one piece each."""
        async with self._stream(context) as grant:
            async for request in _with_idle_timeout(requests):
                asks = [TicketRequest(ask.number, ask.ticket) for ask in _check_batch_size(request.requests)]
                async for blocks, faults in self.batch_server.read(grant, asks):
                    await _write_with_timeout(
                        context, Frame(blocks, pb.DownloadSmallFilesResponse(faults=map(_small_fault, faults)))
                    )
                    self.sent_bytes.add(sum(len(block.data) for block in blocks))

    async def upload_file(self, requests: AsyncIterator[Frame[pb.PushRequest]], context: Context[Any, Any]) -> None:
        """A file pushed to us."""
        async with self._stream(context) as grant:
            first = await _read_offer(requests)
            name, manifest = transfer_messages.offer_from_pb(first.rest, grant.id)
            end = _PushEndpoint(requests, context, manifest)
            async with end.sending_requests():
                await self.push_receiver.receive(name, manifest, grant.user, end)
            await _write_with_timeout(context, pb.PushResponse(published=True))

    async def upload_small_files(
        self, requests: AsyncIterator[Frame[pb.UploadSmallFilesRequest]], context: Context[Any, Any]
    ) -> None:
        """Many files of one piece each, pushed to us."""
        async with self._stream(context) as grant:
            with self.batch_receiver.stream(grant) as stream:
                async for frame in _with_idle_timeout(requests):
                    offers = [
                        FileOffer(o.number, o.name, o.size, o.ticket) for o in _check_batch_size(frame.rest.offers)
                    ]
                    verdicts = await stream.on_offers(offers)
                    if frame.blocks:
                        verdicts += await stream.on_blocks(frame.blocks)
                    await _write_with_timeout(context, pb.UploadSmallFilesResponse(verdicts=map(_verdict, verdicts)))

    @contextmanager
    def _noted(self, kind: str, user: str) -> Iterator[Transfer]:
        """Show a stream in the status for the length of the block."""
        transfer = self.transfers.register(kind)
        try:
            with transfer.show_sources(
                lambda: (SourceView(user, transfer.rate, transfer.counters.done, "active", ""),)
            ):
                yield transfer
        finally:
            self.transfers.finish(transfer)

    @asynccontextmanager
    async def _stream(self, context: Context[Any, Any]) -> AsyncIterator[Grant]:
        """Hold a slot for the stream at hand, give its ticket, and end it when this peer is logged out."""
        grant = CURRENT_GRANT.get()
        _acquire_slot_until_call_ends(self.stream_slots, grant, context)
        async with self.active_streams.register():
            yield grant


class _DownloadEndpoint:
    """HolderEnd of a download: hears and answers one asker."""

    def __init__(
        self,
        requests: AsyncIterator[pb.PieceRequest],
        context: Context[Any, Any],
        source: CompleteFile | PartialFile,
    ) -> None:
        self._requests = requests
        self._context = context
        self._pieces = source.manifest.piece_count

    async def requests(self) -> AsyncIterator[PieceRequest]:
        """Yield what it wants."""
        async for message in self._requests:
            yield transfer_messages.request_from_pb(message)

    async def send(self, news: PieceResponse) -> None:
        """Send, waiting until it is taken."""
        await stream_io.write(self._context, transfer_messages.response_to_pb(news, self._pieces))


class _PushEndpoint:
    """AskerEnd of a push: asks the peer that called us."""

    def __init__(
        self, requests: AsyncIterator[Frame[pb.PushRequest]], context: Context[Any, Any], manifest: Manifest
    ) -> None:
        self._requests = requests
        self._context = context
        self._manifest = manifest
        # None is the end.
        self._wishes: asyncio.Queue[PieceRequest | None] = asyncio.Queue()

    @asynccontextmanager
    async def sending_requests(self) -> AsyncIterator[None]:
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

    def request(self, wish: PieceRequest) -> None:
        """Send a wish, without waiting. A push knows no cancelling: what comes twice is harmless."""
        if wish.pieces:
            self._wishes.put_nowait(wish)

    async def responses(self) -> AsyncIterator[PieceResponse]:
        """Yield what it sends."""
        yield PieceResponse(have=Have(complete=True))
        async for frame in self._requests:
            yield PieceResponse(frame.blocks)

    async def close(self) -> None:
        """Nothing: the stream ends with the call."""

    async def _ask_on(self) -> None:
        while True:
            wish: PieceRequest | None = PieceRequest()
            try:
                async with asyncio.timeout(_KEEPALIVE_INTERVAL):
                    wish = await self._wishes.get()
            except TimeoutError:
                pass
            if wish is None:
                return
            await _write_with_timeout(
                self._context, pb.PushResponse(pieces=wish.pieces, block_length=wish.block_length)
            )


def _acquire_slot_until_call_ends(slots: StreamSlots, grant: Grant, context: Context[Any, Any]) -> None:
    """Hold a slot until the call is over, not only until we are done with it.

    What an asker does not take lies in gRPC, out of our reach, and so does the word that its stream is over. A slot
    given back before would let it lie there as often as a stream can be opened.

    Raises:
        Busy: if there is none.
    """
    slot = ExitStack()
    slot.enter_context(slots.acquire(grant.requester, grant.id, grant.user))
    context.add_done_callback(cast("Any", lambda _: slot.close()))


def _check_batch_size(files: Sequence[File]) -> Sequence[File]:
    """Return the files that a request names. Raises BadUsage, before anything is made of them, if they are too many."""
    if len(files) > MAX_FILES_PER_MESSAGE:
        raise BadUsage(f"more than {MAX_FILES_PER_MESSAGE} files were named in one request")
    return files


async def _read_offer(requests: AsyncIterator[Any]) -> Any:
    try:
        async with asyncio.timeout(_OFFER_TIMEOUT):
            return await anext(requests)
    except (TimeoutError, StopAsyncIteration):
        raise Interrupted(f"nothing was offered within {_OFFER_TIMEOUT:.0f} s: try again") from None


async def _with_idle_timeout(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Yield requests; a peer that says nothing for long makes room for others."""
    while True:
        try:
            async with asyncio.timeout(_IDLE_TIMEOUT):
                request = await anext(requests, None)
        except TimeoutError:
            raise Interrupted(f"nothing was said for {_IDLE_TIMEOUT:.0f} s: open a new stream when you go on") from None
        if request is None:
            return
        yield request


async def _write_with_timeout(context: Context[Any, Any], message: Any) -> None:
    try:
        async with asyncio.timeout(SEND_TIMEOUT):
            await stream_io.write(context, message)
    except TimeoutError:
        raise Interrupted(f"nothing was taken for {SEND_TIMEOUT:.0f} s: try again") from None


def _small_fault(fault: FileFault) -> pb.SmallFileFault:
    number, error = fault
    return pb.SmallFileFault(number=number, code=error.code, message=error.message)


def _verdict(verdict: Verdict) -> pb.SmallFileVerdict:
    number, decision, error = verdict
    kind = _DECISIONS[decision]
    if error is None:
        return pb.SmallFileVerdict(number=number, verdict=kind)
    return pb.SmallFileVerdict(number=number, verdict=kind, code=error.code, message=error.message)
