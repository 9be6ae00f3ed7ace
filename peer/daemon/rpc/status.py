"""What this peer says of itself: to its terminal in full, to the tracker in its pings, to its operator as figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from heapq import nsmallest

from common import status_messages
from common.status_messages import Load
from daemon.errors import PeerError
from daemon.library.library import Library
from daemon.library.scanner import Scanner
from daemon.peers.limits import StreamSlots
from daemon.runtime.executors import Threads
from daemon.runtime.metrics import Metrics
from daemon.runtime.settings import Settings
from daemon.runtime.transfers import TransferRegistry
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.walk import UnshareableEntry
from daemon.tracker_client.announcer import Announcer
from daemon.tracker_client.login import Account
from daemon.transfer.replica_quota import ReplicaQuota

_NOT_SHARED_SHOWN = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReporter:
    """Gathers it."""

    settings: Settings
    address: Callable[[], str]
    account: Account
    announcer: Announcer
    library: Library
    scanner: Scanner
    replica_quota: ReplicaQuota
    transfers: TransferRegistry
    threads: Threads

    async def report(self) -> status_messages.Status:
        """Return everything."""
        refused, used = await self.threads.run(self.threads.disk, lambda: (self._not_shared(), self.replica_quota.used))
        return status_messages.Status(
            user=self.account.user or "",
            address=self.address(),
            tracker=f"{self.settings.tracker_host}:{self.settings.tracker_port}",
            shared_dir=str(self.settings.shared_dir),
            state_dir=str(self.settings.state_dir),
            files=self.library.file_count,
            bytes=self.library.total_bytes,
            quota_used=used,
            quota=self.replica_quota.limit,
            tracker_reached=not self.announcer.fault,
            tracker_fault=self.announcer.fault,
            not_shared=tuple(
                status_messages.NotShared(item.name, item.reason) for item in nsmallest(_NOT_SHARED_SHOWN, refused)
            ),
            not_shared_total=len(refused),
            transfers=tuple(
                status_messages.TransferStatus(item.number, item.kind, item.progress()) for item in self.transfers
            ),
        )

    def _not_shared(self) -> list[UnshareableEntry]:
        """Return what is not shared, and what is not shared yet: a hundred thousand files may wait for their hashes."""
        # A copy: a scan goes on beside. What a command took meanwhile waits no more.
        waiting = self.scanner.pending.copy()
        late = (UnshareableEntry(name, why) for name, why in waiting.items() if self.library.by_name(name) is None)
        return [*self.scanner.not_shared, *late]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReporter:
    """The load that pings report: free space as the quota leaves it, and the rate of serving."""

    transfers: TransferRegistry
    folder: SharedFolder
    replica_quota: ReplicaQuota
    threads: Threads
    rate: Callable[[], float]

    async def current(self) -> Load:
        """Return it."""
        # Not the disk's threads: however busy they are, this peer says that it is alive.
        free = await self.threads.run(self.threads.tracker, self._free)
        return Load(
            uploads=self.transfers.count("serving", "upload"),
            downloads=self.transfers.count("download", "push"),
            free_bytes=free,
            rate=self.rate(),
        )

    def _free(self) -> int:
        """Return how many bytes it still takes. Blocking."""
        try:
            return min(self.folder.free_bytes(), max(0, self.replica_quota.limit - self.replica_quota.used))
        except PeerError:
            return 0


def register_gauges(
    metrics: Metrics, *, library: Library, slots: StreamSlots, account: Account, announcer: Announcer
) -> None:
    """Have this peer's state shown beside what is counted."""
    metrics.add_gauge("p2p_shared_files", "Whole files that this peer shares", lambda: library.file_count)
    metrics.add_gauge("p2p_shared_bytes", "Their bytes", lambda: library.total_bytes)
    metrics.add_gauge("p2p_streams", "Streams served now", lambda: slots.in_use)
    metrics.add_gauge("p2p_logged_in", "1 while somebody is logged in", lambda: float(account.user is not None))
    metrics.add_gauge("p2p_tracker_reached", "1 while the tracker answers", lambda: float(not announcer.fault))
