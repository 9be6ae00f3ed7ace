"""The pserver put together, started and stopped. The only module that knows all others; decides nothing."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
from grpc_health.v1 import health

from common import channels, cookie, state_files
from common.env_file import EnvFault
from node import rpc_server, sockets
from node.account import Account, TrackerClock
from node.announcer import Announcer
from node.catalog import Catalog
from node.control import ControlService
from node.delivery import Delivery
from node.disk import Disk
from node.downloads import Downloads
from node.fetch import Fetcher
from node.guard import Guard, require_own_machine
from node.jobs import Jobs
from node.library import Library
from node.limits import Bandwidth, Budget, Locks, OpenStreams, Slots
from node.local_copy import LocalCopier
from node.manifests import Manifests
from node.metrics import Metrics
from node.network import Network
from node.parts import PartStore
from node.peer_client import MESSAGE_MAX, WINDOWS, Peers
from node.push import Pusher
from node.rate import Rate
from node.receiver import Keeping, Receiver
from node.removal import Removal
from node.rescan import Rescan
from node.resolve import Resolver
from node.retrieval import Retrieval
from node.scanner import Scanner
from node.session import SessionFile
from node.settings import Settings, url_host
from node.shared_folder import SharedFolder
from node.sharing import Sharing
from node.small_fetch import SmallFetcher
from node.small_push import SmallPusher
from node.small_serve import SmallReceiver, SmallServer
from node.small_store import SmallStore
from node.spreading import Spreader
from node.status import OwnLoad, Status
from node.take_in import TakeIn
from node.temporaries import Temporaries
from node.threads import Threads
from node.tracker_client import TrackerClient
from node.transfer import TransferService
from node.uploads import Uploads

log = logging.getLogger(__name__)

# At a clean end calls under way have this long, then the process ends whatever its threads do.
_GRACE = 1.0
_END = 3.0
# Streams of one connection; refused beyond, by gRPC itself.
_STREAMS_PER_CONNECTION = 100


class Pserver:
    """One peer's daemon."""

    def __init__(
        self, settings: Settings, *, disk: Disk | None = None, calendar: Callable[[], float] = time.time
    ) -> None:
        """Put everything together; touches the disk, starts nothing.

        `disk` is how shared and unfinished files are touched, `calendar` this machine's time of day in Unix seconds.

        Raises:
            PeerError: if the folders cannot be used.
        """
        self.settings = settings
        self.port = settings.port
        clock = time.monotonic
        self.threads = Threads()
        self.metrics = Metrics()
        self.jobs = Jobs(clock, self.metrics.ended)
        self.calendar = calendar
        self.folder = SharedFolder(settings.shared_dir, disk)
        self.catalog = Catalog(settings.state_dir / "catalog.db", calendar())
        self.library = Library(self.catalog)
        self.scanner = Scanner(self.folder, self.catalog, self.library, clock=calendar)
        self.parts = PartStore(self.folder)
        temporaries = Temporaries(self.folder)
        quota = settings.quota if settings.quota is not None else self.folder.free_bytes() // 10
        self.keeping = Keeping(self.catalog, quota)
        self.sharing = Sharing(self.library, self.folder)
        self.sent = Rate(clock)
        self.slots = Slots()
        upload_bandwidth = Bandwidth(settings.upload_limit, clock)
        download_bandwidth = Bandwidth(settings.download_limit, clock)
        locks = Locks()
        self.streams = OpenStreams()

        verify = True if settings.tls_ca in (None, "system") else str(settings.tls_ca)
        tracker = TrackerClient(settings.tracker_url, verify=verify)
        self.peers = Peers(channels.channel_credentials(settings.tls_ca))
        network = Network(tracker, self.threads)
        tracker_clock = TrackerClock(clock, calendar)
        self.account = Account(
            tracker=tracker,
            file=SessionFile(settings.state_dir),
            threads=self.threads,
            clock=tracker_clock,
            url=self._url,
            on_logged_out=self._logged_out,
        )
        load = OwnLoad(jobs=self.jobs, folder=self.folder, keeping=self.keeping, rate=self.sent.now)
        self.announcer = Announcer(
            tracker=tracker,
            library=self.library,
            threads=self.threads,
            interval=settings.ping_interval,
            load=load.now,
            on_server_time=self.account.learn_time,
            on_session_lost=self.account.lost,
            on_recheck=self._recheck,
        )
        self.account.announcer = self.announcer
        self.rescan = Rescan(
            scanner=self.scanner,
            threads=self.threads,
            interval=settings.ping_interval,
            clock=clock,
            announce_soon=self.announcer.soon,
        )
        fetcher = Fetcher(
            threads=self.threads,
            parts=self.parts,
            library=self.library,
            sharing=self.sharing,
            budget=Budget(),
            bandwidth=download_bandwidth,
            clock=clock,
            announce_soon=self.announcer.soon,
            metrics=self.metrics,
        )
        store = SmallStore(self.folder, temporaries, self.library)
        receiver = Receiver(
            library=self.library,
            scanner=self.scanner,
            threads=self.threads,
            fetcher=fetcher,
            keeping=self.keeping,
            jobs=self.jobs,
            locks=locks,
            announce=self.announcer.try_sync,
        )
        self.transfer_service = TransferService(
            sharing=self.sharing,
            receiver=receiver,
            small_server=SmallServer(
                sharing=self.sharing,
                threads=self.threads,
                bandwidth=upload_bandwidth,
                check_ticket=self.account.check_ticket,
                library=self.library,
            ),
            small_receiver=SmallReceiver(
                receiver=receiver,
                keeping=self.keeping,
                store=store,
                threads=self.threads,
                check_ticket=self.account.check_ticket,
                announce=self.announcer.try_sync,
            ),
            threads=self.threads,
            slots=self.slots,
            streams=self.streams,
            bandwidth=upload_bandwidth,
            jobs=self.jobs,
            on_sent=self._sent,
        )
        delivery = Delivery(
            library=self.library,
            scanner=self.scanner,
            copier=LocalCopier(
                sharing=self.sharing,
                temporaries=temporaries,
                library=self.library,
                disk=self.folder.disk,
                threads=self.threads,
            ),
            announce=self.announcer.try_sync,
            threads=self.threads,
            shared_dir=settings.shared_dir,
        )
        self.downloads = Downloads(
            account=self.account,
            resolver=Resolver(network, self.library),
            delivery=delivery,
            retrieval=Retrieval(
                network=network,
                manifests=Manifests(
                    network=network, parts=self.parts, peers=self.peers, threads=self.threads, clock=clock
                ),
                peers=self.peers,
                fetcher=fetcher,
                small_fetcher=SmallFetcher(
                    peers=self.peers,
                    store=store,
                    threads=self.threads,
                    bandwidth=download_bandwidth,
                    clock=clock,
                    metrics=self.metrics,
                ),
                locks=locks,
                give_way=receiver.give_way,
                announce=self.announcer.try_sync,
                delivery=delivery,
            ),
            clock=clock,
        )
        self.uploads = Uploads(
            account=self.account,
            announcer=self.announcer,
            take_in=TakeIn(
                folder=self.folder,
                temporaries=temporaries,
                library=self.library,
                scanner=self.scanner,
                state_dir=settings.state_dir,
            ),
            spreader=Spreader(
                network=network,
                sharing=self.sharing,
                pusher=Pusher(peers=self.peers, threads=self.threads, bandwidth=upload_bandwidth),
                small_pusher=SmallPusher(
                    peers=self.peers, sharing=self.sharing, threads=self.threads, bandwidth=upload_bandwidth
                ),
                threads=self.threads,
            ),
            threads=self.threads,
        )
        self.network = network

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve for the length of the block; leaves cleanly.

        Raises:
            EnvFault: if it cannot listen where it should.
        """
        state_dir = self.settings.state_dir
        await self.threads.run(self.threads.disk, self.parts.clean, self.calendar())
        secret = cookie.make_cookie(state_dir)
        server, health_service = self._make_server(secret)
        stop_metrics = self._serve_metrics()
        await self.rescan.first()
        await self.threads.run(self.threads.disk, self.catalog.prune)
        await server.start()
        sockets.shorten_queues(self.port)
        state_files.write_port(state_dir, self.port)
        self.rescan.start()
        self.account.resume()
        try:
            yield
        finally:
            await health_service.enter_graceful_shutdown()
            stopping = asyncio.create_task(server.stop(_GRACE))
            await self.rescan.stop()
            await self.account.leave()
            await self.jobs.cancel_all()
            await self.peers.close()
            await stopping
            await self.threads.run(self.threads.disk, stop_metrics)
            cookie.remove_cookie(state_dir)
            state_files.remove(state_dir / state_files.PORT_FILE)
            self.threads.shutdown()
            self.catalog.close()

    def _make_server(self, secret: bytes) -> tuple[grpc.aio.Server, health.aio.HealthServicer]:
        settings = self.settings
        guard = Guard(secret, lambda: self.port, self.account.check_ticket)
        options = [
            *channels.server_options(MESSAGE_MAX),
            *WINDOWS,
            ("grpc.max_concurrent_streams", _STREAMS_PER_CONNECTION),
        ]
        server = grpc.aio.server(interceptors=[guard], options=options)
        control = ControlService(
            account=self.account,
            network=self.network,
            jobs=self.jobs,
            downloads=self.downloads,
            uploads=self.uploads,
            removal=Removal(folder=self.folder, library=self.library, announcer=self.announcer, threads=self.threads),
            own_status=Status(
                settings=settings,
                url=self._url,
                account=self.account,
                announcer=self.announcer,
                library=self.library,
                scanner=self.scanner,
                keeping=self.keeping,
                jobs=self.jobs,
                threads=self.threads,
            ),
            proof=lambda nonce: cookie.proof(secret, self.port, nonce),
        )
        health_service = health.aio.HealthServicer()
        server.add_generic_rpc_handlers(
            (
                rpc_server.health_handler(health_service),
                rpc_server.handler("Control", control, require_own_machine),
                rpc_server.handler("Transfer", self.transfer_service),
            )
        )
        # With any port, first the one under which the tracker knows this peer.
        last = self.account.last_port() if settings.port == 0 else 0
        self.port = (last and _bind(server, settings, last)) or _bind(server, settings, settings.port)
        if not self.port:
            address = f"{url_host(settings.listen_host)}:{settings.port}"
            raise EnvFault(f"cannot listen on {address}: is another program there, or the address not this machine's?")
        return server, health_service

    def _sent(self, size: int) -> None:
        self.sent.add(size)
        self.metrics.bytes_sent.inc(size)

    def _serve_metrics(self) -> Callable[[], None]:
        """Answer scrapes if the operator wants it; return what ends that."""
        port = self.settings.metrics_port
        if port is None:
            return lambda: None
        self.metrics.gauge("p2p_shared_files", "Whole files that this peer shares", lambda: self.library.files)
        self.metrics.gauge("p2p_shared_bytes", "Their bytes", lambda: self.library.bytes)
        self.metrics.gauge("p2p_streams", "Streams served now", lambda: self.slots.taken)
        self.metrics.gauge(
            "p2p_logged_in", "1 while somebody is logged in", lambda: float(self.account.user is not None)
        )
        self.metrics.gauge(
            "p2p_tracker_reached", "1 while the tracker answers", lambda: float(not self.announcer.fault)
        )
        try:
            listening, stop = self.metrics.serve(port)
        except OSError as error:
            raise EnvFault(f"METRICS_PORT {port} cannot be used: {error.strerror}") from error
        log.info("metrics at http://127.0.0.1:%d/metrics", listening)
        return stop

    def _recheck(self, ids: Sequence[str]) -> None:
        self.rescan.recheck(ids)

    def _url(self) -> str:
        return f"{url_host(self.settings.announced_host)}:{self.port}"

    async def _logged_out(self) -> None:
        """Nobody is logged in any more: nothing is fetched or served, streams under way end."""
        await self.streams.end_all()
        await self.jobs.cancel_all()


def _bind(server: grpc.aio.Server, settings: Settings, port: int) -> int:
    """Have a server listen; return the port, 0 if it cannot."""
    address = f"{url_host(settings.listen_host)}:{port}"
    try:
        if settings.tls_cert is not None and settings.tls_key is not None:
            credentials = channels.server_credentials(settings.tls_cert, settings.tls_key)
            return server.add_secure_port(address, credentials)
        return server.add_insecure_port(address)
    except RuntimeError:
        return 0


@asynccontextmanager
async def _signals() -> AsyncIterator[asyncio.Event]:
    """Give an event that is set by SIGTERM and Ctrl-C. The second one ends the process at once."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def ask() -> None:
        if asked.is_set():
            os._exit(1)
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask)
    yield asked


async def serve(settings: Settings, disk: Disk | None = None) -> None:
    """Serve until a signal comes, then leave within 4 seconds and end the process with status 0.

    Raises:
        EnvFault: if it cannot listen where it should.
        PeerError: if the folders cannot be used.
    """
    async with AsyncExitStack() as stack:
        asked = await stack.enter_async_context(_signals())
        pserver = Pserver(settings, disk=disk)
        await stack.enter_async_context(pserver.running())
        ready = {"host": settings.listen_host, "port": pserver.port, "pid": os.getpid()}
        print(f"READY {json.dumps(ready)}", flush=True)  # noqa: T201  # the contract with whoever started us
        if settings.tls_cert is None and not _is_loopback(settings.listen_host):
            log.warning(
                "listening on %s without TLS: whoever is on the way can read what is transferred (README, Security)",
                settings.listen_host,
            )
        await asked.wait()
        # A thread that is stuck would keep the process; whatever is not done by then is not waited for.
        loop = asyncio.get_running_loop()
        loop.call_later(_END, os._exit, 0)
    logging.shutdown()
    os._exit(0)


def lock_state_dir(settings: Settings) -> int:
    """Make STATE_DIR, with mode 0700, and lock it for this process; return the descriptor that holds the lock.

    Raises:
        EnvFault: if another process has it, or it cannot be made.
    """
    state_dir = settings.state_dir
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        state_dir.chmod(0o700)
        fd = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise EnvFault(f"STATE_DIR {state_dir} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise EnvFault(
            f"another pserver is running on STATE_DIR {state_dir}: stop it, or choose another folder"
        ) from None
    return fd


def _is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")
