"""Calls the Control service of this pclient's pserver. Modules above this one do not import gRPC."""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from functools import partial
from typing import NamedTuple, cast

import grpc

import pserver_pb2 as pb
import pserver_pb2_grpc
from cli import status_codes
from cli.connection import Connection, Metadata, address, connect
from cli.errors import CliError, PserverUnreachable
from cli.settings import Settings
from common.control_messages import Event, Hint, Progress, Started, argument_batches, events_from_pb
from common.status_messages import ListedFile, ListedPeer, Status
from common.version import both_releases

# Seconds. A user waits for the cancel.
_CANCEL_TIMEOUT = 5.0
# The pserver answers from memory.
_LOCAL_TIMEOUT = 10.0
# The pserver queries the tracker, which may delay a failed login by a minute, and which is asked again on a timeout.
_TRACKER_TIMEOUT = 90.0

# The first protocol of pservers that can link.
_LINK_PROTOCOL = 2

_TRANSFER_LOST = "the pserver stopped; verified data is kept: start it again"
_REMOVAL_LOST = "the pserver stopped; some copies may be removed: start it again"


class LoginResult(NamedTuple):
    """Who is logged in, and whether the account was created by this login."""

    user: str
    registered: bool


class LogoutResult(NamedTuple):
    """Who was logged out, and a notice if the logout is incomplete. Both may be empty."""

    user: str
    notice: str


class _Signal(Enum):
    """What the queue of an EventStream contains beside events."""

    END = "end"
    WAKE = "wake"


class EventStream:
    """The events of one transfer. Closing the stream does not stop the transfer; `DaemonClient.cancel` does.

    A thread reads the events, so that Ctrl-C can be handled between two events: an exception in gRPC's own iterator
    would end the call.
    """

    def __init__(self, call: Iterator[pb.TransferEvent], to_cli_error: Callable[[grpc.RpcError], CliError]) -> None:
        self._call = call
        self._to_cli_error = to_cli_error
        self._events: queue.SimpleQueue[Started | Progress | Event | grpc.RpcError | _Signal] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for message in self._call:
                for event in events_from_pb(message):
                    self._events.put(event)
        except grpc.RpcError as error:
            self._events.put(error)
        else:
            self._events.put(_Signal.END)

    def wake(self) -> None:
        """Make `next_event` return None. Safe in a signal handler: SimpleQueue.put is reentrant."""
        self._events.put(_Signal.WAKE)

    def next_event(self, seconds: float | None) -> Started | Progress | Event | None:
        """Wait for the next event.

        Args:
            seconds: How long to wait; None waits without limit.

        Returns:
            The event; None after `wake`.

        Raises:
            StopIteration: at the end of the transfer.
            queue.Empty: on a timeout.
            CliError: if the call failed.
        """
        event = self._events.get(timeout=seconds)
        if event is _Signal.END:
            raise StopIteration
        if event is _Signal.WAKE:
            return None
        if isinstance(event, grpc.RpcError):
            raise self._to_cli_error(event) from event
        return event

    def close(self) -> None:
        """Stop reading; the transfer goes on."""
        cast("grpc.Call", self._call).cancel()


# Sends the command of a transfer. The pserver is connected and authenticated by then, which is the slow part: a Ctrl-C
# before this call aborts pclient, a Ctrl-C after it has to cancel the transfer.
StartTransfer = Callable[[], EventStream]


class DaemonClient:
    """The pserver of this pclient. It connects at the first call, and again after the pserver was restarted."""

    def __init__(
        self,
        settings: Settings,
        start: Callable[[PserverUnreachable], None],
        randomness: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """Make a client that is not connected.

        Args:
            settings: Where the pserver is.
            start: Called when no pserver answers; starts one, or raises.
            randomness: Returns random bytes, for the nonces of the proof.
        """
        self._settings = settings
        self._start = start
        self._randomness = randomness
        self._connection: Connection | None = None

    def connect(self) -> None:
        """Connect to the pserver and verify that it knows the cookie; start one if none answers and `start` can.

        Raises:
            CliError: if there is no pserver, or another program answers.
        """
        if self._connection is None:
            try:
                self._connection = connect(self._settings, self._randomness)
            except PserverUnreachable as error:
                self._connection = self._start_one(error)

    def answers(self) -> bool:
        """Return whether the pserver answers now.

        Raises:
            CliError: if another program answers.
        """
        try:
            connection = connect(self._settings, self._randomness)
        except PserverUnreachable:
            return False
        connection.channel.close()
        return True

    def _start_one(self, why: PserverUnreachable) -> Connection:
        try:
            self._start(why)
        except PserverUnreachable:
            raise
        except CliError as failure:
            # A pserver may have been started by hand at the same moment: STATE_DIR is locked then.
            with suppress(CliError):
                return connect(self._settings, self._randomness)
            raise failure from why
        return connect(self._settings, self._randomness)

    def close(self) -> None:
        """Close the connection; the pserver goes on."""
        if self._connection is not None:
            self._connection.channel.close()
            self._connection = None

    def login(self, user: str, password: str, *, register: bool = True) -> LoginResult:
        """Log the pserver in.

        Args:
            user: The user name.
            password: The password.
            register: Whether an unknown user name creates an account, if registration is open.

        Raises:
            CliError: unknown_user without `register`; login_refused; or as every call.
        """
        request = pb.LoginRequest(user=user, password=password, register=register)
        with self._calling() as (control, metadata):
            reply = control.Login(request, metadata=metadata, timeout=_TRACKER_TIMEOUT)
        return LoginResult(reply.user, reply.registered)

    def logout(self) -> LogoutResult:
        """Log the pserver out; it stops sharing."""
        with self._calling() as (control, metadata):
            reply = control.Logout(pb.LogoutRequest(), metadata=metadata, timeout=_TRACKER_TIMEOUT)
        return LogoutResult(reply.user, reply.notice)

    def change_password(self, old: str, new: str) -> str:
        """Change the password of the user who is logged in; return the user name."""
        with self._calling() as (control, metadata):
            request = pb.ChangePasswordRequest(old_password=old, new_password=new)
            return control.ChangePassword(request, metadata=metadata, timeout=_TRACKER_TIMEOUT).user

    def upload(self, paths: Sequence[str], copies: int, *, link: bool = False) -> StartTransfer:
        """Connect; return the function that starts an upload.

        Args:
            paths: Absolute paths.
            copies: How many other peers should have each file.
            link: Whether files from outside are hard-linked instead of copied.

        Raises:
            CliError: incompatible, if the pserver is too old to link; or as every call.
        """
        commands = (
            pb.UploadCommand(paths=batch, copies=copies, more=more, link=link)
            for batch, more in argument_batches(paths)
        )
        start = self._prepare(
            lambda control, metadata: control.UploadFileRequest(commands, metadata=metadata), _TRANSFER_LOST
        )
        if link and self._connection is not None and self._connection.release.newest < _LINK_PROTOCOL:
            # It would ignore the field, and copy.
            both = both_releases("the pserver", self._connection.release, "this pclient")
            raise CliError("incompatible", f"{both}: --link needs a newer pserver")
        return start

    def download(self, names: Sequence[str], output: str, *, newest: bool = False) -> StartTransfer:
        """Connect; return the function that starts a download. `output` and `newest` are as in DownloadCommand."""
        commands = (
            pb.DownloadCommand(names=batch, output=output, more=more, newest=newest)
            for batch, more in argument_batches(names)
        )
        return self._prepare(
            lambda control, metadata: control.DownloadFileRequest(commands, metadata=metadata), _TRANSFER_LOST
        )

    def remove(self, names: Sequence[str]) -> StartTransfer:
        """Connect; return the function that starts a removal of own copies."""
        commands = (pb.RemoveCommand(names=batch, more=more) for batch, more in argument_batches(names))
        return self._prepare(lambda control, metadata: control.RemoveFiles(commands, metadata=metadata), _REMOVAL_LOST)

    def cancel(self, transfer: int) -> None:
        """Cancel a transfer; verified data is kept."""
        with self._calling() as (control, metadata):
            control.CancelTransfer(
                pb.CancelTransferRequest(transfer=transfer), metadata=metadata, timeout=_CANCEL_TIMEOUT
            )

    def files(self, match: str) -> Iterator[list[ListedFile]]:
        """Yield the files in the network in pages. There is no timeout: the caller may read the pages slowly."""
        with self._calling() as (control, metadata):
            for page in control.ListFiles(pb.ListFilesRequest(match=match), metadata=metadata):
                yield [ListedFile.from_pb(item) for item in page.files]

    def peers(self) -> list[ListedPeer]:
        """Return the online peers."""
        with self._calling() as (control, metadata):
            return [
                ListedPeer.from_pb(item)
                for item in control.ListPeers(pb.ListPeersRequest(), metadata=metadata, timeout=_TRACKER_TIMEOUT).peers
            ]

    def status(self) -> Status:
        """Return the state of the pserver."""
        with self._calling() as (control, metadata):
            return Status.from_pb(control.Status(pb.StatusRequest(), metadata=metadata, timeout=_LOCAL_TIMEOUT))

    def _prepare(
        self, send: Callable[[pserver_pb2_grpc.ControlStub, Metadata], Iterator[pb.TransferEvent]], lost: str
    ) -> StartTransfer:
        with self._calling() as (control, metadata):
            return lambda: EventStream(send(control, metadata), partial(self._lost, lost))

    @contextmanager
    def _calling(self) -> Iterator[tuple[pserver_pb2_grpc.ControlStub, Metadata]]:
        """Yield the stub and the metadata of a call; translate a failed call into the error that the pserver meant."""
        if self._connection is not None:
            self._verify_again(self._connection)
        self.connect()
        if self._connection is None:
            raise PserverUnreachable("no pserver")
        try:
            yield self._connection.control, self._connection.metadata
        except grpc.RpcError as error:
            raise self._to_cli_error(error) from error

    def _verify_again(self, connection: Connection) -> None:
        """Before each call: a pserver that stopped or was restarted is connected to, or started, again."""
        try:
            connection.verify_again()
        except CliError:
            self.close()

    def _to_cli_error(self, error: grpc.RpcError) -> CliError:
        release = self._connection.release if self._connection is not None else None
        # A restarted pserver has another cookie, and with port 0 another port: read them again at the next call.
        if status_codes.status_code(error) in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED):
            self.close()
        return status_codes.to_cli_error(error, address(self._settings, self._settings.port), release)

    def _lost(self, message: str, error: grpc.RpcError) -> CliError:
        """The error of a transfer whose stream broke: a pserver that stops also ends its transfers."""
        translated = self._to_cli_error(error)
        if isinstance(translated, PserverUnreachable):
            return CliError("interrupted", message, hint=Hint.RESUME)
        return translated
