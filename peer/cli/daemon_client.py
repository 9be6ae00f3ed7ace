"""What the pserver can do for its terminal, in the terminal's own values. Nobody above has heard of gRPC."""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from functools import partial
from typing import cast

import grpc

import pserver_pb2 as pb
import pserver_pb2_grpc
from cli import messages, models, status_codes
from cli.connection import Connection, Metadata, address, connect
from cli.errors import CliError, PserverUnreachable
from cli.settings import Settings

# Seconds that the pserver may take: to stop a transfer, while a person waits; for what it knows itself; for what it
# asks the tracker (which may delay a failed login by a minute, and is asked again when it does not answer).
_CANCELS = 5.0
_OWN = 10.0
_ASKS_TRACKER = 90.0

_LOST = "the pserver went away; what was verified is kept: start it again and run the same command to resume"
_LEFT = "the pserver went away; what it removed is gone: start it again and run the same command for the rest"


class _Mark(Enum):
    """What is in the queue of a Watch beside events."""

    END = "end"
    WAKE = "wake"


class EventStream:
    """The events of one transfer. Going away does not stop it: that is `NodeClient.cancel`.

    A thread of its own reads them, so that Ctrl-C can be heard between two events and the rest still be had: gRPC's own
    iterator is broken by an exception from outside.
    """

    def __init__(self, call: Iterator[pb.TransferEvent], meaning: Callable[[grpc.RpcError], CliError]) -> None:
        self._call = call
        self._meaning = meaning
        self._events: queue.SimpleQueue[models.Event | grpc.RpcError | _Mark] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for message in self._call:
                for event in messages.events(message):
                    self._events.put(event)
        except grpc.RpcError as error:
            self._events.put(error)
        else:
            self._events.put(_Mark.END)

    def wake(self) -> None:
        """Have whoever waits for an event look up. For a signal's handler, too: a SimpleQueue allows it."""
        self._events.put(_Mark.WAKE)

    def next_event(self, seconds: float | None) -> models.Event | None:
        """The next event, None after a `wake`; StopIteration at the end, queue.Empty if none comes within `seconds`."""
        event = self._events.get(timeout=seconds)
        if event is _Mark.END:
            raise StopIteration
        if event is _Mark.WAKE:
            return None
        if isinstance(event, grpc.RpcError):
            raise self._meaning(event) from event
        return event

    def close(self) -> None:
        """Stop watching."""
        cast("grpc.Call", self._call).cancel()


# Sends the order of a transfer. Whoever has one has a pserver that proved itself, or was started: what may take long is
# over, and a Ctrl-C in it ended all, as nothing was ordered. One that comes now has to stop the transfer.
StartTransfer = Callable[[], EventStream]


class DaemonClient:
    """The pserver of this terminal; connects when first needed, and again after the pserver was restarted."""

    def __init__(
        self,
        settings: Settings,
        start: Callable[[PserverUnreachable], None],
        randomness: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """`start` brings up a pserver when none answers, or raises why not."""
        self._settings = settings
        self._start = start
        self._randomness = randomness
        self._connection: Connection | None = None

    def connect(self) -> None:
        """Find the pserver and have it prove that it is ours; start one if none answers and we can.

        Raises:
            TerminalError: if there is none, or somebody else is there.
        """
        if self._connection is None:
            try:
                self._connection = connect(self._settings, self._randomness)
            except PserverUnreachable as error:
                self._connection = self._start_one(error)

    def _start_one(self, why: PserverUnreachable) -> Connection:
        try:
            self._start(why)
        except PserverUnreachable:
            raise
        except CliError as failure:
            # Another terminal may have started one at the same moment: its STATE_DIR is locked then.
            with suppress(CliError):
                return connect(self._settings, self._randomness)
            raise failure from why
        return connect(self._settings, self._randomness)

    def close(self) -> None:
        """Let go of the connection; the pserver goes on."""
        if self._connection is not None:
            self._connection.channel.close()
            self._connection = None

    def login(self, user: str, password: str) -> models.Login:
        """Log the pserver in, registering an unknown user while the tracker allows it."""
        with self._calling() as (control, metadata):
            reply = control.Login(
                pb.LoginRequest(user=user, password=password), metadata=metadata, timeout=_ASKS_TRACKER
            )
        return models.Login(reply.user, reply.registered)

    def logout(self) -> tuple[str, str]:
        """Leave the network; answers who was logged in, and what of it could not be done, or nothing of either."""
        with self._calling() as (control, metadata):
            reply = control.Logout(pb.LogoutRequest(), metadata=metadata, timeout=_ASKS_TRACKER)
        return reply.user, reply.notice

    def change_password(self, old: str, new: str) -> str:
        """Change the password of the user who is logged in; answers who that is."""
        with self._calling() as (control, metadata):
            request = pb.ChangePasswordRequest(old_password=old, new_password=new)
            return control.ChangePassword(request, metadata=metadata, timeout=_ASKS_TRACKER).user

    def upload(self, paths: Sequence[str], copies: int) -> StartTransfer:
        """Share and push; the events of the transfer until its end."""
        order = (pb.UploadCommand(paths=part, copies=copies, more=more) for part, more in messages.parts(paths))
        return self._ready(lambda control, metadata: control.UploadFileRequest(order, metadata=metadata), _LOST)

    def download(self, names: Sequence[str], output: str) -> StartTransfer:
        """Fetch and publish; the events of the transfer until its end."""
        order = (pb.DownloadCommand(names=part, output=output, more=more) for part, more in messages.parts(names))
        return self._ready(lambda control, metadata: control.DownloadFileRequest(order, metadata=metadata), _LOST)

    def remove(self, names: Sequence[str]) -> StartTransfer:
        """Delete own copies; the events of the transfer, as which that is told, until its end."""
        order = (pb.RemoveCommand(names=part, more=more) for part, more in messages.parts(names))
        return self._ready(lambda control, metadata: control.RemoveFiles(order, metadata=metadata), _LEFT)

    def cancel(self, transfer: int) -> None:
        """Stop a transfer; what was verified is kept."""
        with self._calling() as (control, metadata):
            control.CancelTransfer(pb.CancelTransferRequest(transfer=transfer), metadata=metadata, timeout=_CANCELS)

    def files(self, match: str) -> Iterator[list[models.ListedFile]]:
        """What the network has, page by page; no deadline, for whoever reads the pages may take time."""
        with self._calling() as (control, metadata):
            for page in control.ListFiles(pb.ListFilesRequest(match=match), metadata=metadata):
                yield [messages.listed_file(item) for item in page.files]

    def peers(self) -> list[models.ListedPeer]:
        """Who is alive."""
        with self._calling() as (control, metadata):
            return [
                messages.listed_peer(item)
                for item in control.ListPeers(pb.ListPeersRequest(), metadata=metadata, timeout=_ASKS_TRACKER).peers
            ]

    def status(self) -> models.Status:
        """This peer."""
        with self._calling() as (control, metadata):
            return messages.status(control.Status(pb.StatusRequest(), metadata=metadata, timeout=_OWN))

    def _ready(
        self, order: Callable[[pserver_pb2_grpc.ControlStub, Metadata], Iterator[pb.TransferEvent]], lost: str
    ) -> StartTransfer:
        with self._calling() as (control, metadata):
            return lambda: EventStream(order(control, metadata), partial(self._lost, lost))

    @contextmanager
    def _calling(self) -> Iterator[tuple[pserver_pb2_grpc.ControlStub, Metadata]]:
        """A stub, and the metadata that each call takes; turns a failed call into the error that the pserver meant."""
        if self._connection is not None:
            self._check_again(self._connection)
        self.connect()
        if self._connection is None:
            raise PserverUnreachable("no pserver")
        try:
            yield self._connection.control, self._connection.metadata
        except grpc.RpcError as error:
            raise self._meaning(error) from error

    def _check_again(self, connection: Connection) -> None:
        """Before it is told anything more; one that ended or was restarted is found, or started, anew."""
        try:
            connection.prove_again()
        except CliError:
            self.close()

    def _meaning(self, error: grpc.RpcError) -> CliError:
        # A restarted pserver has another cookie, and with port 0 another port: look again next time.
        if status_codes.status_code(error) in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED):
            self.close()
        return status_codes.to_cli_error(error, address(self._settings, self._settings.port))

    def _lost(self, message: str, error: grpc.RpcError) -> CliError:
        """What a transfer's broken stream means: the pserver that ends takes its transfers along."""
        meaning = self._meaning(error)
        return CliError("interrupted", message) if isinstance(meaning, PserverUnreachable) else meaning
