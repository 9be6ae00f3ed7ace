"""Files pushed to this peer: what it takes, and within what quota. The streams themselves are transfer's business."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from node.catalog import Catalog
from node.errors import QuotaExceeded, TargetExists
from node.fetch import Fetcher, Sources
from node.jobs import Jobs, Phase
from node.library import Library
from node.limits import Locks
from node.names import check_name
from node.pieces import Manifest
from node.scanner import Scanner
from node.streams import AskerEnd
from node.threads import Threads


class Keeping:
    """How many bytes are kept at others' request, and how many may be. What is being received counts already."""

    def __init__(self, catalog: Catalog, quota: int) -> None:
        self._catalog = catalog
        self.quota = quota
        self._coming = 0

    @property
    def used(self) -> int:
        """Bytes kept or coming."""
        return self._catalog.kept_bytes() + self._coming

    @contextmanager
    def room_for(self, size: int) -> Iterator[None]:
        """Hold room for what is coming. Raises QuotaExceeded if there is none."""
        if self.used + size > self.quota:
            free = max(0, self.quota - self.used)
            raise QuotaExceeded(
                f"{size} bytes are more than this peer still takes from others ({free} of {self.quota})"
            )
        self._coming += size
        try:
            yield
        finally:
            self._coming -= size


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Takes pushed files."""

    library: Library
    scanner: Scanner
    threads: Threads
    fetcher: Fetcher
    keeping: Keeping
    jobs: Jobs
    locks: Locks
    announce: Callable[[], Awaitable[None]]

    def judge(self, name: str, id_: str) -> bool:
        """Tell whether this file is wanted; False if its contents lie here already.

        Raises:
            BadName: if the name cannot be shared.
            TargetExists: if other contents have it.
        """
        check_name(name)
        if self.library.by_id(id_):
            return False
        held = self.library.by_name(name)
        if held is not None:
            raise TargetExists("this peer has other contents under that name", name=name)
        return True

    async def receive(self, name: str, manifest: Manifest, sender: str, end: AskerEnd) -> None:
        """Take a pushed file; returns when it is published and announced, or lay here before.

        Raises:
            PeerError: if it is not wanted, or does not arrive.
        """
        async with self.locks.of(manifest.id):
            if self.library.by_name(check_name(name)) is None:
                # It may lie here, and no scan has seen it yet: this peer was killed as it had just arrived.
                await self.threads.run_stoppable(
                    self.threads.disk, lambda stop: self.scanner.take([name], stop=stop)
                )
            if not self.judge(name, manifest.id):
                return
            with self.keeping.room_for(manifest.size):
                transfer = self.jobs.begin("push")
                try:
                    transfer.counters.files_total = 1
                    transfer.enter(Phase.MOVING, name, manifest.size)
                    await self.fetcher.bring(manifest, name, transfer, Sources(pushed=(sender, end), kept=True))
                finally:
                    self.jobs.end(transfer)
        await self.announce()
