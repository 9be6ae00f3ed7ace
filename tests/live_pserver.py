"""The real pserver on a real port, in a thread of the test process."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc

import ticket_signer
from daemon.app import Pserver
from daemon.runtime.settings import Settings
from daemon.storage.disk import Disk
from daemon.storage.manifest import Manifest
from live_tracker import LiveTracker
from pserver_pb2_grpc import ControlStub, TransferStub
from ticket_signer import READ

T = TypeVar("T")
OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", 8 << 20),
    ("grpc.use_local_subchannel_pool", 1),
]
CALL_TIMEOUT = 20.0


def settings_for(home: Path, tracker_port: int, **changes: Any) -> Settings:
    """Return settings of a peer whose folders are in `home`; `changes` replace single settings."""
    values: dict[str, Any] = {
        "announced_host": "127.0.0.1",
        "listen_host": "127.0.0.1",
        "port": 0,
        "tracker_url": f"http://127.0.0.1:{tracker_port}",
        "shared_dir": home / "shared",
        "state_dir": home / "state",
        "quota": 1 << 30,
        "upload_limit": None,
        "download_limit": None,
        "ping_interval": 0.5,
        "part_keep": 7 * 24 * 3600.0,
        "metrics_port": None,
        "log_format": "text",
        "tls_cert": None,
        "tls_key": None,
        "tls_ca": None,
    }
    return Settings(**{**values, **changes})


@dataclass(frozen=True)
class LivePserver:
    """A running pserver: its address for clients, and its parts for white-box tests."""

    pserver: Pserver
    loop: asyncio.AbstractEventLoop
    home: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.pserver.port}"

    @property
    def shared(self) -> Path:
        return self.home / "shared"

    @property
    def cookie(self) -> tuple[tuple[str, str], ...]:
        """Metadata that authenticates a call of Control."""
        return (("p2p-cookie", (self.home / "state" / "cookie").read_text().strip()),)

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the pserver's event loop and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(CALL_TIMEOUT)

    def login(self, user: str, password: str = "correct horse") -> None:
        """Log in at the tracker; registers an unknown user."""
        self.call(self.pserver.account.login(user, password))

    def session(self) -> dict[str, Any]:
        """Return the session file's content."""
        found: dict[str, Any] = json.loads((self.home / "state" / "session").read_text())
        return found

    def ticket(self, id_: str, right: int = READ, **changes: Any) -> tuple[tuple[str, str], ...]:
        """Return metadata with a valid ticket for this holder; `changes` replace single fields."""
        session = self.session()
        now = self.pserver.account.clock.now()
        words = {"holder": session["peer_id"], "issued": now, "expires": now + 300, **changes}
        content = ticket_signer.payload(id_=id_, right=right, **words)
        return (("p2p-ticket", ticket_signer.sign(bytes.fromhex(session["ticket_key"]), content)),)

    def share(self, name: str, content: bytes) -> Manifest:
        """Write a file into the shared folder and index it.

        Raises:
            Exception: the fault, if the file cannot be shared.
        """
        path = self.shared / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        held = self.pserver.scanner.index_files([name])[0]
        if isinstance(held, Exception):
            raise held
        return self.pserver.library.manifest(held.id)

    @contextmanager
    def channel(self) -> Iterator[Any]:
        """Open a connection of its own."""
        with grpc.insecure_channel(self.address, OPTIONS) as channel:
            yield channel

    @contextmanager
    def control(self) -> Iterator[ControlStub]:
        """Open a Control stub without credentials."""
        with self.channel() as channel:
            yield ControlStub(channel)

    @contextmanager
    def transfer(self) -> Iterator[TransferStub]:
        """Open a Transfer stub without credentials."""
        with self.channel() as channel:
            yield TransferStub(channel)


@contextmanager
def live_pserver(
    home: Path,
    tracker: LiveTracker | int,
    user: str = "",
    *,
    disk: Disk | None = None,
    wall_clock: Callable[[], float] = time.time,
    **changes: Any,
) -> Iterator[LivePserver]:
    """Run a pserver for the length of the block, logged in as `user` unless that is empty.

    Args:
        tracker: the tracker, or its port.
        wall_clock: returns Unix seconds.
        changes: settings that differ from `settings_for`.
    """
    if isinstance(tracker, LiveTracker):
        changes = {"tracker_url": tracker.url, **changes}
    settings = settings_for(home, tracker if isinstance(tracker, int) else tracker.port, **changes)
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    started: Future[LivePserver] = Future()
    stop: list[asyncio.Event] = []

    async def run() -> None:
        stop.append(asyncio.Event())
        pserver = Pserver(settings, disk=disk, wall_clock=wall_clock)
        async with pserver.running():
            started.set_result(LivePserver(pserver, asyncio.get_running_loop(), home))
            await stop[0].wait()

    def in_thread() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=in_thread, name=f"live-pserver-{home.name}", daemon=True)
    thread.start()
    live = started.result(timeout=20)
    try:
        if user:
            live.login(user)
        yield live
    finally:
        live.loop.call_soon_threadsafe(stop[0].set)
        thread.join(timeout=20)


def code_of(error: Any) -> tuple[grpc.StatusCode, str]:
    """Return gRPC status and p2p-code of a failed call."""
    return error.code(), str(dict(error.trailing_metadata() or ()).get("p2p-code", ""))
