"""Files pushed to this peer: what it takes, and within what quota. The streams themselves are transfer's business."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from node.errors import Interrupted, QuotaExceeded, TargetExists
from node.files.names import check_name
from node.files.pieces import Manifest
from node.ground.events import Phase
from node.ground.jobs import Jobs, Transfer
from node.ground.threads import Threads
from node.holdings.catalog import Catalog, Kept
from node.holdings.claims import Claims
from node.holdings.library import Library
from node.language.streams import AskerEnd
from node.lines.limits import Locks, end_now
from node.moving.fetch import Fetcher, Sources

# Seconds that a pusher waits while another sends the same contents.
_TURN = 60.0
# A push of what our own user waits for may go on for so many seconds before it must give way.
_PATIENCE = 5.0
_GIVES_WAY = "this peer fetches the file itself now: push it again later"
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
        await self._threads.run_whole(self._threads.disk, self._catalog.begin, id_, size)

    async def forget(self, *ids: str) -> None:
        """These parts are no push's any more: gone, published, or our own user's."""
        noted = [id_ for id_ in ids if id_ in self._noted]
        for id_ in ids:
            self.take_up(id_)
        if noted:
            self._noted.difference_update(noted)
            await self._threads.run_whole(self._threads.disk, self._catalog.not_begun, noted)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Takes pushed files."""

    library: Library
    claims: Claims
    threads: Threads
    fetcher: Fetcher
    keeping: Keeping
    jobs: Jobs
    locks: Locks
    announce: Callable[[], Awaitable[None]]
    # What ends the push of an id.
    pushes: dict[str, asyncio.Timeout] = field(default_factory=dict)
    # How many orders of our own user wait for each id.
    waited_for: Counter[str] = field(default_factory=Counter)

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
        # A pusher is not kept waiting by another that takes its time.
        async with self.locks.of(manifest.id, within=_TURN):
            check_name(name)
            await self.threads.run_stoppable(
                self.threads.disk, lambda stop: self.claims.settle(name, manifest, stop=stop)
            )
            if not self.judge(name, manifest.id):
                return
            left = self.keeping.take_up(manifest.id)
            ours = not left and await self._lies_here(manifest.id)
            with ExitStack() as room:
                try:
                    async with self.keeping.judging() as kept:
                        room.enter_context(self.keeping.room_for(name, manifest.size, kept))
                    await self.make_room()
                    if not ours:
                        await self.keeping.note(manifest.id, manifest.size)
                    if self.waited_for[manifest.id]:
                        # Whoever begins to wait from here on, finds the push under way.
                        raise Interrupted(_GIVES_WAY)
                except BaseException:
                    if left:
                        self.keeping.leave(manifest.id, manifest.size)
                    raise
                transfer = self.jobs.begin("push")
                try:
                    transfer.counters.files_total = 1
                    transfer.enter(Phase.MOVING, name, manifest.size)
                    await self._bring(manifest, name, transfer, Sources(pushed=(sender, end), kept=True), ours=ours)
                finally:
                    self.jobs.end(transfer)
            await self.keeping.forget(manifest.id)
        await self.announce()

    @asynccontextmanager
    async def awaited(self, id_: str) -> AsyncIterator[None]:
        """Our own user waits for the lock of an id, for the length of the block.

        A pusher that has it and takes its time is not waited for, nor any that has its turn before our user. What a
        broken push has left of it is our user's then.
        """
        patience = asyncio.get_running_loop().call_later(_PATIENCE, self._give_way, id_)
        self.waited_for[id_] += 1
        try:
            yield
            await self.keeping.forget(id_)
        finally:
            patience.cancel()
            self.waited_for[id_] -= 1
            if not self.waited_for[id_]:
                del self.waited_for[id_]

    def _give_way(self, id_: str) -> None:
        push = self.pushes.get(id_)
        if push is not None:
            end_now(push)

    async def _lies_here(self, id_: str) -> bool:
        """Tell whether there is a part of an id."""
        return id_ in await self.threads.run(self.threads.disk, self.fetcher.parts.unfinished)

    async def _bring(self, manifest: Manifest, name: str, transfer: Transfer, sources: Sources, *, ours: bool) -> None:
        """Have a file come. `ours`: it goes on with what our own user's download has left, and so leaves that."""
        try:
            async with asyncio.timeout(None) as push:
                self.pushes[manifest.id] = push
                await self.fetcher.bring(manifest, name, transfer, sources)
        except BaseException as error:
            # Broken off while it was published, it is whole.
            if not ours and not self.library.by_id(manifest.id):
                self.keeping.leave(manifest.id, manifest.size)
            if isinstance(error, TimeoutError):
                raise Interrupted(_GIVES_WAY) from None
            raise
        finally:
            del self.pushes[manifest.id]

    async def make_room(self) -> None:
        """Throw away what broken pushes left, if the room is needed: nobody fills the disk with beginnings."""
        for id_ in await self.keeping.in_the_way():
            self.keeping.take_up(id_)
            if not self.locks.taken(id_):
                # Had at once; whoever wants these contents meanwhile waits.
                async with self.locks.of(id_):
                    await self.threads.run_whole(self.threads.disk, self.fetcher.parts.discard, id_)
                    await self.keeping.forget(id_)
