"""Files pushed to this peer: what it takes, and when. The streams are transfer's business, the quota keeping's."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field

from common.control_messages import Phase
from daemon.errors import Interrupted, TargetExists
from daemon.library.library import Library
from daemon.library.offer_checker import OfferChecker
from daemon.peers.limits import KeyedLocks, expire_now
from daemon.protocol.piece_streams import RequesterStream
from daemon.runtime.executors import Threads
from daemon.runtime.transfers import Transfer, TransferRegistry
from daemon.storage.manifest import Manifest
from daemon.storage.names import check_name
from daemon.transfer.file_download import DownloadSources, FileDownloader
from daemon.transfer.replica_quota import ReplicaQuota

# Seconds that a pusher waits while another sends the same contents.
_LOCK_TIMEOUT = 60.0
# A push of what our own user waits for may go on for so many seconds before it must give way.
_LOCAL_WAIT = 5.0
_GIVES_WAY = "this peer fetches the file itself now: push it again later"


@dataclass(frozen=True, slots=True, kw_only=True)
class PushReceiver:
    """Takes pushed files."""

    library: Library
    claims: OfferChecker
    threads: Threads
    downloader: FileDownloader
    quota: ReplicaQuota
    jobs: TransferRegistry
    locks: KeyedLocks
    announce: Callable[[], Awaitable[None]]
    # What ends the push of an id.
    pushes: dict[str, asyncio.Timeout] = field(default_factory=dict)
    # How many orders of our own user wait for each id.
    local_waiters: Counter[str] = field(default_factory=Counter)

    def wants(self, name: str, id_: str) -> bool:
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
        async with self.locks.acquire(manifest.id, within=_LOCK_TIMEOUT):
            check_name(name)
            await self.threads.run_cancellable(
                self.threads.disk, lambda stop: self.claims.reconcile(name, manifest, stop=stop)
            )
            if not self.wants(name, manifest.id):
                return
            left = self.quota.claim_part(manifest.id)
            ours = not left and await self._has_partial(manifest.id)
            with ExitStack() as room:
                try:
                    async with self.quota.lock_usage() as kept:
                        room.enter_context(self.quota.reserve(name, manifest.size, kept))
                    await self.evict_parts()
                    if not ours:
                        await self.quota.record_part(manifest.id, manifest.size)
                    if self.local_waiters[manifest.id]:
                        # Whoever begins to wait from here on, finds the push under way.
                        raise Interrupted(_GIVES_WAY)
                except BaseException:
                    if left:
                        self.quota.abandon_part(manifest.id, manifest.size)
                    raise
                transfer = self.jobs.register("push")
                try:
                    transfer.counters.files_total = 1
                    transfer.start_phase(Phase.MOVING, name, manifest.size)
                    await self._download(
                        manifest, name, transfer, DownloadSources(pushed=(sender, end), replica=True), ours=ours
                    )
                finally:
                    self.jobs.finish(transfer)
            await self.quota.forget_parts(manifest.id)
        await self.announce()

    @asynccontextmanager
    async def prioritise_local(self, id_: str) -> AsyncIterator[None]:
        """Our own user waits for the lock of an id, for the length of the block.

        A pusher that has it and takes its time is not waited for, nor any that has its turn before our user. What a
        broken push has left of it is our user's then.
        """
        patience = asyncio.get_running_loop().call_later(_LOCAL_WAIT, self._cancel_push, id_)
        self.local_waiters[id_] += 1
        try:
            yield
            await self.quota.forget_parts(id_)
        finally:
            patience.cancel()
            self.local_waiters[id_] -= 1
            if not self.local_waiters[id_]:
                del self.local_waiters[id_]

    def _cancel_push(self, id_: str) -> None:
        push = self.pushes.get(id_)
        if push is not None:
            expire_now(push)

    async def _has_partial(self, id_: str) -> bool:
        """Tell whether there is a part of an id."""
        return id_ in await self.threads.run(self.threads.disk, self.downloader.parts.part_ids)

    async def _download(
        self, manifest: Manifest, name: str, transfer: Transfer, sources: DownloadSources, *, ours: bool
    ) -> None:
        """Have a file come. `ours`: it goes on with what our own user's download has left, and so leaves that."""
        try:
            async with asyncio.timeout(None) as push:
                self.pushes[manifest.id] = push
                await self.downloader.download(manifest, name, transfer, sources)
        except BaseException as error:
            # Broken off while it was published, it is whole.
            if not ours and not self.library.by_id(manifest.id):
                self.quota.abandon_part(manifest.id, manifest.size)
            if isinstance(error, TimeoutError):
                raise Interrupted(_GIVES_WAY) from None
            raise
        finally:
            del self.pushes[manifest.id]

    async def evict_parts(self) -> None:
        """Throw away what broken pushes left, if the room is needed: nobody fills the disk with beginnings."""
        for id_ in await self.quota.evictable_parts():
            self.quota.claim_part(id_)
            if not self.locks.in_use(id_):
                # Had at once; whoever wants these contents meanwhile waits.
                async with self.locks.acquire(id_):
                    await self.threads.run_uncancellable(self.threads.disk, self.downloader.parts.discard, id_)
                    await self.quota.forget_parts(id_)
