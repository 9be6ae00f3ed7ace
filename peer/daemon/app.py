"""The pserver: builds every object of one peer, starts what runs, and stops it in the opposite order.

This is the only module that knows how the parts fit together. It makes no decision about files, transfers or peers, and
no byte of a transfer passes through it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from common import channels, cookie, state_files
from daemon.commands.collect_files import Collector
from daemon.commands.download import DownloadHandler
from daemon.commands.import_files import Importer
from daemon.commands.local_content import LocalContent
from daemon.commands.remove import RemoveHandler
from daemon.commands.replicate import Replicator
from daemon.commands.resolve import Resolver
from daemon.commands.upload import UploadHandler
from daemon.errors import InUse
from daemon.library.confirmer import Confirmer
from daemon.library.file_hasher import FileHasher
from daemon.library.library import Library
from daemon.library.manifest_cache import ManifestCache
from daemon.library.offer_checker import OfferChecker
from daemon.library.scan_loop import ScanLoop
from daemon.library.scanner import Scanner
from daemon.library.steady_files import SteadyFiles
from daemon.peers import addresses
from daemon.peers.client import PeerClient
from daemon.peers.limits import ActiveStreams, KeyedLocks, MemoryBudget, RateLimiter, StreamSlots, manifest_slots
from daemon.rpc import server as rpc_server
from daemon.rpc import status
from daemon.rpc.auth import AuthInterceptor
from daemon.rpc.control_service import ControlService
from daemon.rpc.health_service import HealthService
from daemon.rpc.status import LoadReporter, StatusReporter
from daemon.rpc.transfer_service import TransferService
from daemon.runtime.concurrency import Threads
from daemon.runtime.metrics import Metrics, SentBytes
from daemon.runtime.settings import Settings
from daemon.runtime.transfers import TransferRegistry
from daemon.storage.disk import Disk
from daemon.storage.outside_copy import OutsideCopies
from daemon.storage.part_file import PartStore
from daemon.storage.run_files import present_while_running
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.temp_files import TempFiles
from daemon.tracker_client.announcer import Announcer
from daemon.tracker_client.client import TrackerClient
from daemon.tracker_client.login import Account
from daemon.tracker_client.own_address import OwnAddress
from daemon.tracker_client.ping_interval import DEFAULT_SECONDS, PingInterval
from daemon.tracker_client.session import SessionFile, TrackerClock
from daemon.transfer.batch_download import BatchDownloader
from daemon.transfer.batch_push import BatchPusher
from daemon.transfer.batch_serve import BatchReceiver, BatchServer
from daemon.transfer.batch_store import BatchStore
from daemon.transfer.file_download import FileDownloader, ManifestFetcher
from daemon.transfer.local_copy import LocalCopier
from daemon.transfer.push import Pusher
from daemon.transfer.push_receiver import PushReceiver
from daemon.transfer.replica_quota import ReplicaQuota
from daemon.transfer.served_files import ServedFiles

log = logging.getLogger(__name__)

# Seconds that running calls have to finish when the pserver stops.
_SHUTDOWN_GRACE = 1.0
# The default QUOTA is this part of the free space at start.
_QUOTA_SHARE = 10


class Pserver:
    """One peer. Public attributes are the parts that run, and the parts that tests inspect."""

    def __init__(
        self, settings: Settings, *, disk: Disk | None = None, wall_clock: Callable[[], float] = time.time
    ) -> None:
        """Build every part. This touches the disk and starts nothing.

        Args:
            settings: the env file.
            disk: the disk operations for shared and part files; None for the machine's own.
            wall_clock: returns this machine's time of day in Unix seconds.

        Raises:
            Incompatible: if a newer release wrote the state.
            PeerError: if SHARED_DIR or STATE_DIR cannot be used.
        """
        self.settings = settings
        self.port = settings.port
        self.wall_clock = wall_clock
        clock = time.monotonic
        self.threads = threads = Threads()
        self.metrics = Metrics()
        self.transfers = TransferRegistry(clock, self.metrics.count_transfer)

        # Limits.
        self.stream_slots = StreamSlots()
        self.manifest_slots = manifest_slots()
        self.active_streams = ActiveStreams()
        content_locks = KeyedLocks()
        upload_limiter = RateLimiter(settings.upload_limit, clock)
        download_limiter = RateLimiter(settings.download_limit, clock)
        sent_bytes = SentBytes(self.metrics, clock)

        # Files: shared, cached and partial.
        folder = SharedFolder(settings.shared_dir, disk)
        temp_files = TempFiles(folder)
        self.manifest_cache = cache = ManifestCache(settings.state_dir / "catalog.db", wall_clock())
        self.library = library = Library(self.manifest_cache)
        hasher = FileHasher(folder, on_hashed=self.metrics.bytes_hashed.inc)
        confirmer = Confirmer(hasher=hasher, manifest_cache=cache, library=library, clock=clock)
        self.scanner = Scanner(folder, cache, library, hasher=hasher, confirmer=confirmer, clock=wall_clock)
        self.part_store = PartStore(folder, wall_clock, settings.part_keep)
        self.served_files = ServedFiles(library, folder)
        quota = settings.quota if settings.quota is not None else folder.free_bytes() // _QUOTA_SHARE
        self.replica_quota = ReplicaQuota(self.manifest_cache, quota, threads)

        # The tracker: login, index and pings.
        verify = True if settings.tls_ca in (None, "system") else str(settings.tls_ca)
        self.tracker = TrackerClient(settings.tracker_url, threads.tracker, verify=verify)
        tracker_clock = TrackerClock(clock, wall_clock)
        load_reporter = LoadReporter(
            transfers=self.transfers,
            folder=folder,
            replica_quota=self.replica_quota,
            threads=threads,
            rate=sent_bytes.rate,
        )
        ping_interval = PingInterval(settings.ping_interval)
        self.own_address = OwnAddress(settings.announced_host)
        self.announcer = Announcer(
            tracker=self.tracker,
            library=library,
            threads=threads,
            interval=ping_interval,
            own_address=self.own_address,
            load=load_reporter.current,
            on_server_time=tracker_clock.set_time,
            on_recheck=lambda ids: self.scan_loop.recheck(ids),  # noqa: PLW0108 - the scan loop is made below
        )
        self.account = Account(
            tracker=self.tracker,
            announcer=self.announcer,
            file=SessionFile(settings.state_dir),
            threads=threads,
            clock=tracker_clock,
            own_address=self.own_address,
            ping_interval=ping_interval,
            on_logged_out=self._on_logged_out,
        )
        self.scan_loop = ScanLoop(
            scanner=self.scanner,
            confirmer=confirmer,
            threads=threads,
            interval=settings.ping_interval or DEFAULT_SECONDS,
            clock=clock,
            on_change=self.announcer.request_sync,
        )

        # Transfers that this peer starts.
        batch_store = BatchStore(folder, temp_files, library)
        copier = LocalCopier(
            folder=folder,
            served_files=self.served_files,
            temp_files=temp_files,
            outside_copies=OutsideCopies(folder.disk),
            batch_store=batch_store,
            library=library,
            disk=folder.disk,
            threads=threads,
        )
        self.peer_client = PeerClient(channels.channel_credentials(settings.tls_ca))
        file_downloader = FileDownloader(
            threads=threads,
            part_store=self.part_store,
            library=library,
            served_files=self.served_files,
            budget=MemoryBudget(),
            limiter=download_limiter,
            clock=clock,
            request_sync=self.announcer.request_sync,
            metrics=self.metrics,
        )

        # Transfers that other peers start.
        push_receiver = PushReceiver(
            folder=folder,
            library=library,
            offer_checker=OfferChecker(
                folder=folder,
                manifest_cache=self.manifest_cache,
                library=library,
                scanner=self.scanner,
                hasher=hasher,
            ),
            threads=threads,
            downloader=file_downloader,
            copier=copier,
            replica_quota=self.replica_quota,
            transfers=self.transfers,
            content_locks=content_locks,
            announce=self.announcer.try_sync,
            server_time=tracker_clock.now,
        )
        self.transfer_service = TransferService(
            served_files=self.served_files,
            push_receiver=push_receiver,
            batch_server=BatchServer(
                served_files=self.served_files,
                threads=threads,
                limiter=upload_limiter,
                check_ticket=self.account.check_ticket,
                library=library,
            ),
            batch_receiver=BatchReceiver(
                push_receiver=push_receiver,
                replica_quota=self.replica_quota,
                store=batch_store,
                threads=threads,
                check_ticket=self.account.check_ticket,
                announce=self.announcer.try_sync,
            ),
            threads=threads,
            stream_slots=self.stream_slots,
            manifest_slots=self.manifest_slots,
            active_streams=self.active_streams,
            upload_limiter=upload_limiter,
            transfers=self.transfers,
            sent_bytes=sent_bytes,
        )

        # Commands of this peer's user.
        self._downloads = DownloadHandler(
            account=self.account,
            resolver=Resolver(self.tracker, library),
            folder=folder,
            local_content=LocalContent(
                library=library,
                scanner=self.scanner,
                copier=copier,
                announce=self.announcer.try_sync,
                threads=threads,
                shared_dir=settings.shared_dir,
            ),
            tracker=self.tracker,
            manifest_fetcher=ManifestFetcher(
                tracker=self.tracker, part_store=self.part_store, peers=self.peer_client, threads=threads, clock=clock
            ),
            peers=self.peer_client,
            file_downloader=file_downloader,
            batch_downloader=BatchDownloader(
                peers=self.peer_client,
                store=batch_store,
                threads=threads,
                limiter=download_limiter,
                clock=clock,
                metrics=self.metrics,
            ),
            content_locks=content_locks,
            prioritise_local=push_receiver.prioritise_local,
            announce=self.announcer.try_sync,
            threads=threads,
            clock=clock,
        )
        self._uploads = UploadHandler(
            account=self.account,
            announcer=self.announcer,
            collector=Collector(folder=folder, state_dir=settings.state_dir),
            importer=Importer(
                folder=folder,
                temp_files=temp_files,
                library=library,
                scanner=self.scanner,
                steady_files=SteadyFiles(folder=folder, scanner=self.scanner),
            ),
            replicator=Replicator(
                tracker=self.tracker,
                served_files=self.served_files,
                pusher=Pusher(peers=self.peer_client, threads=threads, limiter=upload_limiter),
                batch_pusher=BatchPusher(
                    peers=self.peer_client, served_files=self.served_files, threads=threads, limiter=upload_limiter
                ),
                threads=threads,
            ),
            threads=threads,
        )
        self._removals = RemoveHandler(folder=folder, library=library, announcer=self.announcer, threads=threads)
        self._status = StatusReporter(
            settings=settings,
            own_address=self.own_address,
            account=self.account,
            announcer=self.announcer,
            folder=folder,
            library=library,
            scanner=self.scanner,
            replica_quota=self.replica_quota,
            transfers=self.transfers,
            threads=threads,
            ping_interval=ping_interval,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the block runs, then stop cleanly.

        Raises:
            InUse: if the port or METRICS_PORT is in use.
            DiskFull, StorageFault: if STATE_DIR cannot be written.
        """
        state_dir = self.settings.state_dir
        # What starts first stops last. Each step runs even if another one fails.
        async with AsyncExitStack() as cleanup:
            cleanup.callback(self.manifest_cache.close)
            cleanup.callback(self.threads.shutdown)
            await self.threads.run(self.threads.disk, self.part_store.clean_up, self.wall_clock())
            secret = cleanup.enter_context(
                present_while_running(state_dir / cookie.COOKIE_FILE, lambda: cookie.make_cookie(state_dir))
            )
            pserver_cookie = cookie.PserverCookie(secret, self.port)
            health = HealthService()
            server = rpc_server.build_server(
                AuthInterceptor(pserver_cookie, self.account.check_ticket),
                health,
                self._control_service(pserver_cookie),
                self.transfer_service,
            )
            listening = rpc_server.listen(server, self.settings, self.account.saved_port())
            self.port = pserver_cookie.port = self.own_address.port = listening.port
            # Before the first proof: pclient trusts no other address of its host.
            cleanup.enter_context(
                present_while_running(
                    state_dir / state_files.ADDRESSES_FILE,
                    lambda: state_files.write_addresses(state_dir, listening.addresses),
                )
            )
            cleanup.push_async_callback(self.threads.run, self.threads.disk, self._serve_metrics())
            await self.scan_loop.initial_scan()
            # The scan finds the part files in the folder's other volumes.
            await self.replica_quota.load(await self.threads.run(self.threads.disk, self.part_store.part_ids))
            await self.threads.run(self.threads.disk, self.manifest_cache.prune)
            stop_serving = await cleanup.enter_async_context(rpc_server.serving(server, _SHUTDOWN_GRACE))
            addresses.set_notsent_lowat(self.port)
            cleanup.enter_context(
                present_while_running(
                    state_dir / state_files.PORT_FILE, lambda: state_files.write_port(state_dir, self.port)
                )
            )
            cleanup.push_async_callback(self.peer_client.close)
            cleanup.push_async_callback(self.transfers.cancel_all)
            cleanup.push_async_callback(self.account.deregister)
            cleanup.push_async_callback(self.scan_loop.stop)
            self.scan_loop.start()
            self.account.resume()
            # The grace of running calls starts here, while the other parts stop.
            cleanup.callback(stop_serving.set)
            cleanup.push_async_callback(health.stop_serving)
            yield

    def _control_service(self, pserver_cookie: cookie.PserverCookie) -> ControlService:
        return ControlService(
            account=self.account,
            tracker=self.tracker,
            transfers=self.transfers,
            downloads=self._downloads,
            uploads=self._uploads,
            removals=self._removals,
            status_reporter=self._status,
            proof=pserver_cookie.make_proof,
        )

    def _serve_metrics(self) -> Callable[[], None]:
        """Serve metrics if METRICS_PORT is set; return the function that stops that.

        Raises:
            InUse: if the port cannot be used.
        """
        port = self.settings.metrics_port
        if port is None:
            return lambda: None
        status.register_gauges(
            self.metrics, library=self.library, slots=self.stream_slots, account=self.account, announcer=self.announcer
        )
        try:
            bound_port, stop = self.metrics.serve(port)
        except OSError as error:
            raise InUse(f"METRICS_PORT {port} cannot be used: {error.strerror}") from error
        log.info("metrics at http://127.0.0.1:%d/metrics", bound_port)
        return stop

    async def _on_logged_out(self) -> None:
        """Close the streams that this peer serves and cancel its transfers: both need a login."""
        await self.active_streams.close_all()
        await self.transfers.cancel_all()
