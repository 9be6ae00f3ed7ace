"""Calls to one's own pserver. The only module of the terminal that knows gRPC; foreign errors end here.

Before cookie or password go anywhere, whoever listens at the pserver's port has to prove that it knows the cookie in
STATE_DIR.
"""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import grpc

import pserver_pb2 as pb
import pserver_pb2_grpc
from common import channels, cookie, state_files
from terminal import model, wire
from terminal.errors import PserverUnreachable, TerminalError
from terminal.settings import Settings

# Seconds that the pserver may take: for what it knows itself; for what it asks the tracker (which may delay a failed
# login by a minute, and is asked again when it does not answer).
_OWN = 10.0
_ASKS_TRACKER = 90.0

_INTERNAL = "internal error; the pserver's log has more"
_LOST = "the pserver went away; what was verified is kept: start it again and run the same command to resume"


_Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True)
class _Session:
    channel: grpc.Channel
    control: pserver_pb2_grpc.ControlStub
    metadata: _Metadata


class Watch(Iterator[model.Event]):
    """The events of one transfer. Going away does not stop it: that is `NodeClient.cancel`.

    A thread of its own reads them, so that Ctrl-C can strike between two events and the rest still be had: gRPC's own
    iterator is broken by an exception from outside.
    """

    def __init__(self, call: Iterator[pb.TransferEvent], meaning: Callable[[grpc.RpcError], TerminalError]) -> None:
        self._call = call
        self._meaning = meaning
        self._events: queue.SimpleQueue[model.Event | grpc.RpcError | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for message in self._call:
                for event in wire.events(message):
                    self._events.put(event)
        except grpc.RpcError as error:
            self._events.put(error)
        else:
            self._events.put(None)

    def __next__(self) -> model.Event:
        """The next event, whenever it comes."""
        return self.next_within(None)

    def next_within(self, seconds: float | None) -> model.Event:
        """The next event; queue.Empty if none comes within `seconds`."""
        event = self._events.get(timeout=seconds)
        if event is None:
            raise StopIteration
        if isinstance(event, grpc.RpcError):
            raise self._meaning(event) from event
        return event

    def close(self) -> None:
        """Stop watching."""
        cast("grpc.Call", self._call).cancel()


class NodeClient:
    """The pserver of this terminal; connects when first needed, and again after the pserver was restarted."""

    def __init__(
        self,
        settings: Settings,
        start: Callable[[], None],
        randomness: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """`start` brings up a pserver when none answers, or says why not."""
        self._settings = settings
        self._start = start
        self._randomness = randomness
        self._session: _Session | None = None

    def connect(self) -> None:
        """Find the pserver and have it prove that it is ours; start one if none answers and we can.

        Raises:
            TerminalError: if there is none, or somebody else is there.
        """
        if self._session is None:
            try:
                self._session = self._open()
            except PserverUnreachable:
                self._start()
                self._session = self._open()

    def close(self) -> None:
        """Let go of the connection; the pserver goes on."""
        if self._session is not None:
            self._session.channel.close()
            self._session = None

    def login(self, user: str, password: str) -> model.Login:
        """Log the pserver in, registering an unknown user while the tracker allows it."""
        with self._calling() as (control, metadata):
            reply = control.Login(
                pb.LoginRequest(user=user, password=password), metadata=metadata, timeout=_ASKS_TRACKER
            )
        return model.Login(reply.user, reply.registered)

    def logout(self) -> str:
        """Leave the network; answers who was logged in, or nothing."""
        with self._calling() as (control, metadata):
            return control.Logout(pb.LogoutRequest(), metadata=metadata, timeout=_ASKS_TRACKER).user

    def change_password(self, old: str, new: str) -> str:
        """Change the password of the user who is logged in; answers who that is."""
        with self._calling() as (control, metadata):
            request = pb.ChangePasswordRequest(old_password=old, new_password=new)
            return control.ChangePassword(request, metadata=metadata, timeout=_ASKS_TRACKER).user

    def upload(self, paths: Sequence[str], copies: int) -> Watch:
        """Share and push; the events of the transfer until its end."""
        with self._calling() as (control, metadata):
            return Watch(
                control.UploadFileRequest(pb.UploadOrder(paths=paths, copies=copies), metadata=metadata), self._lost
            )

    def download(self, names: Sequence[str], output: str) -> Watch:
        """Fetch and publish; the events of the transfer until its end."""
        with self._calling() as (control, metadata):
            order = pb.DownloadOrder(names=names, output=output)
            return Watch(control.DownloadFileRequest(order, metadata=metadata), self._lost)

    def cancel(self, transfer: int) -> None:
        """Stop a transfer; what was verified is kept."""
        with self._calling() as (control, metadata):
            control.CancelTransfer(pb.CancelTransferRequest(transfer=transfer), metadata=metadata, timeout=_OWN)

    def files(self, match: str) -> Iterator[list[model.ListedFile]]:
        """What the network has, page by page."""
        with self._calling() as (control, metadata):
            for page in control.ListFiles(pb.ListFilesRequest(match=match), metadata=metadata, timeout=_ASKS_TRACKER):
                yield [wire.listed_file(item) for item in page.files]

    def peers(self) -> list[model.ListedPeer]:
        """Who is alive."""
        with self._calling() as (control, metadata):
            return [
                wire.listed_peer(item)
                for item in control.ListPeers(pb.ListPeersRequest(), metadata=metadata, timeout=_ASKS_TRACKER).peers
            ]

    def status(self) -> model.Status:
        """This peer."""
        with self._calling() as (control, metadata):
            return wire.status(control.Status(pb.StatusRequest(), metadata=metadata, timeout=_OWN))

    def remove(self, names: Sequence[str]) -> tuple[list[model.Removed], list[TerminalError]]:
        """Delete own copies; what is gone, and what failed."""
        with self._calling() as (control, metadata):
            reply = control.RemoveFiles(pb.RemoveFilesRequest(names=names), metadata=metadata, timeout=_ASKS_TRACKER)
        return [wire.removed(item) for item in reply.removed], [wire.fault(item) for item in reply.faults]

    @contextmanager
    def _calling(self) -> Iterator[tuple[pserver_pb2_grpc.ControlStub, _Metadata]]:
        """A stub, and the metadata that each call takes; turns a failed call into the error that the pserver meant."""
        self.connect()
        if self._session is None:
            raise PserverUnreachable("no pserver")
        try:
            yield self._session.control, self._session.metadata
        except grpc.RpcError as error:
            raise self._meaning(error) from error

    def _meaning(self, error: grpc.RpcError) -> TerminalError:
        # A restarted pserver has another cookie, and with port 0 another port: look again next time.
        if _status(error) in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED):
            self.close()
        return _meaning(error, self._address(self._settings.port))

    def _lost(self, error: grpc.RpcError) -> TerminalError:
        """What a transfer's broken stream means: the pserver that ends takes its transfers along."""
        meaning = self._meaning(error)
        return TerminalError("interrupted", _LOST) if isinstance(meaning, PserverUnreachable) else meaning

    def _open(self) -> _Session:
        port, secret = self._find()
        settings = self._settings
        address = self._address(port)
        target = channels.target_of_own_host(settings.host, port)
        try:
            credentials = channels.channel_credentials(settings.tls_ca)
        except (OSError, ValueError) as error:
            raise TerminalError("bad_env", f"{settings.env_pclient}: TLS_CA: {error}") from error
        options = channels.channel_options()
        if credentials is None:
            channel = grpc.insecure_channel(target, options)
        else:
            channel = grpc.secure_channel(target, credentials, options)
        control = pserver_pb2_grpc.ControlStub(channel)
        try:
            self._check(control, secret, port, address)
        except BaseException:
            channel.close()
            raise
        return _Session(channel, control, ((cookie.COOKIE_KEY, secret.hex()),))

    def _find(self) -> tuple[int, bytes]:
        state_dir = self._settings.state_dir
        try:
            return self._settings.port or state_files.read_port(state_dir), cookie.read_cookie(state_dir)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise PserverUnreachable(f"no pserver runs at {self._address(self._settings.port)}") from error
        except state_files.UnsafeFile as error:
            raise TerminalError("not_allowed", str(error)) from error
        except OSError as error:
            raise TerminalError("not_allowed", f"{error.filename}: {error.strerror}") from error

    def _check(self, control: pserver_pb2_grpc.ControlStub, secret: bytes, port: int, address: str) -> None:
        nonce = self._randomness(cookie.LENGTH)
        shown = ((cookie.CHALLENGE_KEY, cookie.challenge(secret, port, nonce)),)
        try:
            reply = control.Prove(pb.ProveRequest(nonce=nonce), metadata=shown, timeout=_OWN)
        except grpc.RpcError as error:
            if _status(error) in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED):
                raise _not_ours(address, self._settings.state_dir) from error
            raise _meaning(error, address) from error
        if not cookie.check_proof(reply.proof, secret, port, nonce):
            raise _not_ours(address, self._settings.state_dir)

    def _address(self, port: int) -> str:
        host = self._settings.host
        shown = f"[{host}]" if ":" in host else host
        return f"{shown}:{port}" if port else f"{shown} (port in {self._settings.state_dir / state_files.PORT_FILE})"


def _not_ours(address: str, state_dir: Path) -> TerminalError:
    return TerminalError(
        "not_allowed",
        f"whoever answers at {address} does not know the cookie in {state_dir}: it is not the pserver of that"
        " STATE_DIR, and was told nothing",
    )


def _status(error: grpc.RpcError) -> grpc.StatusCode:
    return cast("grpc.Call", error).code()


def _own_code(error: grpc.RpcError) -> str:
    for key, value in cast("grpc.Call", error).trailing_metadata() or ():
        if key == "p2p-code":
            return value if isinstance(value, str) else value.decode("ascii", "replace")
    return ""


def _meaning(error: grpc.RpcError, address: str) -> TerminalError:
    details = cast("grpc.Call", error).details() or ""
    if own := _own_code(error):
        return TerminalError(own, details or _INTERNAL)
    match _status(error):
        case grpc.StatusCode.UNAVAILABLE:
            return PserverUnreachable(f"no pserver answers at {address}")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return TerminalError("pserver_unreachable", f"the pserver at {address} does not answer; is it stopped?")
        case grpc.StatusCode.CANCELLED:
            return TerminalError("interrupted", "stopped; what was verified is kept: run it again to resume")
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            return TerminalError("not_allowed", f"the pserver at {address} refuses: {details}")
        case _:
            return TerminalError("internal", _INTERNAL)
