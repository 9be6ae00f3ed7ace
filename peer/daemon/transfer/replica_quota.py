"""What is kept, or lies here unfinished, at others' request: how much it is, and how much it may be.

Knows no files and no streams: whoever receives tells it what comes, and asks it what must go.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager

from daemon.errors import QuotaExceeded
from daemon.library.manifest_cache import ManifestCache, ReplicaUsage
from daemon.runtime.executors import Threads

# Parts of broken pushes that are left for those who may take them up.
MAX_ABANDONED_PARTS = 64
# A file takes a block and an inode of the disk, however short it is, and so does a folder: as many are kept as have
# room in the quota if each had this size, and so many in any case. A folder counts anew for each file in it: who shares
# it need not be known.
_ENTRY_BYTES = 4096
MIN_ENTRIES = 1000


class ReplicaQuota:
    """How many bytes are kept at others' request, and how many may be; and how many files and folders.

    What is being received counts already; what pushers left unfinished counts until its room is needed, or our own user
    goes on with it.
    """

    def __init__(self, catalog: ManifestCache, quota: int, threads: Threads) -> None:
        self._catalog = catalog
        self.limit = quota
        self._threads = threads
        self._lock = asyncio.Lock()
        self._max_entries = max(MIN_ENTRIES, quota // _ENTRY_BYTES)
        self._incoming_bytes = 0
        self._incoming_entries = 0
        # Sizes of the parts that broken pushes left, by id, the oldest first.
        self._abandoned: dict[str, int] = {}
        # Ids that the catalog has as begun by pushes.
        self._recorded: set[str] = set()

    @property
    def used(self) -> int:
        """Bytes kept, coming or left unfinished. Blocking: the catalog may be busy."""
        return self._catalog.replica_usage().bytes + self._incoming_bytes + sum(self._abandoned.values())

    @asynccontextmanager
    async def lock_usage(self) -> AsyncIterator[ReplicaUsage]:
        """Give what is kept, for `room_for` in the block, which awaits nothing. One at a time judges."""
        async with self._lock:
            coming, entries = self._incoming_bytes, self._incoming_entries
            kept = await self._threads.run(self._threads.disk, self._catalog.replica_usage)
            # What arrived meanwhile may be in neither figure: it is counted still.
            yield ReplicaUsage(
                kept.entries + entries - self._incoming_entries, kept.bytes + coming - self._incoming_bytes
            )

    @contextmanager
    def reserve(self, name: str, size: int, kept: ReplicaUsage) -> Iterator[None]:
        """Hold room for what is coming. Raises QuotaExceeded if there is none."""
        used = kept.bytes + self._incoming_bytes
        if used + size > self.limit:
            free = max(0, self.limit - used)
            raise QuotaExceeded(
                f"{size} bytes are more than this peer still takes from others ({free} of {self.limit})"
            )
        entries = 1 + name.count("/")
        if kept.entries + self._incoming_entries + entries > self._max_entries:
            raise QuotaExceeded(
                f"this peer takes {self._max_entries} files from others, the folders of each counted, and has as many"
            )
        self._incoming_bytes += size
        self._incoming_entries += entries
        try:
            yield
        finally:
            self._incoming_bytes -= size
            self._incoming_entries -= entries

    async def load(self, parts: Iterable[str]) -> None:
        """Know again what pushes of earlier processes have left, of the parts that lie here."""
        begun = await self._threads.run(self._threads.disk, self._catalog.incoming_parts)
        there = begun.keys() & set(parts)
        self._abandoned = {id_: size for id_, size in begun.items() if id_ in there}
        self._recorded = set(begun)
        await self.forget_parts(*(begun.keys() - there))

    async def record_part(self, id_: str, size: int) -> None:
        """A push begins a part: known again after a restart, however this process ends."""
        self._recorded.add(id_)
        await self._threads.run_uncancellable(self._threads.disk, self._catalog.record_incoming, id_, size)

    async def forget_parts(self, *ids: str) -> None:
        """These parts are no push's any more: gone, published, or our own user's."""
        noted = [id_ for id_ in ids if id_ in self._recorded]
        for id_ in ids:
            self.claim_part(id_)
        if noted:
            self._recorded.difference_update(noted)
            await self._threads.run_uncancellable(self._threads.disk, self._catalog.forget_incoming, noted)

    def abandon_part(self, id_: str, size: int) -> None:
        """A push broke: its part may be taken up again."""
        self._abandoned[id_] = size

    def claim_part(self, id_: str) -> bool:
        """The part is somebody's again; tell whether a broken push had left one."""
        return self._abandoned.pop(id_, None) is not None

    async def evictable_parts(self) -> list[str]:
        """Return the parts to throw away for what is coming, or for being too many."""
        lacking = await self._threads.run(self._threads.disk, lambda: self.used) - self.limit
        many = len(self._abandoned) - MAX_ABANDONED_PARTS
        chosen: list[str] = []
        for id_, left in self._abandoned.items():
            if lacking <= 0 and len(chosen) >= many:
                break
            chosen.append(id_)
            lacking -= left
        return chosen
