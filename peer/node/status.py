"""What this peer says of itself: to its terminal in full, to the tracker in its pings."""

from __future__ import annotations

from collections.abc import Callable

import pserver_pb2 as pb
from node import wire_control
from node.account import Account
from node.announcer import Announcer
from node.errors import PeerError
from node.jobs import Jobs
from node.library import Library
from node.model import Load
from node.receiver import Keeping
from node.scanner import Scanner
from node.settings import Settings
from node.shared_folder import SharedFolder
from node.threads import Threads

_NOT_SHARED_SHOWN = 100


class Status:
    """Gathers it."""

    def __init__(
        self,
        *,
        settings: Settings,
        url: Callable[[], str],
        account: Account,
        announcer: Announcer,
        library: Library,
        scanner: Scanner,
        keeping: Keeping,
        jobs: Jobs,
        threads: Threads,
    ) -> None:
        self._settings = settings
        self._url = url
        self._account = account
        self._announcer = announcer
        self._library = library
        self._scanner = scanner
        self._keeping = keeping
        self._jobs = jobs
        self._threads = threads

    async def report(self) -> pb.StatusReply:
        """Return everything."""
        refused = sorted(self._scanner.not_shared)
        return pb.StatusReply(
            user=self._account.user or "",
            url=self._url(),
            tracker=f"{self._settings.tracker_host}:{self._settings.tracker_port}",
            shared_dir=str(self._settings.shared_dir),
            state_dir=str(self._settings.state_dir),
            files=self._library.files,
            bytes=self._library.bytes,
            quota_used=await self._threads.run(self._threads.disk, lambda: self._keeping.used),
            quota=self._keeping.quota,
            tracker_reached=not self._announcer.fault,
            tracker_fault=self._announcer.fault,
            not_shared=map(wire_control.not_shared, refused[:_NOT_SHARED_SHOWN]),
            not_shared_total=len(refused),
            transfers=map(wire_control.transfer, self._jobs),
        )


class OwnLoad:
    """The load that pings report: free space as the quota leaves it, and the rate of serving."""

    def __init__(self, *, jobs: Jobs, folder: SharedFolder, keeping: Keeping, rate: Callable[[], float]) -> None:
        self._jobs = jobs
        self._folder = folder
        self._keeping = keeping
        self._rate = rate

    def now(self) -> Load:
        """Return it. Blocking."""
        try:
            free = min(self._folder.free_bytes(), max(0, self._keeping.quota - self._keeping.used))
        except PeerError:
            free = 0
        return Load(
            uploads=self._jobs.count("serving", "upload"),
            downloads=self._jobs.count("download", "push"),
            free_bytes=free,
            rate=self._rate(),
        )
