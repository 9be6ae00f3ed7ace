"""gRPC out, to other pservers: the asker's end of a download, the holder's end of a push, manifests.

A connection to a peer is shared by all streams to it, and closed a while after the last.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc

import pserver_pb2 as pb
from common import channels
from daemon.errors import NoHolders, NotVerified, PeerError
from daemon.peers import addresses
from daemon.peers.limits import SEND_TIMEOUT
from daemon.protocol import status_codes, stream_io, transfer_messages
from daemon.protocol.piece_streams import PendingRequests, PieceRequest, PieceResponse
from daemon.storage.manifest import Manifest
from daemon.tracker_client import tickets

# A manifest of 65,536 pieces is 2 MiB; no message is larger.
MAX_MESSAGE_BYTES = (2 << 20) + (64 << 10)
# What gRPC may read ahead of us on one connection. Left alone it takes over 200 MB for a single stream.
READ_AHEAD_BYTES = 4 << 20
# A frame of 1 MiB carries a whole block: in frames of 16 KiB, gRPC's default, it is put together again from 64 slices.
FLOW_CONTROL_OPTIONS: channels.Options = [
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", READ_AHEAD_BYTES),
    ("grpc.http2.max_frame_size", 1 << 20),
]
_IDLE_CHANNEL_SECONDS = 10.0
_MANIFEST_TIMEOUT = 15.0


class PeerClient:
    """The other pservers, by address."""

    def __init__(self, credentials: grpc.ChannelCredentials | None) -> None:
        self._credentials = credentials
        self._channels: dict[str, _SharedChannel] = {}

    async def fetch_manifest(self, url: str, ticket: str, expected_id: str) -> Manifest:
        """Return the manifest of the ticket's id, checked. Raises NotVerified if the peer sends another."""
        codec = transfer_messages.TRANSFER_CODECS["GetManifest"]
        async with self._channel(url) as channel:
            ask = channel.unary_unary(codec.path, codec.encode_request, codec.decode_response)
            try:
                message = await ask(pb.GetManifestRequest(), metadata=_metadata(ticket), timeout=_MANIFEST_TIMEOUT)
            except grpc.aio.AioRpcError as error:
                raise status_codes.error_from_rpc(error, url) from error
            try:
                return transfer_messages.manifest_from_pb(transfer_messages.ensure_decoded(message), expected_id)
            except PeerError as error:
                raise NotVerified(f"{url}: {error.message}") from error

    def open_download(self, url: str, ticket: str, pieces: int) -> DownloadStream:
        """Return the asker's end of a download of a file of so many pieces; dials when its news are heard."""
        return DownloadStream(self, url, ticket, pieces)

    @asynccontextmanager
    async def open_call(self, method: str, url: str, ticket: str) -> AsyncIterator[Call]:
        """Open a stream of Transfer; leaving ends it."""
        codec = transfer_messages.TRANSFER_CODECS[method]
        async with self._channel(url) as channel:
            open_call = channel.stream_stream(codec.path, codec.encode_request, codec.decode_response)
            stream = open_call(metadata=_metadata(ticket))
            try:
                yield Call(url, stream)
            finally:
                stream.cancel()

    async def close(self) -> None:
        """Close every connection."""
        for shared in list(self._channels.values()):
            await shared.channel.close()
        self._channels.clear()

    @asynccontextmanager
    async def _channel(self, url: str) -> AsyncIterator[grpc.aio.Channel]:
        target = await addresses.resolve_target(url)
        shared = self._channels.get(target)
        if shared is None:
            shared = self._channels[target] = _SharedChannel(self._open(url, target))
        shared.users += 1
        try:
            yield shared.channel
        finally:
            shared.users -= 1
            if not shared.users:
                asyncio.get_running_loop().call_later(_IDLE_CHANNEL_SECONDS, self._close_if_idle, target, shared)

    def _open(self, url: str, target: str) -> grpc.aio.Channel:
        options: list[tuple[str, Any]] = [*channels.channel_options(MAX_MESSAGE_BYTES), *FLOW_CONTROL_OPTIONS]
        if self._credentials is None:
            return grpc.aio.insecure_channel(target, options)
        # We resolved the name ourselves; the certificate is still for the name.
        options.append(("grpc.ssl_target_name_override", addresses.split_address(url)[0]))
        return grpc.aio.secure_channel(target, self._credentials, options)

    def _close_if_idle(self, target: str, shared: _SharedChannel) -> None:
        if not shared.users and self._channels.get(target) is shared:
            del self._channels[target]
            task = asyncio.get_running_loop().create_task(shared.channel.close())
            shared.closing = task


class _SharedChannel:
    """A connection and how many streams use it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.users = 0
        self.closing: asyncio.Task[None] | None = None


class Call:
    """An open stream."""

    def __init__(self, url: str, stream: Any) -> None:
        self.address = url
        self._stream = stream
        self._writing = asyncio.Lock()

    async def write(self, message: Any) -> None:
        """Send, waiting until it is taken. Raises PeerError if the stream is broken, or nothing is taken."""
        try:
            async with asyncio.timeout(SEND_TIMEOUT), self._writing:
                # A call that ends before it was connected would leave the write waiting for that.
                await self._stream.wait_for_connection()
                await stream_io.write(self._stream, message)
        except TimeoutError as error:
            raise NoHolders(f"{self.address}: took nothing for {SEND_TIMEOUT:.0f} s") from error
        except grpc.aio.AioRpcError as error:
            raise status_codes.error_from_rpc(error, self.address) from error
        except asyncio.InvalidStateError as error:
            raise NoHolders(f"{self.address}: ended the stream") from error

    async def half_close(self) -> None:
        """Say that nothing more will be sent."""
        async with self._writing:
            await self._stream.done_writing()

    def cancel(self) -> None:
        """Break the stream off."""
        self._stream.cancel()

    async def responses(self) -> AsyncIterator[Any]:
        """Yield what the other side sends until it ends the stream. Raises PeerError if the stream breaks."""
        try:
            async for message in stream_io.messages(self._stream):
                yield message
        except grpc.aio.AioRpcError as error:
            raise status_codes.error_from_rpc(error, self.address) from error
        except asyncio.CancelledError:
            # gRPC says so, too, when it is not we who are cancelled but the call, by `cancel`.
            if _is_cancelled():
                raise
            raise NoHolders(f"{self.address}: was broken off") from None


class DownloadStream:
    """AskerEnd over a call that we make."""

    def __init__(self, peers: PeerClient, url: str, ticket: str, pieces: int) -> None:
        self._peers = peers
        self._url = url
        self._ticket = ticket
        self._pieces = pieces
        self._unsent = PendingRequests()
        self._asked = asyncio.Event()
        self._call: Call | None = None

    def request(self, wish: PieceRequest) -> None:
        """Send a wish, without waiting."""
        self._unsent.add(wish)
        self._asked.set()

    async def responses(self) -> AsyncIterator[PieceResponse]:
        """Dial, and yield what the holder sends."""
        reader = transfer_messages.ResponseDecoder(self._pieces)
        async with self._peers.open_call("DownloadFile", self._url, self._ticket) as call:
            self._call = call
            asking = asyncio.create_task(self._send_wishes(call))
            try:
                async for frame in call.responses():
                    yield reader.decode(frame)
            finally:
                asking.cancel()

    async def close(self) -> None:
        """End the stream."""
        if self._call is not None:
            self._call.cancel()

    async def _send_wishes(self, call: Call) -> None:
        # A stream that breaks is told to whoever hears the news; one whose holder takes no wishes is broken off.
        with suppress(PeerError):
            try:
                await self._send_on(call)
            finally:
                call.cancel()

    async def _send_on(self, call: Call) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            while self._unsent:
                await call.write(transfer_messages.request_to_pb(self._unsent.pop()))


def _is_cancelled() -> bool:
    """Tell whether this task is.

    A function of its own: a frame that knew its task would stay with it, and a piece, until Python looks for cycles.
    """
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _metadata(ticket: str) -> tuple[tuple[str, str], ...]:
    return ((tickets.METADATA_KEY, ticket),)
