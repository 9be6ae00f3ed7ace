"""The Control service: RPCs of this peer's own pclient. Each method calls one other object and writes the response.

The interceptor in `auth` has checked the cookie before a method runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc

import pserver_pb2 as pb
from common import cookie
from common.control_messages import Hint, Progress, events_to_pb
from common.status_messages import release_from_pb, release_to_pb
from common.version import OWN_RELEASE, incompatible_message, newest_common_protocol
from daemon.commands.download import DownloadHandler
from daemon.commands.remove import RemoveHandler
from daemon.commands.upload import UploadHandler
from daemon.errors import Incompatible, Interrupted, NotAllowed
from daemon.protocol import stream_io
from daemon.rpc.status import StatusReporter
from daemon.runtime.transfers import Transfer, TransferRegistry
from daemon.storage.names import fold
from daemon.tracker_client.client import TrackerClient
from daemon.tracker_client.login import Account

Context = grpc.aio.ServicerContext
Command = TypeVar("Command", pb.UploadCommand, pb.DownloadCommand, pb.RemoveCommand)
_TRACKER_NOT_INFORMED = "logged out here; the tracker is unreachable and drops this peer after its ping timeout"
_ATTACHED = "the same command is already running; this one follows it, and Ctrl-C cancels both"


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlService:
    """The Control service of protobufs/pserver.proto. Each method may raise a PeerError, which ends the call."""

    account: Account
    tracker: TrackerClient
    transfers: TransferRegistry
    downloads: DownloadHandler
    uploads: UploadHandler
    removals: RemoveHandler
    status_reporter: StatusReporter
    proof: Callable[[bytes], bytes]

    async def prove(self, request: pb.ProveRequest, context: Context[Any, Any]) -> pb.ProveResponse:
        """Prove that this pserver knows the cookie, and compare its release with pclient's."""
        if len(request.nonce) != cookie.LENGTH:
            raise NotAllowed(f"a nonce should have {cookie.LENGTH} bytes")
        pclient = release_from_pb(request.release)
        if not newest_common_protocol(pclient):
            raise Incompatible(incompatible_message("this pclient", pclient, "the pserver"))
        return pb.ProveResponse(proof=self.proof(request.nonce), release=release_to_pb(OWN_RELEASE))

    async def login(self, request: pb.LoginRequest, context: Context[Any, Any]) -> pb.LoginResponse:
        """Log in at the tracker."""
        register = request.register if request.HasField("register") else True
        registered = await self.account.login(request.user, request.password, register=register)
        return pb.LoginResponse(user=request.user, registered=registered)

    async def logout(self, request: pb.LogoutRequest, context: Context[Any, Any]) -> pb.LogoutResponse:
        """Log out and stop sharing."""
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
        """Share files and push copies."""
        request = await _merge(parts, pb.UploadCommand())
        paths, copies, link = tuple(request.paths), request.copies, request.link
        # A file that changed since makes it another command.
        key = (paths, copies, link, await self.uploads.fingerprints(paths))
        await self._run_or_attach(
            "upload", key, lambda transfer: self.uploads.run(paths, copies, transfer, link=link), context
        )

    async def download_file_request(self, parts: AsyncIterator[pb.DownloadCommand], context: Context[Any, Any]) -> None:
        """Download files."""
        request = await _merge(parts, pb.DownloadCommand())
        names, output, newest = tuple(request.names), request.output, request.newest
        # Names that are equal after folding make it the same command, but a path outside the shared folder is no name.
        key = tuple(map(fold, names)), output if "/" in output else fold(output), newest
        await self._run_or_attach(
            "download", key, lambda transfer: self.downloads.run(names, output, transfer, newest=newest), context
        )

    async def watch_transfer(self, request: pb.WatchTransferRequest, context: Context[Any, Any]) -> None:
        """Send the events of a running transfer, from the first on."""
        await _send_events(self.transfers.get(request.transfer), context)

    async def cancel_transfer(
        self, request: pb.CancelTransferRequest, context: Context[Any, Any]
    ) -> pb.CancelTransferResponse:
        """Cancel a transfer."""
        self.transfers.cancel(request.transfer)
        return pb.CancelTransferResponse()

    async def list_files(self, request: pb.ListFilesRequest, context: Context[Any, Any]) -> None:
        """List the files in the network."""
        self.account.require_login()
        async for page in self.tracker.files(request.match):
            await stream_io.write(context, pb.ListFilesResponse(files=[file.to_pb() for file in page]))

    async def list_peers(self, request: pb.ListPeersRequest, context: Context[Any, Any]) -> pb.ListPeersResponse:
        """List the online peers."""
        self.account.require_login()
        return pb.ListPeersResponse(peers=[peer.to_pb() for peer in await self.tracker.peers()])

    async def status(self, request: pb.StatusRequest, context: Context[Any, Any]) -> pb.StatusResponse:
        """Report the state of this peer."""
        return (await self.status_reporter.report()).to_pb()

    async def remove_files(self, parts: AsyncIterator[pb.RemoveCommand], context: Context[Any, Any]) -> None:
        """Delete own copies and withdraw them from the index."""
        names = tuple((await _merge(parts, pb.RemoveCommand())).names)
        transfer = self.transfers.start("removal", lambda transfer: self.removals.run(names, transfer))
        await _send_events(transfer, context)

    async def _run_or_attach(
        self, kind: str, key: Hashable, work: Callable[[Transfer], Awaitable[None]], context: Context[Any, Any]
    ) -> None:
        """Start a transfer, or attach to the running one of the same command; send its events.

        A user whose pclient died can thus repeat the command to follow it again.

        Args:
            kind: "upload" or "download".
            key: Equal for equal commands.
            work: Runs the command.
            context: The call.
        """
        transfer = self.transfers.find(kind, key)
        notice = _ATTACHED if transfer else ""
        await _send_events(transfer or self.transfers.start(kind, work, key), context, notice)


async def _merge(parts: AsyncIterator[Command], command: Command) -> Command:
    """Merge the messages of one command into `command`. Its size is not limited: only our own user gets here.

    Raises:
        Interrupted: if the stream ended before the last message.
    """
    more = False
    async for part in parts:
        command.MergeFrom(part)
        more = part.more
    if more:
        raise Interrupted("pclient ended before the command was complete; nothing was done", hint=Hint.REPEAT)
    return command


async def _send_events(transfer: Transfer, context: Context[Any, Any], notice: str = "") -> None:
    """Send the events of a transfer until it ends. The transfer goes on if the call ends first."""
    await stream_io.write(context, pb.TransferEvent(started=pb.Started(transfer=transfer.number)))
    if notice:
        await stream_io.write(context, pb.TransferEvent(notice=notice))
    async for update in transfer.watch():
        if isinstance(update, Progress):
            await stream_io.write(context, pb.TransferEvent(progress=update.to_pb()))
        else:
            for event in events_to_pb(update):
                await stream_io.write(context, event)
