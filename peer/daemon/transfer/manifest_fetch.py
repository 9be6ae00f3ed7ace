"""The manifest of what is to be fetched: the one beside an unfinished file, or any holder's that fits the id."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from daemon.errors import NoHolders, NoSuchFile, NotVerified, PeerError
from daemon.models import Holder, RemoteFile
from daemon.peers.client import PeerClient
from daemon.runtime.executors import Threads
from daemon.storage.manifest import Manifest
from daemon.storage.part_file import PartStore
from daemon.swarm.stall import CORRUPT_ONLY_TIMEOUT, FIRST_RETRY_DELAY, NO_PROGRESS_TIMEOUT, next_retry_delay
from daemon.tracker_client.client import TrackerClient

log = logging.getLogger(__name__)

# The next holder is asked when the one before has not answered for so many seconds: a frozen one costs no more.
_HEDGE_DELAY = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFetcher:
    """Finds them."""

    tracker: TrackerClient
    parts: PartStore
    peers: PeerClient
    threads: Threads
    clock: Callable[[], float]

    async def fetch(self, item: RemoteFile, on_retry: Callable[[], None]) -> Manifest:
        """Return the manifest of a version; `on_wait` is called when no holder had it and it is looked for again.

        Raises:
            NotVerified: if whoever answers lies, for ONLY_LIARS seconds.
            NoHolders: if nobody answers for GIVE_UP seconds.
        """
        version = item.version
        kept = await self.threads.run(self.threads.disk, self.parts.saved_manifest, version.id)
        if kept is not None:
            return kept
        began = self.clock()
        # Since when whoever answers lies.
        lied: float | None = None
        holders: Iterable[Holder] = item.holders
        pause = FIRST_RETRY_DELAY
        while True:
            answer = await self._request_any(version.id, holders or await self._query_holders(version.id))
            if isinstance(answer, Manifest):
                return answer
            now = self.clock()
            lied = (lied or now) if isinstance(answer, NotVerified) else None
            over = now - began > NO_PROGRESS_TIMEOUT
            if lied is not None and (over or now - lied > CORRUPT_ONLY_TIMEOUT):
                raise NotVerified(f"{answer.message}: run it again when another peer has it", name=version.name)
            if over:
                raise NoHolders(f"{answer.message}: run it again to resume", name=version.name)
            on_retry()
            await asyncio.sleep(pause)
            pause = next_retry_delay(pause)
            holders = ()

    async def _request_any(self, id_: str, holders: Iterable[Holder]) -> Manifest | PeerError:
        """Ask holders, the best first, without waiting long for any; return why if none has it: a lie if all lied."""
        answer: Manifest | PeerError = NoSuchFile("nobody who is alive has it")
        faults: list[PeerError] = []
        waiting = deque(holders)
        asked: set[asyncio.Task[Manifest | PeerError]] = set()
        try:
            while waiting or asked:
                if waiting:
                    asked.add(asyncio.create_task(self._request(id_, waiting.popleft())))
                patience = _HEDGE_DELAY if waiting else None
                done, asked = await asyncio.wait(asked, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    answer = task.result()
                    if isinstance(answer, Manifest):
                        return answer
                    faults.append(answer)
            return next((fault for fault in faults if not isinstance(fault, NotVerified)), answer)
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

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
            log.info("holders cannot be looked for now: %s", error)
            return ()
