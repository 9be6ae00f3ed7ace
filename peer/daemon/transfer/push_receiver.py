"""Accepts or refuses pushed files, and downloads the accepted ones. Streams are the work of `rpc.transfer_service`.

Content that this peer has under another name is copied, not downloaded: each name is a file of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum

from common.control_messages import Phase
from daemon.errors import FileChanged, Interrupted, NoSuchFile, NotAllowed, NotWritable, PeerError, TargetExists
from daemon.library.library import Library
from daemon.library.offer_checker import OfferChecker
from daemon.models import Attributes, Version
from daemon.peers.limits import KeyedLocks, expire_now
from daemon.protocol.transfer_messages import Offer, RequesterStream
from daemon.runtime.concurrency import Threads
from daemon.runtime.transfers import Transfer, TransferRegistry
from daemon.storage.attributes import known_modified
from daemon.storage.manifest import Manifest
from daemon.storage.names import check_name
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.sparse import data_bytes
from daemon.transfer.file_download import DownloadSources, FileDownloader
from daemon.transfer.local_copy import LocalCopier
from daemon.transfer.replica_quota import ReplicaQuota

log = logging.getLogger(__name__)

# Seconds that a push waits for another transfer of the same content.
_LOCK_TIMEOUT = 60.0
# Seconds that a download of this peer's user waits for a push of the same content, before it cancels the push.
_LOCAL_WAIT = 5.0
# Seconds by which a time of modification may be ahead of the tracker's clock; the tracker has the same limit.
FUTURE_TOLERANCE = 60.0
_READ_ONLY = "the shared folder of this peer is read-only: ask another peer"
_IGNORED = "this peer does not share files of that name: ask another peer"
_LOCAL_FIRST = "this peer downloads the file itself now: upload it again later"


class Need(Enum):
    """What a peer needs to have an offered file."""

    # It has the content under this name.
    NOTHING = "nothing"
    # It has the content under another name.
    NAME = "name"
    CONTENT = "content"


@dataclass(frozen=True, slots=True, kw_only=True)
class PushReceiver:
    """Receives pushed files of several pieces."""

    folder: SharedFolder
    library: Library
    offer_checker: OfferChecker
    threads: Threads
    downloader: FileDownloader
    copier: LocalCopier
    replica_quota: ReplicaQuota
    transfers: TransferRegistry
    # Held by the one transfer of an id that runs.
    content_locks: KeyedLocks
    announce: Callable[[], Awaitable[None]]
    # Returns the tracker's time in Unix seconds.
    server_time: Callable[[], float]
    # Id -> the timeout block of the push that runs; expiring it cancels the push.
    pushes: dict[str, asyncio.Timeout] = field(default_factory=dict)
    # Id -> downloads of this peer's user that wait for its lock.
    local_waiters: Counter[str] = field(default_factory=Counter)

    def need(self, name: str, id_: str) -> Need:
        """Return what this peer needs to have a file.

        Raises:
            BadName: if the name cannot be shared.
            NotAllowed: if this peer's user does not want to share files of that name.
            TargetExists: if another file has the name.
        """
        check_name(name)
        self._refuse_ignored(name)
        present = self.library.by_name(name)
        if present is not None and present.id != id_:
            raise TargetExists("this peer has another file of that name", name=name)
        # An unconfirmed file does not count: the sender would count this peer as a holder.
        if present is not None:
            return Need.NOTHING if present.confirmed else Need.CONTENT
        same = self.library.any_by_id(id_)
        return Need.NAME if same is not None and same.confirmed else Need.CONTENT

    def _refuse_ignored(self, name: str) -> None:
        if self.folder.ignore_rules.reason_for(name):
            raise NotAllowed(_IGNORED, name=name)

    async def target_faults(self, names: Sequence[str]) -> list[PeerError | None]:
        """Return, for each name, why no file of that name can be stored here; None if one can.

        The errors are for other peers, and contain no path of this machine.
        """
        faults = await self.threads.run(self.threads.disk, self.folder.target_faults, names)
        return [NotWritable(_READ_ONLY) if isinstance(fault, NotWritable) else fault for fault in faults]

    def check_attributes(self, offered: Attributes) -> Attributes:
        """Return the attributes of an offer; a time that is impossible, or in the tracker's future, is unknown."""
        modified = known_modified(offered.modified, self.server_time() + FUTURE_TOLERANCE)
        return offered._replace(modified=modified)

    async def receive(self, offer: Offer, sender: str, stream: RequesterStream) -> None:
        """Receive a pushed file; return when it is published and announced, or existed before.

        Args:
            offer: The file, and the name to publish it under.
            sender: The user who pushes it; the source that is shown.
            stream: The stream to the sender.

        Raises:
            PeerError: if the file is refused, or does not arrive.
        """
        name, manifest = offer.name, offer.manifest
        async with self.content_locks.acquire(manifest.id, within=_LOCK_TIMEOUT):
            check_name(name)
            # Before a local file of that name is considered.
            self._refuse_ignored(name)
            await self.threads.run_cancellable(
                self.threads.disk, lambda stop: self.offer_checker.reconcile(name, manifest, stop=stop)
            )
            need = self.need(name, manifest.id)
            if need is not Need.NOTHING:
                # Refused before it counts towards the quota.
                (fault,) = await self.target_faults([name])
                if fault is not None:
                    raise fault
            if need is Need.CONTENT or (need is Need.NAME and not await self._copy(offer)):
                await self._receive_content(offer, sender, stream)
        await self.announce()

    @asynccontextmanager
    async def prioritise_local(self, id_: str) -> AsyncIterator[None]:
        """Give a download of this peer's user priority over pushes while it waits for the lock of an id.

        An incoming push that holds the lock is cancelled after _LOCAL_WAIT seconds, and queued pushes are refused. If
        the `with` block ends without an error, the part of a broken push belongs to the download, and leaves the quota.
        """
        timer = asyncio.get_running_loop().call_later(_LOCAL_WAIT, self._cancel_push, id_)
        self.local_waiters[id_] += 1
        try:
            yield
            await self.replica_quota.forget_parts(id_)
        finally:
            timer.cancel()
            self.local_waiters[id_] -= 1
            if not self.local_waiters[id_]:
                del self.local_waiters[id_]

    async def evict_parts(self) -> None:
        """Delete parts of broken pushes if the quota needs their space."""
        for id_ in await self.replica_quota.evictable_parts():
            self.replica_quota.claim_part(id_)
            if not self.content_locks.in_use(id_):
                # Acquired at once; a transfer of this content that starts now waits until the part is deleted.
                async with self.content_locks.acquire(id_):
                    await self.threads.run_uncancellable(self.threads.disk, self.downloader.part_store.discard, id_)
                    await self.replica_quota.forget_parts(id_)

    async def _copy(self, offer: Offer) -> bool:
        """Give content that is here one more name; return False if it turns out not to be here."""
        name, manifest = offer.name, offer.manifest
        version = Version(name, manifest.id, manifest.size, self.check_attributes(offer.attributes))
        with ExitStack() as reservation:
            async with self.replica_quota.lock_usage() as stored:
                reservation.enter_context(self.replica_quota.reserve(name, data_bytes(manifest), stored))
            await self.evict_parts()
            try:
                await self.copier.copy_within(version, replica=True)
            except (FileChanged, NoSuchFile) as error:
                log.info("%r is requested, since the local content cannot be copied: %s", name, error)
                return False
        return True

    async def _receive_content(self, offer: Offer, sender: str, stream: RequesterStream) -> None:
        name, manifest = offer.name, offer.manifest
        abandoned = self.replica_quota.claim_part(manifest.id)
        # A part that no push abandoned belongs to a download of this peer's user.
        local_part = not abandoned and await self._has_part(manifest.id)
        with ExitStack() as reservation:
            try:
                async with self.replica_quota.lock_usage() as stored:
                    reservation.enter_context(self.replica_quota.reserve(name, data_bytes(manifest), stored))
                await self.evict_parts()
                if not local_part:
                    await self.replica_quota.record_part(manifest.id, data_bytes(manifest))
                if self.local_waiters[manifest.id]:
                    # A download that begins to wait after this line finds the push in `pushes`.
                    raise Interrupted(_LOCAL_FIRST)
            except BaseException:
                if abandoned:
                    self.replica_quota.abandon_part(manifest.id, data_bytes(manifest))
                raise
            transfer = self.transfers.register("push")
            try:
                transfer.counters.files_total = 1
                transfer.start_phase(Phase.MOVING, name, manifest.size)
                attributes = self.check_attributes(offer.attributes)
                sources = DownloadSources(pushed=(sender, stream), replica=True, attributes=attributes)
                await self._download(manifest, name, transfer, sources, local_part=local_part)
            finally:
                self.transfers.finish(transfer)
        await self.replica_quota.forget_parts(manifest.id)

    def _cancel_push(self, id_: str) -> None:
        push = self.pushes.get(id_)
        if push is not None:
            expire_now(push)

    async def _has_part(self, id_: str) -> bool:
        return id_ in await self.threads.run(self.threads.disk, self.downloader.part_store.part_ids)

    async def _download(
        self, manifest: Manifest, name: str, transfer: Transfer, sources: DownloadSources, *, local_part: bool
    ) -> None:
        """Download the pushed pieces. If the push breaks, its part is abandoned unless it is a `local_part`."""
        try:
            async with asyncio.timeout(None) as push:
                self.pushes[manifest.id] = push
                await self.downloader.download(manifest, name, transfer, sources)
        except BaseException as error:
            # A push that was cancelled during publication is in the library.
            published = self.library.by_name(name)
            if not local_part and (published is None or published.id != manifest.id):
                self.replica_quota.abandon_part(manifest.id, data_bytes(manifest))
            if isinstance(error, TimeoutError):
                raise Interrupted(_LOCAL_FIRST) from None
            raise
        finally:
            del self.pushes[manifest.id]
