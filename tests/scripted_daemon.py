"""A pserver with scripted responses: a real gRPC server on a free port and a real cookie, without files."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import grpc

import pserver_pb2 as pb
import pserver_pb2_grpc
from common import channels, cookie, state_files
from common.control_messages import HINT_KEY, Hint
from common.status_messages import release_to_pb
from common.version import OWN_RELEASE

ID = "ab" * 32
Command = TypeVar("Command", pb.UploadCommand, pb.DownloadCommand, pb.RemoveCommand)


def started(transfer: int = 7) -> pb.TransferEvent:
    """The first event of a transfer."""
    return pb.TransferEvent(started=pb.Started(transfer=transfer))


def moving(name: str, done: int, total: int, rate: float = 1e6, **more: Any) -> pb.TransferEvent:
    """Progress of a transfer."""
    progress = pb.Progress(phase=pb.Progress.PHASE_MOVING, name=name, done=done, total=total, rate=rate, **more)
    return pb.TransferEvent(progress=progress)


def downloaded(name: str, path: str = "/shared/x", **more: Any) -> pb.TransferEvent:
    """A downloaded file."""
    values = {"size": 3, "seconds": 0.5, "holders": ["10.0.0.1:5001"], **more}
    file = pb.Downloaded(name=name, id=ID, path=path, **values)
    return pb.TransferEvent(results=pb.Results(downloaded=[file]))


def uploaded(name: str, *copies: str) -> pb.TransferEvent:
    """An uploaded file."""
    return pb.TransferEvent(results=pb.Results(uploaded=[pb.Uploaded(name=name, id=ID, size=3, copies=copies)]))


def removed(name: str) -> pb.TransferEvent:
    """A removed copy."""
    return pb.TransferEvent(results=pb.Results(removed=[pb.Removed(name=name, id=ID, size=3)]))


def failed(code: str, name: str = "", message: str = "", ids: tuple[str, ...] = (), **more: Any) -> pb.TransferEvent:
    """A fault."""
    fault = pb.Fault(code=code, name=name, message=message or f"it is {code}", ids=ids, **more)
    return pb.TransferEvent(results=pb.Results(faults=[fault]))


def merged(parts: Iterator[Command], command: Command) -> Command:
    """Merge the messages of one command."""
    for part in parts:
        command.MergeFrom(part)
    return command


def _complete(event: pb.TransferEvent, arguments: Sequence[str]) -> pb.TransferEvent:
    """Set the `arguments` of results that have none: those that are, or end in, the name, or are a folder of it."""
    results = event.results
    each: list[pb.Downloaded | pb.Uploaded | pb.Removed | pb.Fault] = [
        *results.downloaded,
        *results.uploaded,
        *results.removed,
        *results.faults,
    ]
    for result in each:
        if not result.arguments and result.name:
            result.arguments.extend(
                index
                for index, word in enumerate(arguments)
                if word == result.name
                or word.endswith("/" + result.name)
                or result.name.startswith(word.rstrip("/") + "/")
            )
    return event


class ScriptedDaemon(pserver_pb2_grpc.ControlServicer):
    """Responds as scripted and records the calls."""

    def __init__(self, state_dir: Path, port: int = 0, credentials: grpc.ServerCredentials | None = None) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.refusals: dict[str, tuple[grpc.StatusCode, str, str]] = {}
        # The hint of every refusal.
        self.hint: Hint | None = None
        self.passwords = {"ana": "secret"}
        self.status = pb.StatusResponse(
            address="127.0.0.1:5001",
            tracker="127.0.0.1:5000",
            tracker_reached=True,
            shared_dir="/shared",
            state_dir="/state",
        )
        self.transfers: list[list[pb.TransferEvent]] = []
        # True: a transfer does not end before CancelTransfer, or the end of the test.
        self.holds = False
        self.cancelled = threading.Event()
        self.pages: list[list[pb.ListedFile]] = []
        self.peers: list[pb.ListedPeer] = []
        # The notice of a logout.
        self.logout_notice = ""
        self.wrong_proof = False
        self.release = release_to_pb(OWN_RELEASE)
        # After this many proofs the next one hangs; None: none hangs.
        self.proofs: int | None = None
        self._server = grpc.server(futures.ThreadPoolExecutor(4), options=channels.server_options())
        pserver_pb2_grpc.add_ControlServicer_to_server(self, self._server)
        address = f"127.0.0.1:{port}"
        if credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, credentials)
        self.cookie = cookie.make_cookie(state_dir)
        state_files.write_port(state_dir, self.port)
        self._server.start()

    def stop(self) -> None:
        """Stop at once."""
        self.cancelled.set()
        self._server.stop(None).wait()

    def requests(self, method: str) -> list[Any]:
        """The requests of one method, in order."""
        return [request for name, request in self.calls if name == method]

    def _enter(self, method: str, request: Any, context: grpc.ServicerContext) -> None:
        shown = dict(context.invocation_metadata()).get(cookie.COOKIE_KEY, "")
        if not cookie.cookie_matches(str(shown), self.cookie):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no cookie")
        self.calls.append((method, request))
        if method in self.refusals:
            self._refuse(context, *self.refusals[method])

    def _refuse(self, context: grpc.ServicerContext, status: grpc.StatusCode, code: str, message: str) -> NoReturn:
        if code:
            hint = ((HINT_KEY, self.hint.value),) if self.hint else ()
            context.set_trailing_metadata((("p2p-code", code), *hint))
        context.abort(status, message)
        raise AssertionError("abort raises")

    def Prove(self, request: pb.ProveRequest, context: grpc.ServicerContext) -> pb.ProveResponse:
        metadata = dict(context.invocation_metadata())
        self.calls.append(("Prove", metadata))
        if self.proofs is not None and len(self.requests("Prove")) > self.proofs:
            self.cancelled.wait(30)
        if self.wrong_proof:
            return pb.ProveResponse(proof=bytes(32))
        if cookie.check_challenge(str(metadata.get(cookie.CHALLENGE_KEY)), self.cookie, self.port) != request.nonce:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "wrong challenge")
        proof = cookie.make_proof(self.cookie, self.port, request.nonce)
        return pb.ProveResponse(proof=proof, release=self.release)

    def Login(self, request: pb.LoginRequest, context: grpc.ServicerContext) -> pb.LoginResponse:
        self._enter("Login", request, context)
        known = request.user in self.passwords
        if not known and request.HasField("register") and not request.register:
            self._refuse(context, grpc.StatusCode.PERMISSION_DENIED, "unknown_user", "unknown user name")
        if self.passwords.setdefault(request.user, request.password) != request.password:
            self._refuse(context, grpc.StatusCode.PERMISSION_DENIED, "login_refused", "wrong user or password")
        self.status.user = request.user
        return pb.LoginResponse(user=request.user, registered=not known)

    def Logout(self, request: pb.LogoutRequest, context: grpc.ServicerContext) -> pb.LogoutResponse:
        self._enter("Logout", request, context)
        user, self.status.user = self.status.user, ""
        return pb.LogoutResponse(user=user, notice=self.logout_notice)

    def ChangePassword(
        self, request: pb.ChangePasswordRequest, context: grpc.ServicerContext
    ) -> pb.ChangePasswordResponse:
        self._enter("ChangePassword", request, context)
        self.passwords[self.status.user] = request.new_password
        return pb.ChangePasswordResponse(user=self.status.user)

    def UploadFileRequest(
        self, parts: Iterator[pb.UploadCommand], context: grpc.ServicerContext
    ) -> Iterator[pb.TransferEvent]:
        command = merged(parts, pb.UploadCommand())
        self._enter("Upload", command, context)
        yield from self._transfer(command.paths)

    def DownloadFileRequest(
        self, parts: Iterator[pb.DownloadCommand], context: grpc.ServicerContext
    ) -> Iterator[pb.TransferEvent]:
        command = merged(parts, pb.DownloadCommand())
        self._enter("Download", command, context)
        yield from self._transfer(command.names)

    def _transfer(self, arguments: Sequence[str]) -> Iterator[pb.TransferEvent]:
        yield started()
        for event in self.transfers.pop(0):
            yield _complete(event, arguments)
        if self.holds:
            self.cancelled.wait(30)
            yield failed("interrupted", "big.iso")

    def WatchTransfer(
        self, request: pb.WatchTransferRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.TransferEvent]:
        self._enter("Watch", request, context)
        yield started(request.transfer)

    def CancelTransfer(
        self, request: pb.CancelTransferRequest, context: grpc.ServicerContext
    ) -> pb.CancelTransferResponse:
        self._enter("Cancel", request, context)
        self.cancelled.set()
        return pb.CancelTransferResponse()

    def ListFiles(self, request: pb.ListFilesRequest, context: grpc.ServicerContext) -> Iterator[pb.ListFilesResponse]:
        self._enter("ListFiles", request, context)
        for page in self.pages:
            yield pb.ListFilesResponse(files=page)

    def ListPeers(self, request: pb.ListPeersRequest, context: grpc.ServicerContext) -> pb.ListPeersResponse:
        self._enter("ListPeers", request, context)
        return pb.ListPeersResponse(peers=self.peers)

    def Status(self, request: pb.StatusRequest, context: grpc.ServicerContext) -> pb.StatusResponse:
        self._enter("Status", request, context)
        return self.status

    def RemoveFiles(
        self, parts: Iterator[pb.RemoveCommand], context: grpc.ServicerContext
    ) -> Iterator[pb.TransferEvent]:
        command = merged(parts, pb.RemoveCommand())
        self._enter("Remove", command, context)
        yield from self._transfer(command.names)
