"""What is kept, or lies here unfinished, at others' request: how much it is, and how much it may be.

Knows no files and no streams: whoever receives tells it what comes, and asks it what must go.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager

from daemon.errors import QuotaExceeded
from daemon.library.manifest_cache import Catalog, Kept
from daemon.runtime.executors import Threads

# Parts of broken pushes that are left for those who may take them up.
BEGINNINGS = 64
# A file takes a block and an inode of the disk, however short it is, and so does a folder: as many are kept as have
# room in the quota if each had this size, and so many in any case. A folder counts anew for each file in it: who shares
# it need not be known.
_BLOCK = 4096
ENTRIES_AT_LEAST = 1000


class Keeping:
    """How many bytes are kept at others' request, and how many may be; and how many files and folders.

    What is being received counts already; what pushers left unfinished counts until its room is needed, or our own user
    goes on with it.
    """

    def __init__(self, catalog: Catalog, quota: int, threads: Threads) -> None:
        self._catalog = catalog
        self.quota = quota
        self._threads = threads
        self._judging = asyncio.Lock()
        self._entries_max = max(ENTRIES_AT_LEAST, quota // _BLOCK)
        self._coming = 0
        self._coming_entries = 0
        # Sizes of the parts that broken pushes left, by id, the oldest first.
        self._left: dict[str, int] = {}
        # Ids that the catalog has as begun by pushes.
        self._noted: set[str] = set()

    @property
    def used(self) -> int:
        """Bytes kept, coming or left unfinished. Blocking: the catalog may be busy."""
        return self._catalog.kept().bytes + self._coming + sum(self._left.values())

    @asynccontextmanager
    async def judging(self) -> AsyncIterator[Kept]:
        """Give what is kept, for `room_for` in the block, which awaits nothing. One at a time judges."""
        async with self._judging:
            coming, entries = self._coming, self._coming_entries
            kept = await self._threads.run(self._threads.disk, self._catalog.kept)
            # What arrived meanwhile may be in neither figure: it is counted still.
            yield Kept(kept.entries + entries - self._coming_entries, kept.bytes + coming - self._coming)

    @contextmanager
    def room_for(self, name: str, size: int, kept: Kept) -> Iterator[None]:
        """Hold room for what is coming. Raises QuotaExceeded if there is none."""
        used = kept.bytes + self._coming
        if used + size > self.quota:
            free = max(0, self.quota - used)
            raise QuotaExceeded(
                f"{size} bytes are more than this peer still takes from others ({free} of {self.quota})"
            )
        entries = 1 + name.count("/")
        if kept.entries + self._coming_entries + entries > self._entries_max:
            raise QuotaExceeded(
                f"this peer takes {self._entries_max} files from others, the folders of each counted, and has as many"
            )
        self._coming += size
        self._coming_entries += entries
        try:
            yield
        finally:
            self._coming -= size
            self._coming_entries -= entries

    async def recall(self, parts: Iterable[str]) -> None:
        """Know again what pushes of earlier processes have left, of the parts that lie here."""
        begun = await self._threads.run(self._threads.disk, self._catalog.begun)
        there = begun.keys() & set(parts)
        self._left = {id_: size for id_, size in begun.items() if id_ in there}
        self._noted = set(begun)
        await self.forget(*(begun.keys() - there))

    async def note(self, id_: str, size: int) -> None:
        """A push begins a part: known again after a restart, however this process ends."""
        self._noted.add(id_)
        await self._threads.run_uncancellable(self._threads.disk, self._catalog.begin, id_, size)

    async def forget(self, *ids: str) -> None:
        """These parts are no push's any more: gone, published, or our own user's."""
        noted = [id_ for id_ in ids if id_ in self._noted]
        for id_ in ids:
            self.take_up(id_)
        if noted:
            self._noted.difference_update(noted)
            await self._threads.run_uncancellable(self._threads.disk, self._catalog.not_begun, noted)

    def leave(self, id_: str, size: int) -> None:
        """A push broke: its part may be taken up again."""
        self._left[id_] = size

    def take_up(self, id_: str) -> bool:
        """The part is somebody's again; tell whether a broken push had left one."""
        return self._left.pop(id_, None) is not None

    async def in_the_way(self) -> list[str]:
        """Return the parts to throw away for what is coming, or for being too many."""
        lacking = await self._threads.run(self._threads.disk, lambda: self.used) - self.quota
        many = len(self._left) - BEGINNINGS
        chosen: list[str] = []
        for id_, left in self._left.items():
            if lacking <= 0 and len(chosen) >= many:
                break
            chosen.append(id_)
            lacking -= left
        return chosen
