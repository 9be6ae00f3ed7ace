"""The second half of an upload: pushes copies of shared files to peers that the tracker names, round by round.

A copy is content under a name: of two names with the same content each has copies of its own, and the bytes are sent to
a receiver once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from common.control_messages import Event, Fault, Hint, Notice, SourceView, Uploaded
from daemon.errors import Incompatible, NoActivePeer, NoSuchFile, PeerError, TargetExists
from daemon.models import PushTarget, RemoteFile, Version
from daemon.runtime.batches import batched
from daemon.runtime.concurrency import Threads
from daemon.runtime.transfers import Transfer
from daemon.storage.names import fold
from daemon.tracker_client.client import TrackerClient
from daemon.transfer.batch_push import BatchPusher, Offer
from daemon.transfer.batch_store import SMALL_FILE_MAX
from daemon.transfer.push import Pusher
from daemon.transfer.served_files import ServedFiles

log = logging.getLogger(__name__)

# Receivers of one placement. More copies take several rounds.
_RECEIVERS_PER_ROUND = 30
# Receivers requested beyond the missing copies, because some may refuse.
_SPARE_RECEIVERS = 2
# Small files that are placed and pushed together.
_BATCH_FILES = 1000
# Batches, or large files, that are pushed at once.
_BATCHES_AT_ONCE = 2

# Folded name and id.
_Key = tuple[str, str]


class SharedFile(NamedTuple):
    """A file of an upload command that is in the shared folder."""

    version: Version
    # Indexes, from 0, of the command's arguments that mean it.
    arguments: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicator:
    """Pushes copies of files that are shared and announced."""

    tracker: TrackerClient
    served_files: ServedFiles
    pusher: Pusher
    batch_pusher: BatchPusher
    threads: Threads

    async def replicate(self, files: Sequence[SharedFile], copies: int, transfer: Transfer) -> None:
        """Push files until enough other peers have each of them complete.

        Args:
            files: The files.
            copies: How many other peers should have each file, at least 1.
            transfer: Gets a result for each file.
        """
        by_id: defaultdict[str, list[SharedFile]] = defaultdict(list)
        for file in files:
            by_id[file.version.id].append(file)
        # Names of one content are placed together, so that they go to the same receivers.
        small = [file for names in by_id.values() for file in names if file.version.size <= SMALL_FILE_MAX]
        batches = list(batched(small, _BATCH_FILES))
        batches += [names for names in by_id.values() if names[0].version.size > SMALL_FILE_MAX]
        slots = asyncio.Semaphore(_BATCHES_AT_ONCE)

        async def replicate(batch: Sequence[SharedFile]) -> None:
            async with slots:
                await self._replicate_batch(batch, copies, transfer)

        async with asyncio.TaskGroup() as group:
            for batch in batches:
                group.create_task(replicate(batch))

    async def _by_room(self, files: Sequence[Version]) -> Sequence[Version]:
        """Return files with the disk space that they need as their size, for the choice of receivers."""
        if files[0].size <= SMALL_FILE_MAX:
            return files
        # A batch of large files is one content.
        room = await self.threads.run(self.threads.disk, self.served_files.data_bytes, files[0].id)
        return [file._replace(size=room) for file in files]

    async def _replicate_batch(self, files: Sequence[SharedFile], copies: int, transfer: Transfer) -> None:
        try:
            plan = ReplicationPlan(files, copies, await self._find_copies([file.version for file in files]))
            while missing := plan.under_replicated(self.served_files.has):
                receivers = min(plan.receivers_needed(), _RECEIVERS_PER_ROUND)
                assigned = plan.assign(await self.tracker.place(await self._by_room(missing), receivers))
                if not assigned:
                    break
                async with asyncio.TaskGroup() as group:
                    for address, offers in assigned.items():
                        group.create_task(self._push(address, offers, plan, transfer))
        except PeerError as error:
            for version, arguments in files:
                transfer.emit(Fault.of(error, version.name, arguments))
            return
        for event in plan.results():
            transfer.emit(event)

    async def _find_copies(self, versions: Sequence[Version]) -> list[RemoteFile]:
        """Return what the tracker knows about some files and their holders."""
        found = await self.tracker.query(names=list(dict.fromkeys(version.name for version in versions)))
        known = {_key(file.version) for file in found}
        # The response has a limited number of versions of each name.
        rest = list(dict.fromkeys(version.id for version in versions if _key(version) not in known))
        return found + await self.tracker.query(ids=rest) if rest else found

    async def _push(self, address: str, offers: Sequence[Offer], plan: ReplicationPlan, transfer: Transfer) -> None:
        """Push some files to one peer. A refusal is recorded, and the next round tries another peer."""
        view = _ReceiverView(address)
        unresolved = dict.fromkeys(offers)

        def on_sent(size: int) -> None:
            view.bytes += size
            transfer.add_bytes(size)

        def on_result(offer: Offer, error: PeerError | None) -> None:
            del unresolved[offer]
            plan.record(offer.version, address, error)

        with transfer.show_sources(lambda: (view.show(transfer.rate),)):
            try:
                small = [offer for offer in offers if offer.version.size <= SMALL_FILE_MAX]
                if small:
                    await self.batch_pusher.push(address, small, on_result, on_sent)
                for offer in list(unresolved):
                    on_result(offer, await self._push_large(address, offer, transfer, on_sent))
            except PeerError as error:
                for offer in unresolved:
                    plan.record(offer.version, address, error)

    async def _push_large(
        self, address: str, offer: Offer, transfer: Transfer, on_sent: Callable[[int], None]
    ) -> PeerError | None:
        """Push a file; return the error if it is about this name, so that other names of the content may be pushed."""
        version = offer.version
        source = await self.threads.run(self.threads.disk, self.served_files.open_complete, version.id)
        try:
            transfer.counters.name = version.name
            await self.pusher.push(address, offer.ticket, version, source, on_sent)
        except (Incompatible, TargetExists) as error:
            return error
        finally:
            source.close()
        return None


@dataclass(slots=True)
class _Copies:
    """The copies of one file."""

    version: Version
    # Addresses of the peers that have it complete under this name.
    holders: list[str]
    # Addresses of the peers that were asked to store it.
    tried: set[str] = field(default_factory=set)
    refusals: list[str] = field(default_factory=list)
    # This peer does not share it any more.
    removed: bool = False


class ReplicationPlan:
    """Which copies of some files exist, and which peers to push to next. No I/O."""

    def __init__(self, files: Sequence[SharedFile], copies: int, found: Iterable[RemoteFile]) -> None:
        """Make a plan.

        Args:
            files: The files.
            copies: How many other peers should have each file under its name.
            found: What the tracker knows about the files; others are ignored.
        """
        self._files = files
        self._wanted = copies
        self._copies = {_key(version): _Copies(version, []) for version, _ in files}
        # The files of each id.
        self._by_id: defaultdict[str, list[_Copies]] = defaultdict(list)
        for each in self._copies.values():
            self._by_id[each.version.id].append(each)
        for key, addresses in _complete_holders(found).items():
            if key in self._copies:
                self._copies[key].holders += addresses

    def under_replicated(self, is_shared: Callable[[str], bool]) -> list[Version]:
        """Return the files that have too few copies.

        Args:
            is_shared: Whether this peer still shares an id. A file that it does not share is given up.
        """
        for copies in self._copies.values():
            if self._missing(copies) and not is_shared(copies.version.id):
                copies.removed = True
        return [copies.version for copies in self._copies.values() if self._missing(copies)]

    def receivers_needed(self) -> int:
        """Return how many receivers a placement should name, so that each missing copy has one that was not tried."""
        incomplete = [copies for copies in self._copies.values() if self._missing(copies)]
        return max(self._missing(copies) + len(copies.tried) for copies in incomplete) + _SPARE_RECEIVERS

    def assign(self, placed: Sequence[PushTarget]) -> dict[str, list[Offer]]:
        """Choose receivers for the missing copies. No peer is tried twice for one file.

        Args:
            placed: The receivers that the tracker named, the best first for each file. One without a name is for all
                files of its id.

        Returns:
            By address, the files to push now.
        """
        assigned: dict[str, list[Offer]] = {}
        chosen: dict[_Key, int] = {}
        for target in placed:
            for copies in self._copies_of(target):
                key = _key(copies.version)
                missing = self._missing(copies) - chosen.get(key, 0)
                if missing > 0 and target.address not in copies.tried and target.address not in copies.holders:
                    chosen[key] = chosen.get(key, 0) + 1
                    copies.tried.add(target.address)
                    assigned.setdefault(target.address, []).append(Offer(copies.version, target.ticket))
        return assigned

    def record(self, version: Version, address: str, error: PeerError | None) -> None:
        """Record that a peer has stored a file, or why it has not."""
        copies = self._copies[_key(version)]
        if error is None:
            copies.holders.append(address)
        else:
            log.info("%s was not stored: %s", version.name, error)
            message = error.message if error.message.startswith(address) else f"{address}: {error.message}"
            copies.refusals.append(message)

    def results(self) -> Iterator[Event]:
        """Yield a result for each file, and a notice for each with fewer copies than wanted."""
        for version, arguments in self._files:
            copies = self._copies[_key(version)]
            why = "".join(f"; {refusal}" for refusal in dict.fromkeys(copies.refusals))
            if copies.removed:
                stored = f"; {', '.join(copies.holders)} has a copy" if copies.holders else ""
                message = f"{version.name} was removed or changed during the upload{stored}"
                yield Fault.of(NoSuchFile(message, hint=Hint.REPEAT), version.name, arguments)
                continue
            if not copies.holders:
                none = "no online peer stored a copy" if why else "no peer is online to store a copy"
                message = f"{version.name} is shared, but {none}{why}"
                yield Fault.of(NoActivePeer(message, hint=Hint.REPEAT_LATER), version.name, arguments)
                continue
            if self._missing(copies):
                count = f"{len(copies.holders)} of {self._wanted} copies"
                yield Notice(f"{version.name}: {count}{why}; no other eligible peer is online")
            yield Uploaded(version.name, version.id, version.size, tuple(copies.holders), arguments)

    def _copies_of(self, target: PushTarget) -> Iterable[_Copies]:
        """Return the files that a receiver was named for."""
        if not target.name:
            return self._by_id.get(target.id, ())
        copies = self._copies.get((fold(target.name), target.id))
        return () if copies is None else (copies,)

    def _missing(self, copies: _Copies) -> int:
        # Nothing more is pushed of a file that this peer does not share any more.
        return 0 if copies.removed else max(0, self._wanted - len(copies.holders))


@dataclass(slots=True)
class _ReceiverView:
    """The receiver of a push, as the progress shows it."""

    address: str
    bytes: int = 0

    def show(self, rate: float) -> SourceView:
        return SourceView(self.address, rate, self.bytes, "active", "")


def _key(version: Version) -> _Key:
    return fold(version.name), version.id


def _complete_holders(found: Iterable[RemoteFile]) -> Mapping[_Key, list[str]]:
    """Return the addresses of the peers that have each file complete under its name."""
    return {
        _key(file.version): [holder.address for holder in file.holders if holder.complete and holder.has_name]
        for file in found
    }
