"""Copies of shared files brought to other peers, round by round, until there are enough or nobody is left to ask."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from common.control_messages import Event, Fault, Notice, SourceView, Uploaded
from daemon.errors import NoActivePeer, NoSuchFile, PeerError
from daemon.models import PushTarget, Version
from daemon.runtime.executors import Threads
from daemon.runtime.transfers import Transfer
from daemon.tracker_client.client import TrackerClient
from daemon.transfer.batch_push import BatchPusher, Offer
from daemon.transfer.batch_store import SMALL_FILE_MAX
from daemon.transfer.push import Pusher
from daemon.transfer.served_files import ServedFiles

log = logging.getLogger(__name__)

# Peers that the tracker names at once; more copies are brought about in several rounds.
_TARGETS_AT_ONCE = 30
# Peers asked for beyond the copies that are wanted: one may refuse.
_SPARE = 2
# Small files that are placed and pushed together; larger ones are pushed so many at a time.
_PLACE = 1000
_AT_ONCE = 2
_GONE = "removed or changed meanwhile: it is pushed no further; run it again to push what lies there now"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicator:
    """Spreads files that lie in the shared folder and are announced."""

    tracker: TrackerClient
    sharing: ServedFiles
    pusher: Pusher
    small_pusher: BatchPusher
    threads: Threads

    async def replicate(self, versions: Sequence[Version], copies: int, transfer: Transfer) -> None:
        """Have so many other peers hold each file; tells the transfer a result for each."""
        small = [version for version in versions if version.size <= SMALL_FILE_MAX]
        turns = asyncio.Semaphore(_AT_ONCE)

        async def in_turn(batch: Sequence[Version]) -> None:
            async with turns:
                await self._spread(batch, copies, transfer)

        async with asyncio.TaskGroup() as group:
            for at in range(0, len(small), _PLACE):
                group.create_task(in_turn(small[at : at + _PLACE]))
            for version in versions:
                if version.size > SMALL_FILE_MAX:
                    group.create_task(in_turn([version]))

    async def _spread(self, versions: Sequence[Version], copies: int, transfer: Transfer) -> None:
        try:
            spread = ReplicationPlan(versions, copies, await self._holders(versions))
            while lacking := spread.under_replicated(self.sharing.has):
                targets = spread.assign(await self.tracker.place(lacking, min(spread.peers_needed(), _TARGETS_AT_ONCE)))
                if not targets:
                    break
                async with asyncio.TaskGroup() as group:
                    for url, batch in targets.items():
                        group.create_task(self._push(url, batch, spread, transfer))
        except PeerError as error:
            for version in versions:
                transfer.emit(Fault.of(error, version.name))
            return
        for event in spread.results():
            transfer.emit(event)

    async def _holders(self, versions: Sequence[Version]) -> dict[str, list[str]]:
        """Return who else holds these ids whole already."""
        found = await self.tracker.query(ids=list(dict.fromkeys(version.id for version in versions)))
        return {held.version.id: [holder.address for holder in held.holders if holder.complete] for held in found}

    async def _push(self, url: str, targets: Sequence[PushTarget], spread: ReplicationPlan, transfer: Transfer) -> None:
        """Push some files to one peer; a refusal is noted, and the next peer is asked in the next round."""
        view = _ReceiverView(url)

        def on_sent(size: int) -> None:
            view.bytes += size
            transfer.add_bytes(size)

        with transfer.show_sources(lambda: (view.show(transfer.rate),)):
            try:
                files = [(target, spread.version(target.id)) for target in targets]
                small = [Offer(version, target.ticket) for target, version in files if version.size <= SMALL_FILE_MAX]
                if small:
                    await self.small_pusher.push(
                        url, small, lambda offer, error: spread.record(offer.version.id, url, error), on_sent
                    )
                for target, version in files:
                    if version.size > SMALL_FILE_MAX:
                        await self._push_large(target, version, transfer, on_sent)
                        spread.record(version.id, url, None)
            except PeerError as error:
                for target in targets:
                    if not spread.is_holder(target.id, url):
                        spread.record(target.id, url, error)

    async def _push_large(
        self, target: PushTarget, version: Version, transfer: Transfer, on_sent: Callable[[int], None]
    ) -> None:
        source = await self.threads.run(self.threads.disk, self.sharing.open_complete, version.id)
        try:
            transfer.counters.name = version.name
            await self.pusher.push(target.address, target.ticket, version.name, source, on_sent)
        finally:
            source.close()


@dataclass(slots=True)
class _Copies:
    """Where a file is, and who has been asked to take it."""

    version: Version
    holders: list[str]
    tried: set[str] = field(default_factory=set)
    refusals: list[str] = field(default_factory=list)
    # It is not here any more.
    removed: bool = False


class ReplicationPlan:
    """What has been reached for some files, and whom to ask next. Asks nobody itself."""

    def __init__(self, versions: Sequence[Version], copies: int, holders: Mapping[str, list[str]]) -> None:
        """`copies` are wanted of each; `holders` are the peers that have an id whole already."""
        self._versions = versions
        self._copies = copies
        self._files = {version.id: _Copies(version, list(holders.get(version.id, ()))) for version in versions}

    def version(self, id_: str) -> Version:
        """Return one of the files."""
        return self._files[id_].version

    def is_holder(self, id_: str, url: str) -> bool:
        """Tell whether a peer holds a file."""
        return url in self._files[id_].holders

    def under_replicated(self, is_shared: Callable[[str], bool]) -> list[Version]:
        """Return the files that have too few holders; those whose id is not `held` here any more are given up."""
        for copies in self._files.values():
            if self._missing(copies) and not is_shared(copies.version.id):
                copies.removed = True
        return [copies.version for copies in self._files.values() if self._missing(copies)]

    def peers_needed(self) -> int:
        """Return how many peers to look for, so that each copy that is lacking has one who was not asked yet."""
        lacking = [copies for copies in self._files.values() if self._missing(copies)]
        return max(self._missing(copies) + len(copies.tried) for copies in lacking) + _SPARE

    def assign(self, placed: Sequence[PushTarget]) -> dict[str, list[PushTarget]]:
        """Return whom to push to now, and what, of those who might take copies. Nobody is asked twice."""
        targets: dict[str, list[PushTarget]] = {}
        chosen: dict[str, int] = {}
        for target in placed:
            copies = self._files[target.id]
            wanted = self._missing(copies) - chosen.get(target.id, 0)
            if wanted > 0 and target.address not in copies.tried and target.address not in copies.holders:
                chosen[target.id] = chosen.get(target.id, 0) + 1
                copies.tried.add(target.address)
                targets.setdefault(target.address, []).append(target)
        return targets

    def record(self, id_: str, url: str, error: PeerError | None) -> None:
        """Note that a peer took a file, or why not."""
        copies = self._files[id_]
        if error is None:
            copies.holders.append(url)
        else:
            log.info("%s was not taken: %s", copies.version.name, error)
            copies.refusals.append(error.message if error.message.startswith(url) else f"{url}: {error.message}")

    def results(self) -> Iterator[Event]:
        """Yield what became of each file."""
        for version in self._versions:
            copies = self._files[version.id]
            why = "".join(f"; {refusal}" for refusal in dict.fromkeys(copies.refusals))
            if copies.removed:
                has = f"; {', '.join(copies.holders)} has a copy" if copies.holders else ""
                yield Fault.of(NoSuchFile(f"{_GONE}{has}", name=version.name))
                continue
            if not copies.holders:
                message = f"nobody took a copy{why}: the file is shared from here; run it again when a peer is there"
                yield Fault.of(NoActivePeer(message, name=version.name))
                continue
            if self._missing(copies):
                yield Notice(
                    f"{version.name}: {len(copies.holders)} of {self._copies} copies{why}; no other peer has room or "
                    "lacks it: run it again when more are there"
                )
            yield Uploaded(version.name, version.id, version.size, tuple(copies.holders))

    def _missing(self, copies: _Copies) -> int:
        # Of what is not here any more nobody is to get a copy.
        return 0 if copies.removed else max(0, self._copies - len(copies.holders))


@dataclass(slots=True)
class _ReceiverView:
    """The receiver of a push, as people see it."""

    url: str
    bytes: int = 0

    def show(self, rate: float) -> SourceView:
        return SourceView(self.url, rate, self.bytes, "active", "")
