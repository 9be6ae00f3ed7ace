"""The second half of an upload: pushes copies of shared files to peers that the tracker names, round by round."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from common.control_messages import Event, Fault, Hint, Notice, SourceView, Uploaded
from daemon.errors import NoActivePeer, NoSuchFile, PeerError
from daemon.models import PushTarget, Version
from daemon.runtime.batches import batched
from daemon.runtime.concurrency import Threads
from daemon.runtime.transfers import Transfer
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
        small = [file for file in files if file.version.size <= SMALL_FILE_MAX]
        batches = list(batched(small, _BATCH_FILES))
        batches += [[file] for file in files if file.version.size > SMALL_FILE_MAX]
        slots = asyncio.Semaphore(_BATCHES_AT_ONCE)

        async def replicate(batch: Sequence[SharedFile]) -> None:
            async with slots:
                await self._replicate_batch(batch, copies, transfer)

        async with asyncio.TaskGroup() as group:
            for batch in batches:
                group.create_task(replicate(batch))

    async def _replicate_batch(self, files: Sequence[SharedFile], copies: int, transfer: Transfer) -> None:
        try:
            plan = ReplicationPlan(files, copies, await self._complete_holders(files))
            while missing := plan.under_replicated(self.served_files.has):
                receivers = min(plan.receivers_needed(), _RECEIVERS_PER_ROUND)
                assigned = plan.assign(await self.tracker.place(missing, receivers))
                if not assigned:
                    break
                async with asyncio.TaskGroup() as group:
                    for address, targets in assigned.items():
                        group.create_task(self._push(address, targets, plan, transfer))
        except PeerError as error:
            for version, arguments in files:
                transfer.emit(Fault.of(error, version.name, arguments))
            return
        for event in plan.results():
            transfer.emit(event)

    async def _complete_holders(self, files: Sequence[SharedFile]) -> dict[str, list[str]]:
        """Return the addresses of the other peers that have each id complete."""
        found = await self.tracker.query(ids=list(dict.fromkeys(file.version.id for file in files)))
        return {held.version.id: [holder.address for holder in held.holders if holder.complete] for held in found}

    async def _push(
        self, address: str, targets: Sequence[PushTarget], plan: ReplicationPlan, transfer: Transfer
    ) -> None:
        """Push some files to one peer. A refusal is recorded, and the next round tries another peer."""
        view = _ReceiverView(address)

        def on_sent(size: int) -> None:
            view.bytes += size
            transfer.add_bytes(size)

        with transfer.show_sources(lambda: (view.show(transfer.rate),)):
            try:
                files = [(target, plan.version(target.id)) for target in targets]
                small = [Offer(version, target.ticket) for target, version in files if version.size <= SMALL_FILE_MAX]
                if small:
                    await self.batch_pusher.push(
                        address, small, lambda offer, error: plan.record(offer.version.id, address, error), on_sent
                    )
                for target, version in files:
                    if version.size > SMALL_FILE_MAX:
                        await self._push_large(target, version, transfer, on_sent)
                        plan.record(version.id, address, None)
            except PeerError as error:
                for target in targets:
                    if not plan.has_copy(target.id, address):
                        plan.record(target.id, address, error)

    async def _push_large(
        self, target: PushTarget, version: Version, transfer: Transfer, on_sent: Callable[[int], None]
    ) -> None:
        source = await self.threads.run(self.threads.disk, self.served_files.open_complete, version.id)
        try:
            transfer.counters.name = version.name
            await self.pusher.push(target.address, target.ticket, version.name, source, on_sent)
        finally:
            source.close()


@dataclass(slots=True)
class _Copies:
    """The copies of one file."""

    version: Version
    # Addresses of the peers that have it complete.
    holders: list[str]
    # Addresses of the peers that were asked to store it.
    tried: set[str] = field(default_factory=set)
    refusals: list[str] = field(default_factory=list)
    # This peer does not share it any more.
    removed: bool = False


class ReplicationPlan:
    """Which copies of some files exist, and which peers to push to next. No I/O."""

    def __init__(self, files: Sequence[SharedFile], copies: int, holders: Mapping[str, list[str]]) -> None:
        """Make a plan.

        Args:
            files: The files.
            copies: How many other peers should have each file.
            holders: By id, the addresses of the peers that have it complete already.
        """
        self._files = files
        self._wanted = copies
        self._copies = {version.id: _Copies(version, list(holders.get(version.id, ()))) for version, _ in self._files}

    def version(self, id_: str) -> Version:
        """Return the file of an id."""
        return self._copies[id_].version

    def has_copy(self, id_: str, address: str) -> bool:
        """Return whether a peer has a file complete."""
        return address in self._copies[id_].holders

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

    def assign(self, placed: Sequence[PushTarget]) -> dict[str, list[PushTarget]]:
        """Choose receivers for the missing copies. No peer is tried twice for one file.

        Args:
            placed: The receivers that the tracker named, the best first for each id.

        Returns:
            By address, the targets to push to now.
        """
        assigned: dict[str, list[PushTarget]] = {}
        chosen: dict[str, int] = {}
        for target in placed:
            copies = self._copies[target.id]
            missing = self._missing(copies) - chosen.get(target.id, 0)
            if missing > 0 and target.address not in copies.tried and target.address not in copies.holders:
                chosen[target.id] = chosen.get(target.id, 0) + 1
                copies.tried.add(target.address)
                assigned.setdefault(target.address, []).append(target)
        return assigned

    def record(self, id_: str, address: str, error: PeerError | None) -> None:
        """Record that a peer has stored a file, or why it has not."""
        copies = self._copies[id_]
        if error is None:
            copies.holders.append(address)
        else:
            log.info("%s was not stored: %s", copies.version.name, error)
            message = error.message if error.message.startswith(address) else f"{address}: {error.message}"
            copies.refusals.append(message)

    def results(self) -> Iterator[Event]:
        """Yield a result for each file, and a notice for each with fewer copies than wanted."""
        for version, arguments in self._files:
            copies = self._copies[version.id]
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
