"""The quota of replicas: how much other peers have stored here, and how much more they may store.

Knows no files and no streams. The receivers of pushes reserve space here, and ask which parts to evict.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager

from common import formatting
from daemon.errors import QuotaExceeded
from daemon.library.manifest_cache import ManifestCache, ReplicaUsage
from daemon.runtime.concurrency import Threads

# Parts of broken pushes that are stored for a later push of the same content.
MAX_ABANDONED_PARTS = 64
# Small files cost a block and an inode each, so the quota also limits entries: quota / _ENTRY_BYTES, at least
# MIN_ENTRIES. Every component of a name counts as one entry for every file; shared folders are not deduplicated.
_ENTRY_BYTES = 4096
MIN_ENTRIES = 1000


class ReplicaQuota:
    """The bytes and entries of replicas, stored and incoming, and their limits.

    An incoming file counts from the start of its push. The part of a broken push counts until it is evicted, or a
    download of this peer's user continues it.
    """

    def __init__(self, manifest_cache: ManifestCache, limit: int, threads: Threads) -> None:
        """Create the quota.

        Args:
            manifest_cache: Records which files are replicas, and the parts of pushes.
            limit: Bytes that replicas may use.
            threads: Run the queries of the cache.
        """
        self._manifest_cache = manifest_cache
        self.limit = limit
        self._threads = threads
        self._lock = asyncio.Lock()
        self._max_entries = max(MIN_ENTRIES, limit // _ENTRY_BYTES)
        self._incoming_bytes = 0
        self._incoming_entries = 0
        # Id -> size of the parts of broken pushes, the oldest first.
        self._abandoned: dict[str, int] = {}
        # Ids that the cache has recorded as parts of pushes.
        self._recorded: set[str] = set()

    @property
    def used(self) -> int:
        """Bytes of replicas: stored, incoming, and in abandoned parts. Blocking: reads the manifest cache."""
        return self._manifest_cache.replica_usage().bytes + self._incoming_bytes + sum(self._abandoned.values())

    @property
    def incoming_bytes(self) -> int:
        """Bytes reserved for pushes under way."""
        return self._incoming_bytes

    @property
    def abandoned_parts(self) -> set[str]:
        """Ids of the parts of broken pushes."""
        return set(self._abandoned)

    @asynccontextmanager
    async def lock_usage(self) -> AsyncIterator[ReplicaUsage]:
        """Lock the quota and yield the stored replicas, for `reserve`. The `with` block must not await."""
        async with self._lock:
            incoming_bytes, incoming_entries = self._incoming_bytes, self._incoming_entries
            stored = await self._threads.run(self._threads.disk, self._manifest_cache.replica_usage)
            # A push that ended during the query may be in neither figure, so it still counts as incoming.
            yield ReplicaUsage(
                stored.entries + incoming_entries - self._incoming_entries,
                stored.bytes + incoming_bytes - self._incoming_bytes,
            )

    @contextmanager
    def reserve(self, name: str, size: int, stored: ReplicaUsage) -> Iterator[None]:
        """Count a file as incoming inside the `with` block.

        Args:
            name: The name of the file.
            size: Its bytes.
            stored: The usage that `lock_usage` yielded.

        Raises:
            QuotaExceeded: if the file does not fit.
        """
        used = stored.bytes + self._incoming_bytes
        if used + size > self.limit:
            free = max(0, self.limit - used)
            raise QuotaExceeded(
                f"{formatting.size(size)} do not fit into the quota of this peer "
                f"({formatting.size(free)} of {formatting.size(self.limit)} are free)"
            )
        entries = 1 + name.count("/")
        if stored.entries + self._incoming_entries + entries > self._max_entries:
            raise QuotaExceeded(f"this peer stores at most {self._max_entries} files and folders for other peers")
        self._incoming_bytes += size
        self._incoming_entries += entries
        try:
            yield
        finally:
            self._incoming_bytes -= size
            self._incoming_entries -= entries

    async def load(self, part_ids: Iterable[str]) -> None:
        """Load the parts that pushes to earlier processes left; `part_ids` are the parts that exist."""
        recorded = await self._threads.run(self._threads.disk, self._manifest_cache.incoming_parts)
        existing = recorded.keys() & set(part_ids)
        self._abandoned = {id_: size for id_, size in recorded.items() if id_ in existing}
        self._recorded = set(recorded)
        await self.forget_parts(*(recorded.keys() - existing))

    async def record_part(self, id_: str, size: int) -> None:
        """Record durably that a push creates a part of `size` bytes, so that it counts after a crash too."""
        self._recorded.add(id_)
        await self._threads.run_uncancellable(self._threads.disk, self._manifest_cache.record_incoming, id_, size)

    async def forget_parts(self, *ids: str) -> None:
        """Forget parts of pushes that are deleted, published, or continued by a download of this peer's user."""
        recorded = [id_ for id_ in ids if id_ in self._recorded]
        for id_ in ids:
            self.claim_part(id_)
        if recorded:
            self._recorded.difference_update(recorded)
            await self._threads.run_uncancellable(self._threads.disk, self._manifest_cache.forget_incoming, recorded)

    def abandon_part(self, id_: str, size: int) -> None:
        """Record that a push of `size` bytes broke: its part stays until it is claimed or evicted."""
        self._abandoned[id_] = size

    def claim_part(self, id_: str) -> bool:
        """Return whether an abandoned part of this id existed; it is no longer abandoned."""
        return self._abandoned.pop(id_, None) is not None

    async def evictable_parts(self) -> list[str]:
        """Return the abandoned parts to delete, the oldest first: the quota is exceeded, or there are too many."""
        excess_bytes = await self._threads.run(self._threads.disk, lambda: self.used) - self.limit
        excess_parts = len(self._abandoned) - MAX_ABANDONED_PARTS
        chosen: list[str] = []
        for id_, size in self._abandoned.items():
            if excess_bytes <= 0 and len(chosen) >= excess_parts:
                break
            chosen.append(id_)
            excess_bytes -= size
        return chosen
