"""Files pushed to this peer: what it takes, and when. The streams are transfer's business, the quota keeping's."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field

from daemon.errors import Interrupted, TargetExists
from daemon.library.library import Library
from daemon.library.offer_checker import Claims
from daemon.peers.limits import KeyedLocks, expire_now
from daemon.protocol.piece_streams import RequesterStream
from daemon.runtime.events import Phase
from daemon.runtime.executors import Threads
from daemon.runtime.transfers import Transfer, TransferRegistry
from daemon.storage.manifest import Manifest
from daemon.storage.names import check_name
from daemon.transfer.file_download import Fetcher, Sources
from daemon.transfer.replica_quota import Keeping

# Seconds that a pusher waits while another sends the same contents.
_TURN = 60.0
# A push of what our own user waits for may go on for so many seconds before it must give way.
_PATIENCE = 5.0
_GIVES_WAY = "this peer fetches the file itself now: push it again later"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Takes pushed files."""

    library: Library
    claims: Claims
    threads: Threads
    fetcher: Fetcher
    keeping: Keeping
    jobs: TransferRegistry
    locks: KeyedLocks
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

    async def receive(self, name: str, manifest: Manifest, sender: str, end: RequesterStream) -> None:
        """Take a pushed file; returns when it is published and announced, or lay here before.

        Raises:
            PeerError: if it is not wanted, or does not arrive.
        """
        # A pusher is not kept waiting by another that takes its time.
        async with self.locks.acquire(manifest.id, within=_TURN):
            check_name(name)
            await self.threads.run_cancellable(
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
                transfer = self.jobs.register("push")
                try:
                    transfer.counters.files_total = 1
                    transfer.start_phase(Phase.MOVING, name, manifest.size)
                    await self._bring(manifest, name, transfer, Sources(pushed=(sender, end), kept=True), ours=ours)
                finally:
                    self.jobs.finish(transfer)
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
            expire_now(push)

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
            if not self.locks.in_use(id_):
                # Had at once; whoever wants these contents meanwhile waits.
                async with self.locks.acquire(id_):
                    await self.threads.run_uncancellable(self.threads.disk, self.fetcher.parts.discard, id_)
                    await self.keeping.forget(id_)
