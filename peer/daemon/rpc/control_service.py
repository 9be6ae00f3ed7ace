"""gRPC in, from our own terminal.

The guard has seen the cookie; every method asks somebody else and writes the answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc

import pserver_pb2 as pb
from common import cookie
from common.control_messages import Progress, events_to_pb
from daemon.commands.download import DownloadHandler
from daemon.commands.remove import RemoveHandler
from daemon.commands.upload import UploadHandler
from daemon.errors import Interrupted, NotAllowed
from daemon.protocol import stream_io
from daemon.rpc.status import StatusReporter
from daemon.runtime.transfers import Transfer, TransferRegistry
from daemon.tracker_client.client import TrackerClient
from daemon.tracker_client.login import Account

Context = grpc.aio.ServicerContext
Order = TypeVar("Order", pb.UploadCommand, pb.DownloadCommand, pb.RemoveCommand)
_TRACKER_NOT_INFORMED = "logged out here; the tracker is unreachable and drops this peer after its ping timeout"
_ATTACHED = "the same order is under way already: this follows it as it was given then, and Ctrl-C stops it for all"


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlService:
    """The Control service; each method is one of the .proto."""

    account: Account
    tracker: TrackerClient
    jobs: TransferRegistry
    downloads: DownloadHandler
    uploads: UploadHandler
    removal: RemoveHandler
    own_status: StatusReporter
    proof: Callable[[bytes], bytes]

    async def prove(self, request: pb.ProveRequest, context: Context[Any, Any]) -> pb.ProveResponse:
        """Show that we know the cookie."""
        if len(request.nonce) != cookie.LENGTH:
            raise NotAllowed(f"a nonce has {cookie.LENGTH} bytes")
        return pb.ProveResponse(proof=self.proof(request.nonce))

    async def login(self, request: pb.LoginRequest, context: Context[Any, Any]) -> pb.LoginResponse:
        """Log in at the tracker."""
        register = request.register if request.HasField("register") else True
        registered = await self.account.login(request.user, request.password, register=register)
        return pb.LoginResponse(user=request.user, registered=registered)

    async def logout(self, request: pb.LogoutRequest, context: Context[Any, Any]) -> pb.LogoutResponse:
        """Leave."""
        logout = await self.account.logout()
        notice = "" if logout.tracker_informed else _TRACKER_NOT_INFORMED
        return pb.LogoutResponse(user=logout.user or "", notice=notice)

    async def change_password(
        self, request: pb.ChangePasswordRequest, context: Context[Any, Any]
    ) -> pb.ChangePasswordResponse:
        """Change the password."""
        user = await self.account.change_password(request.old_password, request.new_password)
        return pb.ChangePasswordResponse(user=user)

    async def upload_file_request(self, parts: AsyncIterator[pb.UploadCommand], context: Context[Any, Any]) -> None:
        """Share and push."""
        request = await _whole(parts, pb.UploadCommand())
        paths, copies = tuple(request.paths), request.copies
        # A file that changed since is another order.
        order = (paths, copies, await self.uploads.fingerprints(paths))
        await self._follow("upload", order, lambda transfer: self.uploads.run(paths, copies, transfer), context)

    async def download_file_request(self, parts: AsyncIterator[pb.DownloadCommand], context: Context[Any, Any]) -> None:
        """Fetch."""
        request = await _whole(parts, pb.DownloadCommand())
        names, output = tuple(request.names), request.output
        order = (names, output)
        await self._follow("download", order, lambda transfer: self.downloads.run(names, output, transfer), context)

    async def watch_transfer(self, request: pb.WatchTransferRequest, context: Context[Any, Any]) -> None:
        """Attach to a transfer."""
        await _show(self.jobs.get(request.transfer), context)

    async def cancel_transfer(
        self, request: pb.CancelTransferRequest, context: Context[Any, Any]
    ) -> pb.CancelTransferResponse:
        """Stop a transfer."""
        self.jobs.cancel(request.transfer)
        return pb.CancelTransferResponse()

    async def list_files(self, request: pb.ListFilesRequest, context: Context[Any, Any]) -> None:
        """What the network has."""
        self.account.require_login()
        async for page in self.tracker.files(request.match):
            await stream_io.write(context, pb.ListFilesResponse(files=[file.to_pb() for file in page]))

    async def list_peers(self, request: pb.ListPeersRequest, context: Context[Any, Any]) -> pb.ListPeersResponse:
        """Who is alive."""
        self.account.require_login()
        return pb.ListPeersResponse(peers=[peer.to_pb() for peer in await self.tracker.peers()])

    async def status(self, request: pb.StatusRequest, context: Context[Any, Any]) -> pb.StatusResponse:
        """This peer."""
        return (await self.own_status.report()).to_pb()

    async def remove_files(self, parts: AsyncIterator[pb.RemoveCommand], context: Context[Any, Any]) -> None:
        """Delete and withdraw."""
        names = tuple((await _whole(parts, pb.RemoveCommand())).names)
        transfer = self.jobs.start("removal", lambda transfer: self.removal.run(names, transfer))
        await _show(transfer, context)

    async def _follow(
        self, kind: str, order: Hashable, work: Callable[[Transfer], Awaitable[None]], context: Context[Any, Any]
    ) -> None:
        """Show the transfer of an order: one of the same order that is under way, or a new one.

        So a terminal that died is replaced by giving its order again.
        """
        transfer = self.jobs.find(kind, order)
        notice = _ATTACHED if transfer else ""
        await _show(transfer or self.jobs.start(kind, work, order), context, notice)


async def _whole(parts: AsyncIterator[Order], order: Order) -> Order:
    """Return an order that comes in parts: however many its names are, each message is within what one may be.

    All of it is in memory then: nobody but our own user gets here.

    Raises:
        Interrupted: if the terminal ended before all of it was here.
    """
    more = False
    async for part in parts:
        order.MergeFrom(part)
        more = part.more
    if more:
        raise Interrupted("the terminal ended in the middle of its order: nothing of it was done, give it again")
    return order


async def _show(transfer: Transfer, context: Context[Any, Any], notice: str = "") -> None:
    """Tell a watcher of a transfer until it ends. A watcher that goes away changes nothing."""
    await stream_io.write(context, pb.TransferEvent(started=pb.Started(transfer=transfer.number)))
    if notice:
        await stream_io.write(context, pb.TransferEvent(notice=notice))
    async for news in transfer.watch():
        if isinstance(news, Progress):
            await stream_io.write(context, pb.TransferEvent(progress=news.to_pb()))
        else:
            for event in events_to_pb(news):
                await stream_io.write(context, event)
