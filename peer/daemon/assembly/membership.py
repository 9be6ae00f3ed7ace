"""What makes this peer a member of the network put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from daemon.assembly.ground import Bounds, Ground
from daemon.assembly.holdings import Holdings
from daemon.library.scan_loop import ScanLoop
from daemon.rpc.status import LoadReporter
from daemon.tracker_client.announcer import Announcer
from daemon.tracker_client.async_client import AsyncTrackerClient
from daemon.tracker_client.client import TrackerClient
from daemon.tracker_client.health_probe import TrackerHealthProbe
from daemon.tracker_client.login import Account, TrackerClock
from daemon.tracker_client.session import SessionFile


class Membership:
    """Who is logged in, and what the tracker is told and asked."""

    def __init__(self, ground: Ground, bounds: Bounds, holdings: Holdings, url: Callable[[], str]) -> None:
        settings, threads, clock = ground.settings, ground.threads, ground.clock
        self._jobs = ground.jobs
        self._streams = bounds.streams
        verify = True if settings.tls_ca in (None, "system") else str(settings.tls_ca)
        tracker = TrackerClient(settings.tracker_url, verify=verify)
        self.network = AsyncTrackerClient(tracker, threads)
        self.account = Account(
            tracker=tracker,
            file=SessionFile(settings.state_dir),
            threads=threads,
            clock=TrackerClock(clock, ground.calendar),
            address=url,
            on_logged_out=self._logged_out,
        )
        load = LoadReporter(
            transfers=ground.jobs,
            folder=holdings.folder,
            replica_quota=holdings.keeping,
            threads=threads,
            rate=bounds.sending.now,
        )
        self.announcer = Announcer(
            tracker=tracker,
            library=holdings.library,
            threads=threads,
            interval=settings.ping_interval,
            load=load.current,
            on_server_time=self.account.on_server_time,
            on_session_expired=self.account.on_session_expired,
            on_recheck=self._recheck,
        )
        self.account.announcer = self.announcer
        self.lookout = TrackerHealthProbe(
            tracker=tracker,
            threads=threads,
            interval=settings.ping_interval,
            logged_in=lambda: self.account.user is not None,
        )
        self.rescan = ScanLoop(
            scanner=holdings.scanner,
            threads=threads,
            interval=settings.ping_interval,
            clock=clock,
            on_change=self.announcer.request_sync,
        )

    def _recheck(self, ids: Sequence[str]) -> None:
        self.rescan.recheck(ids)

    async def _logged_out(self) -> None:
        """Nobody is logged in any more: nothing is fetched or served, streams under way end."""
        await self._streams.close_all()
        await self._jobs.cancel_all()
