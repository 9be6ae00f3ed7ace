"""Fetches the manifest of a file: from the resume data beside its part file, or from any holder."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from common.control_messages import Hint
from daemon.errors import NoHolders, NoSuchFile, NotVerified, PeerError
from daemon.models import Holder, RemoteFile
from daemon.peers.client import PeerClient
from daemon.runtime.executors import Threads
from daemon.storage.manifest import Manifest
from daemon.storage.part_file import PartStore
from daemon.swarm.stall import CORRUPT_ONLY_TIMEOUT, FIRST_RETRY_DELAY, NO_PROGRESS_TIMEOUT, next_retry_delay
from daemon.tracker_client.client import TrackerClient

log = logging.getLogger(__name__)

# Seconds after which the next holder is asked too, if the one before has not answered.
_HEDGE_DELAY = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFetcher:
    """Fetches manifests."""

    tracker: TrackerClient
    part_store: PartStore
    peers: PeerClient
    threads: Threads
    clock: Callable[[], float]

    async def fetch(self, file: RemoteFile, on_retry: Callable[[], None]) -> Manifest:
        """Return the manifest of a file.

        Args:
            file: The file, with the holders to ask first.
            on_retry: Called each time no holder had it, before holders are queried again.

        Raises:
            NotVerified: if all holders that answer sent a corrupt manifest, for CORRUPT_ONLY_TIMEOUT seconds.
            NoHolders: if no holder answers for NO_PROGRESS_TIMEOUT seconds.
        """
        version = file.version
        saved = await self.threads.run(self.threads.disk, self.part_store.saved_manifest, version.id)
        if saved is not None:
            return saved
        began = self.clock()
        # Since when all answers are corrupt.
        corrupt_since: float | None = None
        holders: Iterable[Holder] = file.holders
        delay = FIRST_RETRY_DELAY
        while True:
            answer = await self._request_any(version.id, holders or await self._query_holders(version.id))
            if isinstance(answer, Manifest):
                return answer
            now = self.clock()
            corrupt_since = (corrupt_since or now) if isinstance(answer, NotVerified) else None
            timed_out = now - began > NO_PROGRESS_TIMEOUT
            if corrupt_since is not None and (timed_out or now - corrupt_since > CORRUPT_ONLY_TIMEOUT):
                raise NotVerified(answer.message, name=version.name, hint=Hint.REPEAT_LATER)
            if timed_out:
                raise NoHolders(answer.message, name=version.name, hint=Hint.RESUME)
            on_retry()
            await asyncio.sleep(delay)
            delay = next_retry_delay(delay)
            holders = ()

    async def _request_any(self, id_: str, holders: Iterable[Holder]) -> Manifest | PeerError:
        """Request the manifest from holders, in order, _HEDGE_DELAY seconds apart.

        Returns:
            The first manifest of the id; else an error, which is NotVerified only if all answers were corrupt.
        """
        answer: Manifest | PeerError = NoSuchFile("no online peer has it")
        errors: list[PeerError] = []
        waiting = deque(holders)
        running: set[asyncio.Task[Manifest | PeerError]] = set()
        try:
            while waiting or running:
                if waiting:
                    running.add(asyncio.create_task(self._request(id_, waiting.popleft())))
                timeout = _HEDGE_DELAY if waiting else None
                done, running = await asyncio.wait(running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    answer = task.result()
                    if isinstance(answer, Manifest):
                        return answer
                    errors.append(answer)
            return next((error for error in errors if not isinstance(error, NotVerified)), answer)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _request(self, id_: str, holder: Holder) -> Manifest | PeerError:
        try:
            return await self.peers.fetch_manifest(holder.address, holder.ticket, id_)
        except NotVerified as error:
            self.tracker.report_corrupt(id_, holder.address, error.message)
            return error
        except PeerError as error:
            return error

    async def _query_holders(self, id_: str) -> tuple[Holder, ...]:
        try:
            return next((found.holders for found in await self.tracker.query(ids=[id_])), ())
        except PeerError as error:
            log.info("the tracker cannot be asked for holders now: %s", error)
            return ()
