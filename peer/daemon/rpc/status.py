"""The state of this peer: for the status command, for the pings to the tracker, and for the metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import nsmallest

from common.status_messages import Load, NotShared, Status, TransferStatus
from daemon.errors import PeerError
from daemon.library.library import Library
from daemon.library.scanner import Scanner
from daemon.peers.limits import StreamSlots
from daemon.runtime import tracker_address
from daemon.runtime.concurrency import Threads
from daemon.runtime.metrics import Metrics
from daemon.runtime.settings import Settings
from daemon.runtime.transfers import TransferRegistry
from daemon.storage.shared_folder import SharedFolder
from daemon.tracker_client.announcer import Announcer
from daemon.tracker_client.login import Account
from daemon.tracker_client.own_address import OwnAddress
from daemon.tracker_client.ping_interval import PingInterval
from daemon.transfer.replica_quota import ReplicaQuota

# The most unshared files in one status.
_MAX_NOT_SHARED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReporter:
    """Collects the state of this peer for the status command."""

    settings: Settings
    own_address: OwnAddress
    account: Account
    announcer: Announcer
    folder: SharedFolder
    library: Library
    scanner: Scanner
    replica_quota: ReplicaQuota
    transfers: TransferRegistry
    threads: Threads
    ping_interval: PingInterval

    async def report(self) -> Status:
        """Return the state of this peer."""
        not_shared, not_shared_total = await self.threads.run(self.threads.disk, self._not_shared)
        used = await self.threads.run(self.threads.disk, lambda: self.replica_quota.used)
        return Status(
            user=self.account.user or "",
            address=self.own_address.shown,
            tracker=tracker_address.shown(self.settings.tracker_url),
            shared_dir=str(self.settings.shared_dir),
            state_dir=str(self.settings.state_dir),
            files=self.library.file_count,
            bytes=self.library.total_bytes,
            quota_used=used,
            quota=self.replica_quota.limit,
            tracker_reached=not self.announcer.fault,
            tracker_fault=self.announcer.fault,
            not_shared=not_shared,
            not_shared_total=not_shared_total,
            ignored_files=self.scanner.ignore_rules.files,
            ignored_folders=self.scanner.ignore_rules.folders,
            transfers=tuple(TransferStatus(item.number, item.kind, item.progress()) for item in self.transfers),
            faults=(*self._faults(), *await self.threads.run(self.threads.disk, self._folder_faults)),
        )

    def _faults(self) -> Iterator[str]:
        """Yield what needs the user's attention, one line each."""
        if self.announcer.fault:
            yield self.announcer.fault
        if self.ping_interval.fault:
            yield self.ping_interval.fault

    def _folder_faults(self) -> list[str]:
        """Return what is wrong with the shared folder. Blocking."""
        try:
            return self.folder.faults()
        except PeerError as error:
            return [error.message]

    def _not_shared(self) -> tuple[tuple[NotShared, ...], int]:
        """Return the first files that cannot be shared or wait to be hashed, and how many there are.

        Blocking: they may be many.
        """
        # The copy is needed because a scan may run in another thread. A command may have hashed a pending file since.
        pending = self.scanner.pending.copy()
        files = [
            *(NotShared(item.name, item.reason) for item in self.scanner.not_shared),
            *(NotShared(*item, pending=True) for item in pending.items() if self.library.by_name(item[0]) is None),
        ]
        return tuple(nsmallest(_MAX_NOT_SHARED, files)), len(files)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReporter:
    """Measures the load that pings report to the tracker. `rate` returns the bytes sent per second."""

    transfers: TransferRegistry
    folder: SharedFolder
    replica_quota: ReplicaQuota
    threads: Threads
    rate: Callable[[], float]

    async def current(self) -> Load:
        """Return the load now."""
        # The disk threads may be busy for long, and a late ping would count as offline.
        free = await self.threads.run(self.threads.tracker, self._free_bytes)
        return Load(
            uploads=self.transfers.count("serving", "upload"),
            downloads=self.transfers.count("download", "push"),
            free_bytes=free,
            rate=self.rate(),
        )

    def _free_bytes(self) -> int:
        """Return how many bytes of replicas this peer can still store. Blocking."""
        try:
            if self.folder.faults():
                return 0
            return min(self.folder.free_bytes(), max(0, self.replica_quota.limit - self.replica_quota.used))
        except PeerError:
            return 0


def register_gauges(
    metrics: Metrics, *, library: Library, slots: StreamSlots, account: Account, announcer: Announcer
) -> None:
    """Add gauges of this peer's state to its metrics."""
    metrics.add_gauge("p2p_shared_files", "Complete files that this peer shares", lambda: library.file_count)
    metrics.add_gauge("p2p_shared_bytes", "Bytes of the complete files of this peer", lambda: library.total_bytes)
    metrics.add_gauge(
        "p2p_unconfirmed_files", "Shared files that are to be read again", lambda: library.unconfirmed_count
    )
    metrics.add_gauge("p2p_streams", "Streams served now", lambda: slots.in_use)
    metrics.add_gauge("p2p_logged_in", "1 while this peer is logged in", lambda: float(account.user is not None))
    metrics.add_gauge("p2p_tracker_reached", "1 while the tracker answers", lambda: float(not announcer.fault))
