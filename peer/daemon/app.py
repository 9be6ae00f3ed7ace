"""One peer's daemon, started and stopped in order."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

from common import cookie, state_files
from daemon.assembly.ground import Bounds, Ground
from daemon.assembly.holdings import Holdings
from daemon.assembly.membership import Membership
from daemon.assembly.moving import Moving
from daemon.assembly.orders import Orders
from daemon.errors import InUse, PeerError
from daemon.peers import socket_options
from daemon.rpc import server as rpc_server
from daemon.rpc import status
from daemon.rpc.auth import AuthInterceptor
from daemon.rpc.health_service import HealthService
from daemon.runtime.settings import Settings, bracketed_host
from daemon.storage.disk import Disk, storage_faults

log = logging.getLogger(__name__)

# At a clean end calls under way have this many seconds.
_SHUTDOWN_GRACE = 1.0

T = TypeVar("T")


class Pserver:
    """The daemon. Its attributes are what it runs, and what a test looks at."""

    def __init__(
        self, settings: Settings, *, disk: Disk | None = None, wall_clock: Callable[[], float] = time.time
    ) -> None:
        """Put everything together; touches the disk, starts nothing.

        `disk` is how shared and unfinished files are touched, `calendar` this machine's time of day in Unix seconds.

        Raises:
            PeerError: if the folders cannot be used.
        """
        self.settings = settings
        self.port = settings.port
        ground = Ground(settings, wall_clock)
        self.wall_clock, self.threads, self.metrics, self.transfers = (
            wall_clock,
            ground.threads,
            ground.metrics,
            ground.jobs,
        )
        bounds = Bounds(ground)
        self.stream_slots, self.manifest_slots = bounds.slots, bounds.manifest_slots
        holdings = Holdings(ground, disk)
        self.manifest_cache, self.library, self.scanner = holdings.catalog, holdings.library, holdings.scanner
        self.part_store, self.replica_quota, self.sources = holdings.parts, holdings.keeping, holdings.sharing
        membership = Membership(ground, bounds, holdings, self.address)
        self.account, self.announcer, self.tracker = membership.account, membership.announcer, membership.network
        self.scan_loop, self.health_probe = membership.rescan, membership.lookout
        moving = Moving(ground, bounds, holdings, membership)
        self.peer_client, self.transfer_service = moving.peers, moving.transfer_service
        self._orders = Orders(ground, bounds, holdings, membership, moving, self.address)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve for the length of the block; leaves cleanly.

        Raises:
            InUse: if it cannot listen where it should.
            DiskFull, StorageFault: if STATE_DIR cannot be written to.
        """
        state_dir = self.settings.state_dir
        # What was begun is ended in the opposite order, each step whatever becomes of the others.
        async with AsyncExitStack() as ending:
            ending.callback(self.manifest_cache.close)
            ending.callback(self.threads.shutdown)
            unfinished = await self.threads.run(self.threads.disk, self.part_store.clean_up, self.wall_clock())
            await self.replica_quota.load(unfinished)
            secret = ending.enter_context(
                private_file_present(state_dir / cookie.COOKIE_FILE, lambda: cookie.make_cookie(state_dir))
            )
            health = HealthService()
            server = rpc_server.build_server(
                AuthInterceptor(secret, lambda: self.port, self.account.check_ticket),
                health,
                self._orders.control(lambda nonce: cookie.make_proof(secret, self.port, nonce)),
                self.transfer_service,
            )
            self.port = rpc_server.listen(server, self.settings, self.account.saved_port())
            ending.push_async_callback(self.threads.run, self.threads.disk, self._serve_metrics())
            await self.scan_loop.initial_scan()
            await self.threads.run(self.threads.disk, self.manifest_cache.prune)
            over = await ending.enter_async_context(rpc_server.serving(server, _SHUTDOWN_GRACE))
            socket_options.set_notsent_lowat(self.port)
            ending.enter_context(
                private_file_present(
                    state_dir / state_files.PORT_FILE, lambda: state_files.write_port(state_dir, self.port)
                )
            )
            ending.push_async_callback(self.peer_client.close)
            ending.push_async_callback(self.transfers.cancel_all)
            ending.push_async_callback(self.account.deregister)
            ending.push_async_callback(self.scan_loop.stop)
            self.scan_loop.start()
            self.account.resume()
            ending.push_async_callback(self.health_probe.stop)
            self.health_probe.start()
            # Calls under way have their grace while all that is ended.
            ending.callback(over.set)
            ending.push_async_callback(health.stop_serving)
            yield

    def _serve_metrics(self) -> Callable[[], None]:
        """Answer scrapes if the operator wants it; return what ends that."""
        port = self.settings.metrics_port
        if port is None:
            return lambda: None
        status.register_gauges(
            self.metrics, library=self.library, slots=self.stream_slots, account=self.account, announcer=self.announcer
        )
        try:
            listening_at, stop = self.metrics.serve(port)
        except OSError as error:
            raise InUse(f"METRICS_PORT {port} cannot be used: {error.strerror}") from error
        log.info("metrics at http://127.0.0.1:%d/metrics", listening_at)
        return stop

    def address(self) -> str:
        return f"{bracketed_host(self.settings.announced_host)}:{self.port}"


@contextmanager
def private_file_present(path: Path, write: Callable[[], T]) -> Iterator[T]:
    """Have what `write` writes lie at `path` for the length of the block; give what it returns.

    What cannot be removed is logged: the next start replaces it.

    Raises:
        DiskFull, StorageFault: if it cannot be written.
    """
    with storage_faults(f"writing {path}"):
        written = write()
    try:
        yield written
    finally:
        try:
            with storage_faults(f"removing {path}"):
                state_files.remove(path)
        except PeerError as error:
            log.warning("%s", error)
