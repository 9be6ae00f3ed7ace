"""Calls to other pservers: manifests, downloads, and streams for pushes and batches.

All calls to a peer use one connection, which is closed some seconds after the last call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

import pserver_pb2 as pb
from common import channels
from daemon.errors import NotVerified, PeerError
from daemon.peers import addresses
from daemon.peers.call import Call
from daemon.protocol import status_codes, tickets, transfer_messages
from daemon.protocol.stream_io import StreamEnded
from daemon.protocol.transfer_messages import PendingRequests, PieceRequest, PieceResponse
from daemon.runtime.concurrency import TaskSet
from daemon.storage.manifest import Manifest

# The largest message is a manifest of 65,536 pieces, 2 MiB.
MAX_MESSAGE_BYTES = (2 << 20) + (64 << 10)
# Bytes that gRPC may read ahead on one connection. Its default takes over 200 MB for a single stream.
READ_AHEAD_BYTES = 4 << 20
# One HTTP/2 frame of 1 MiB holds a complete block. In gRPC's default of 16 KiB, a block is assembled from 64 slices.
FLOW_CONTROL_OPTIONS: channels.Options = [
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", READ_AHEAD_BYTES),
    ("grpc.http2.max_frame_size", 1 << 20),
]
# Seconds that an unused connection stays open.
_IDLE_CHANNEL_SECONDS = 10.0
# Seconds.
_MANIFEST_TIMEOUT = 15.0


class PeerClient:
    """Calls other pservers by their `host:port`."""

    def __init__(self, credentials: grpc.ChannelCredentials | None) -> None:
        self._credentials = credentials
        self._channels: dict[str, _SharedChannel] = {}
        self._closing = TaskSet()

    async def fetch_manifest(self, address: str, ticket: str, expected_id: str) -> Manifest:
        """Return the verified manifest of the ticket's id.

        Raises:
            NotVerified: if the peer sends the manifest of another id, or a malformed one.
            PeerError: if the call fails.
        """
        codec = transfer_messages.TRANSFER_CODECS["GetManifest"]
        async with self._channel(address) as channel:
            call = channel.unary_unary(codec.path, codec.encode_request, codec.decode_response)
            try:
                message = await call(pb.GetManifestRequest(), metadata=_metadata(ticket), timeout=_MANIFEST_TIMEOUT)
            except grpc.aio.AioRpcError as error:
                raise status_codes.error_from_rpc(error, address) from error
            try:
                return transfer_messages.manifest_from_pb(transfer_messages.ensure_decoded(message), expected_id)
            except PeerError as error:
                raise NotVerified(f"{address}: {error.message}") from error

    def open_download(self, address: str, ticket: str, pieces: int) -> DownloadStream:
        """Return the stream of a download of a file of `pieces` pieces. It dials when `responses` is iterated."""
        return DownloadStream(self, address, ticket, pieces)

    @asynccontextmanager
    async def open_call(self, method: str, address: str, ticket: str) -> AsyncIterator[Call]:
        """Open a stream of the Transfer method `method` while the block runs. Raises NoHolders for a bad address."""
        codec = transfer_messages.TRANSFER_CODECS[method]
        async with self._channel(address) as channel:
            open_call = channel.stream_stream(codec.path, codec.encode_request, codec.decode_response)
            stream = open_call(metadata=_metadata(ticket))
            try:
                yield Call(address, stream)
            finally:
                stream.cancel()

    async def close(self) -> None:
        """Close every connection."""
        for shared in list(self._channels.values()):
            await shared.channel.close()
        self._channels.clear()

    @asynccontextmanager
    async def _channel(self, address: str) -> AsyncIterator[grpc.aio.Channel]:
        target = await addresses.resolve_target(address)
        shared = self._channels.get(target)
        if shared is None:
            shared = self._channels[target] = _SharedChannel(self._open(address, target))
        shared.users += 1
        try:
            yield shared.channel
        finally:
            shared.users -= 1
            if not shared.users:
                asyncio.get_running_loop().call_later(_IDLE_CHANNEL_SECONDS, self._close_if_idle, target, shared)

    def _open(self, address: str, target: str) -> grpc.aio.Channel:
        options: list[tuple[str, Any]] = [*channels.channel_options(MAX_MESSAGE_BYTES), *FLOW_CONTROL_OPTIONS]
        if self._credentials is None:
            return grpc.aio.insecure_channel(target, options)
        # The target is an IP address, but the certificate is for the announced host.
        options.append(("grpc.ssl_target_name_override", addresses.split_address(address)[0]))
        return grpc.aio.secure_channel(target, self._credentials, options)

    def _close_if_idle(self, target: str, shared: _SharedChannel) -> None:
        if not shared.users and self._channels.get(target) is shared:
            del self._channels[target]
            self._closing.start(shared.channel.close())


class _SharedChannel:
    """A connection, and the number of calls that use it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.users = 0


class DownloadStream:
    """RequesterStream over a call to the holder."""

    def __init__(self, peers: PeerClient, address: str, ticket: str, pieces: int) -> None:
        self._peers = peers
        self._address = address
        self._ticket = ticket
        self._pieces = pieces
        self._pending = PendingRequests()
        self._has_pending = asyncio.Event()
        self._call: Call | None = None

    def request(self, request: PieceRequest) -> None:
        """Queue a request and return at once."""
        self._pending.add(request)
        self._has_pending.set()

    async def responses(self) -> AsyncIterator[PieceResponse]:
        """Dial the holder, and yield what it sends. Raises PeerError if the stream fails."""
        decoder = transfer_messages.ResponseDecoder(self._pieces)
        async with self._peers.open_call("DownloadFile", self._address, self._ticket) as call:
            self._call = call
            sending = asyncio.create_task(self._send_requests(call))
            try:
                async for frame in call.responses():
                    yield decoder.decode(frame)
            finally:
                sending.cancel()

    async def close(self) -> None:
        """Cancel the call if it was dialled."""
        if self._call is not None:
            self._call.cancel()

    async def _send_requests(self, call: Call) -> None:
        try:
            await self._send_pending(call)
        except StreamEnded:
            # `responses` raises why. A cancellation would hide it.
            pass
        except PeerError:
            # The holder stopped reading requests.
            call.cancel()

    async def _send_pending(self, call: Call) -> None:
        while True:
            await self._has_pending.wait()
            self._has_pending.clear()
            while self._pending:
                await call.write(transfer_messages.request_to_pb(self._pending.pop()))


def _metadata(ticket: str) -> tuple[tuple[str, str], ...]:
    return ((tickets.METADATA_KEY, ticket),)
