"""The Transfer service: calls of other pservers.

The interceptor has checked the ticket of every call. This module limits the streams and sets their timeouts; it leaves
everything else to the packages below.
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
from daemon.protocol.tickets import Grant
from daemon.protocol.transfer_messages import Have, PieceRequest, PieceResponse
from daemon.rpc.auth import CURRENT_GRANT
from daemon.runtime.concurrency import Threads
from daemon.runtime.metrics import SentBytes
from daemon.runtime.transfers import Transfer, TransferRegistry
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
T = TypeVar("T")
# Seconds within which a push must send its offer.
_OFFER_TIMEOUT = 20.0
# The longest time without a message on a stream of small files, in seconds.
_IDLE_TIMEOUT = 60.0
# A receiver sends a message at least this often, in seconds, so that the sender sees that it is alive.
_KEEPALIVE_INTERVAL = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferService:
    """The Transfer service. Each public method is an RPC of protobufs/pserver.proto."""

    served_files: ServedFiles
    push_receiver: PushReceiver
    batch_server: BatchServer
    batch_receiver: BatchReceiver
    threads: Threads
    stream_slots: StreamSlots
    # Apart from `stream_slots`, because a requester first fetches the manifest and then opens a stream.
    manifest_slots: StreamSlots
    active_streams: ActiveStreams
    upload_limiter: RateLimiter
    transfers: TransferRegistry
    sent_bytes: SentBytes

    async def get_manifest(self, request: pb.GetManifestRequest, context: Context[Any, Any]) -> None:
        """Send the manifest of the ticket's id."""
        grant = CURRENT_GRANT.get()
        _acquire_slot_until_call_ends(self.manifest_slots, grant, context)
        manifest = await self.threads.run(self.threads.disk, self.served_files.manifest, grant.id)
        await _write_with_timeout(context, transfer_messages.manifest_to_pb(manifest))

    async def download_file(self, requests: AsyncIterator[pb.PieceRequest], context: Context[Any, Any]) -> None:
        """Send pieces of the ticket's file."""
        async with self._stream(context) as grant:
            source: CompleteFile | PartialFile | None = self.served_files.open_partial(grant.id)
            if source is None:
                source = await self.threads.run(self.threads.disk, self.served_files.open_complete, grant.id)
            try:
                with self._registered("serving", grant.user) as transfer:
                    transfer.start_phase(Phase.MOVING, source.name, source.manifest.size)
                    await PieceSender(
                        source,
                        DownloadEndpoint(requests, context, source),
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
        """Send small files, many in one stream."""
        async with self._stream(context) as grant:
            async for request in _with_idle_timeout(requests):
                files = [TicketRequest(file.number, file.ticket) for file in _check_batch_size(request.requests)]
                async for blocks, faults in self.batch_server.read(grant, files):
                    await _write_with_timeout(
                        context, Frame(blocks, pb.DownloadSmallFilesResponse(faults=map(_small_fault, faults)))
                    )
                    self.sent_bytes.add(sum(len(block.data) for block in blocks))

    async def upload_file(self, requests: AsyncIterator[Frame[pb.PushRequest]], context: Context[Any, Any]) -> None:
        """Receive a file."""
        async with self._stream(context) as grant:
            first = await _read_offer(requests)
            offer = transfer_messages.offer_from_pb(first.rest, grant.id)
            endpoint = PushEndpoint(requests, context)
            async with endpoint.sending_requests():
                await self.push_receiver.receive(offer, grant.user, endpoint)
            await _write_with_timeout(context, pb.PushResponse(published=True, named=True))

    async def upload_small_files(
        self, requests: AsyncIterator[Frame[pb.UploadSmallFilesRequest]], context: Context[Any, Any]
    ) -> None:
        """Receive small files, many in one stream."""
        async with self._stream(context) as grant:
            with self.batch_receiver.stream(grant) as stream:
                async for frame in _with_idle_timeout(requests):
                    offers = [
                        FileOffer(o.number, o.name, o.size, o.ticket, transfer_messages.attributes_from_pb(o))
                        for o in _check_batch_size(frame.rest.offers)
                    ]
                    verdicts = await stream.on_offers(offers)
                    if frame.blocks:
                        verdicts += await stream.on_blocks(frame.blocks)
                    await _write_with_timeout(context, pb.UploadSmallFilesResponse(verdicts=map(_verdict, verdicts)))

    @contextmanager
    def _registered(self, kind: str, user: str) -> Iterator[Transfer]:
        """Show a stream in the status while the block runs."""
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
        """Acquire a slot for this call, yield its grant, and close the stream if this peer is logged out."""
        grant = CURRENT_GRANT.get()
        _acquire_slot_until_call_ends(self.stream_slots, grant, context)
        async with self.active_streams.register():
            yield grant


class DownloadEndpoint:
    """HolderStream of a download: receives the requests of the calling peer."""

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
        """Yield the requests."""
        async for message in self._requests:
            yield transfer_messages.request_from_pb(message)

    async def send(self, response: PieceResponse) -> None:
        """Send a response; returns when gRPC accepts the next one."""
        await stream_io.write(self._context, transfer_messages.response_to_pb(response, self._pieces))


class PushEndpoint:
    """RequesterStream of a push: sends requests to the calling peer."""

    def __init__(self, frames: AsyncIterator[Frame[pb.PushRequest]], context: Context[Any, Any]) -> None:
        self._frames = frames
        self._context = context
        # None ends the sending.
        self._queue: asyncio.Queue[PieceRequest | None] = asyncio.Queue()

    @asynccontextmanager
    async def sending_requests(self) -> AsyncIterator[None]:
        """Send the queued requests, and keepalives between them, while the block runs."""
        task = asyncio.create_task(self._send_requests())
        try:
            yield
            # The caller writes to this stream next: gRPC allows one write at a time.
            self._queue.put_nowait(None)
            await asyncio.gather(task, return_exceptions=True)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def request(self, request: PieceRequest) -> None:
        """Queue a request. A push has no cancellation; a piece that arrives twice is harmless."""
        if request.pieces:
            self._queue.put_nowait(request)

    async def responses(self) -> AsyncIterator[PieceResponse]:
        """Yield what the sender sends: first that it has the complete file, then blocks."""
        yield PieceResponse(have=Have(complete=True))
        async for frame in self._frames:
            yield PieceResponse(frame.blocks)

    async def close(self) -> None:
        """Do nothing: the stream ends with the call."""

    async def _send_requests(self) -> None:
        while True:
            request: PieceRequest | None = PieceRequest()
            try:
                async with asyncio.timeout(_KEEPALIVE_INTERVAL):
                    request = await self._queue.get()
            except TimeoutError:
                pass
            if request is None:
                return
            await _write_with_timeout(
                self._context, pb.PushResponse(pieces=request.pieces, block_length=request.block_length)
            )


def _acquire_slot_until_call_ends(slots: StreamSlots, grant: Grant, context: Context[Any, Any]) -> None:
    """Acquire a slot until gRPC reports the end of the call.

    gRPC buffers unread data until the call really ends. A slot released earlier would let a peer pile up such buffers
    by opening streams again and again.

    Raises:
        Busy: if there is no slot.
    """
    slot = ExitStack()
    slot.enter_context(slots.acquire(grant.requester, grant.id, grant.user))
    context.add_done_callback(cast("Any", lambda _: slot.close()))


def _check_batch_size(files: Sequence[T]) -> Sequence[T]:
    """Return the files that a request names. Raises BadUsage if they are too many."""
    if len(files) > MAX_FILES_PER_MESSAGE:
        raise BadUsage(f"a request names more than {MAX_FILES_PER_MESSAGE} files")
    return files


async def _read_offer(requests: AsyncIterator[Any]) -> Any:
    """Return the first message of a push. Raises Interrupted if it does not arrive in time."""
    try:
        async with asyncio.timeout(_OFFER_TIMEOUT):
            return await anext(requests)
    except (TimeoutError, StopAsyncIteration):
        raise Interrupted(f"no offer arrived within {_OFFER_TIMEOUT:.0f} s") from None


async def _with_idle_timeout(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Yield the requests. Raises Interrupted if none arrives for a minute, so that other peers can use the slot."""
    while True:
        try:
            async with asyncio.timeout(_IDLE_TIMEOUT):
                request = await anext(requests, None)
        except TimeoutError:
            raise Interrupted(f"stream idle for {_IDLE_TIMEOUT:.0f} s") from None
        if request is None:
            return
        yield request


async def _write_with_timeout(context: Context[Any, Any], message: Any) -> None:
    """Send a message. Raises Interrupted if the peer does not read it in time."""
    try:
        async with asyncio.timeout(SEND_TIMEOUT):
            await stream_io.write(context, message)
    except TimeoutError:
        raise Interrupted(f"peer stopped reading for {SEND_TIMEOUT:.0f} s") from None


def _small_fault(fault: FileFault) -> pb.SmallFileFault:
    number, error = fault
    return pb.SmallFileFault(number=number, code=error.code, message=error.message)


def _verdict(verdict: Verdict) -> pb.SmallFileVerdict:
    number, decision, error = verdict
    kind = _DECISIONS[decision]
    if error is None:
        return pb.SmallFileVerdict(number=number, verdict=kind, named=decision is Decision.PUBLISHED)
    return pb.SmallFileVerdict(number=number, verdict=kind, code=error.code, message=error.message)
