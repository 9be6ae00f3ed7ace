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
from daemon.rpc.auth import Guard
from daemon.rpc.health_service import Health
from daemon.runtime.settings import Settings, url_host
from daemon.storage.disk import Disk, storage_faults

log = logging.getLogger(__name__)

# At a clean end calls under way have this many seconds.
_GRACE = 1.0

T = TypeVar("T")


class Pserver:
    """The daemon. Its attributes are what it runs, and what a test looks at."""

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
        ground = Ground(settings, calendar)
        self.calendar, self.threads, self.metrics, self.jobs = calendar, ground.threads, ground.metrics, ground.jobs
        bounds = Bounds(ground)
        self.slots, self.manifest_slots = bounds.slots, bounds.manifest_slots
        holdings = Holdings(ground, disk)
        self.catalog, self.library, self.scanner = holdings.catalog, holdings.library, holdings.scanner
        self.parts, self.keeping, self.sharing = holdings.parts, holdings.keeping, holdings.sharing
        membership = Membership(ground, bounds, holdings, self._url)
        self.account, self.announcer, self.network = membership.account, membership.announcer, membership.network
        self.rescan, self.lookout = membership.rescan, membership.lookout
        moving = Moving(ground, bounds, holdings, membership)
        self.peers, self._transfer_service = moving.peers, moving.transfer_service
        self._orders = Orders(ground, bounds, holdings, membership, moving, self._url)

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
            ending.callback(self.catalog.close)
            ending.callback(self.threads.shutdown)
            unfinished = await self.threads.run(self.threads.disk, self.parts.clean, self.calendar())
            await self.keeping.recall(unfinished)
            secret = ending.enter_context(_lying(state_dir / cookie.COOKIE_FILE, lambda: cookie.make_cookie(state_dir)))
            health = Health()
            server = rpc_server.make_server(
                Guard(secret, lambda: self.port, self.account.check_ticket),
                health,
                self._orders.control(lambda nonce: cookie.proof(secret, self.port, nonce)),
                self._transfer_service,
            )
            self.port = rpc_server.listen(server, self.settings, self.account.saved_port())
            ending.push_async_callback(self.threads.run, self.threads.disk, self._serve_metrics())
            await self.rescan.first()
            await self.threads.run(self.threads.disk, self.catalog.prune)
            over = await ending.enter_async_context(rpc_server.answering(server, _GRACE))
            socket_options.shorten_queues(self.port)
            ending.enter_context(
                _lying(state_dir / state_files.PORT_FILE, lambda: state_files.write_port(state_dir, self.port))
            )
            ending.push_async_callback(self.peers.close)
            ending.push_async_callback(self.jobs.cancel_all)
            ending.push_async_callback(self.account.deregister)
            ending.push_async_callback(self.rescan.stop)
            self.rescan.start()
            self.account.resume()
            ending.push_async_callback(self.lookout.stop)
            self.lookout.start()
            # Calls under way have their grace while all that is ended.
            ending.callback(over.set)
            ending.push_async_callback(health.end)
            yield

    def _serve_metrics(self) -> Callable[[], None]:
        """Answer scrapes if the operator wants it; return what ends that."""
        port = self.settings.metrics_port
        if port is None:
            return lambda: None
        status.show_figures(
            self.metrics, library=self.library, slots=self.slots, account=self.account, announcer=self.announcer
        )
        try:
            listening_at, stop = self.metrics.serve(port)
        except OSError as error:
            raise InUse(f"METRICS_PORT {port} cannot be used: {error.strerror}") from error
        log.info("metrics at http://127.0.0.1:%d/metrics", listening_at)
        return stop

    def _url(self) -> str:
        return f"{url_host(self.settings.announced_host)}:{self.port}"


@contextmanager
def _lying(path: Path, write: Callable[[], T]) -> Iterator[T]:
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
