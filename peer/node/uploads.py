"""Uploads that this peer's own user orders: what is shared, and how copies are spread over other peers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from node.account import Account
from node.announcer import Announcer
from node.errors import BadUsage, NoActivePeer, PeerError
from node.events import Fault, Notice, Phase, SourceView, Uploaded
from node.jobs import Transfer
from node.library import Held
from node.model import Target, Version
from node.network import Network
from node.push import Pusher
from node.sharing import Sharing
from node.small_push import Offer, SmallPusher
from node.small_store import SMALL
from node.take_in import Item, TakeIn
from node.threads import Threads

log = logging.getLogger(__name__)

COPIES_MAX = 30
# Peers asked for beyond the copies that are wanted: one may refuse.
_SPARE = 2
# Small files that are placed and pushed together; larger ones are pushed so many at a time.
_PLACE = 1000
_AT_ONCE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploads:
    """Carries out upload orders."""

    account: Account
    announcer: Announcer
    network: Network
    take_in: TakeIn
    sharing: Sharing
    pusher: Pusher
    small_pusher: SmallPusher
    threads: Threads

    async def run(self, paths: Sequence[str], copies: int, transfer: Transfer) -> None:
        """Share what lies at the paths and push it; tells the transfer a result for each file."""
        self.account.require()
        if not paths:
            raise BadUsage("name at least one file")
        if not 0 <= copies <= COPIES_MAX:
            raise BadUsage(f"between 0 and {COPIES_MAX} copies can be asked for")
        shared = await self._share(paths, transfer)
        if not shared:
            return
        transfer.enter(Phase.PREPARING)
        await self.announcer.sync()
        versions = [Version(held.name, held.id, held.size) for held in shared]
        if copies == 0:
            for version in versions:
                transfer.tell(Uploaded(version.name, version.id, version.size, ()))
            return
        transfer.enter(Phase.MOVING, total=sum(version.size for version in versions) * copies)
        await self._spread_all(versions, copies, transfer)

    # -------------------------------------------------------------------------------------------------------- sharing

    async def _share(self, paths: Sequence[str], transfer: Transfer) -> list[Held]:
        items: dict[str, Item] = {}
        for path in paths:
            for found in await self.threads.run(self.threads.disk, lambda: list(self.take_in.collect(path))):  # noqa: B023  # awaited here
                if isinstance(found, Item):
                    if found.name in items and items[found.name].path != found.path:
                        fault = BadUsage("two files of one order would have the same name", name=found.name)
                        transfer.tell(Fault.of(fault))
                    else:
                        items[found.name] = found
                else:
                    transfer.counters.files_total += 1
                    transfer.tell(Fault.of(found[1], found[0]))
        transfer.counters.files_total += len(items)
        outside = sum(not item.inside for item in items.values())
        transfer.enter(
            Phase.COPYING if outside else Phase.HASHING,
            total=sum(item.size * (1 + (not item.inside)) for item in items.values()),
        )
        loop = asyncio.get_running_loop()

        def tell(phase: Phase) -> Callable[[str, int], None]:
            def told(name: str, size: int) -> None:
                loop.call_soon_threadsafe(self._note, transfer, phase, name, size)

            return told

        shared: list[Held] = []
        outcomes = await self.threads.run_stoppable(
            self.threads.disk,
            lambda stop: list(
                self.take_in.share(
                    list(items.values()), stop=stop, copied=tell(Phase.COPYING), hashed=tell(Phase.HASHING)
                )
            ),
        )
        for name, outcome in outcomes:
            if isinstance(outcome, PeerError):
                transfer.tell(Fault.of(outcome, name))
            else:
                shared.append(outcome)
        return shared

    @staticmethod
    def _note(transfer: Transfer, phase: Phase, name: str, size: int) -> None:
        transfer.counters.phase, transfer.counters.name = phase, name
        transfer.moved(size)

    # ------------------------------------------------------------------------------------------------------ spreading

    async def _spread_all(self, versions: Sequence[Version], copies: int, transfer: Transfer) -> None:
        small = [version for version in versions if version.size <= SMALL]
        turns = asyncio.Semaphore(_AT_ONCE)

        async def in_turn(batch: Sequence[Version]) -> None:
            async with turns:
                await _Spreading(self, batch, copies, transfer).run()

        async with asyncio.TaskGroup() as group:
            for at in range(0, len(small), _PLACE):
                group.create_task(in_turn(small[at : at + _PLACE]))
            for version in versions:
                if version.size > SMALL:
                    group.create_task(in_turn([version]))

    # What spreading needs of this peer.

    async def holders(self, versions: Sequence[Version]) -> dict[str, list[str]]:
        """Return who else holds these ids whole already."""
        found = await self.network.query(ids=list(dict.fromkeys(version.id for version in versions)))
        return {held.version.id: [holder.url for holder in held.holders if holder.complete] for held in found}

    async def place(self, versions: Sequence[Version], copies: int) -> list[Target]:
        """Return who should take copies."""
        return await self.network.place(versions, min(copies, COPIES_MAX))

    async def push_large(
        self, target: Target, version: Version, transfer: Transfer, on_sent: Callable[[int], None]
    ) -> None:
        """Push a file of several pieces."""
        source = await self.threads.run(self.threads.disk, self.sharing.open_whole, version.id)
        try:
            transfer.counters.name = version.name
            await self.pusher.push(target.url, target.ticket, version.name, source, on_sent)
        finally:
            source.close()

    async def push_small(
        self,
        url: str,
        offers: Sequence[Offer],
        settled: Callable[[Offer, PeerError | None], None],
        on_sent: Callable[[int], None],
    ) -> None:
        """Push files of one piece."""
        await self.small_pusher.push(url, offers, settled, on_sent)


@dataclass(slots=True)
class _Copies:
    """Where a file is, and who has been asked to take it."""

    version: Version
    holders: list[str]
    tried: set[str] = field(default_factory=set)
    refusals: list[str] = field(default_factory=list)


class _Spreading:
    """Copies of some files brought to other peers, until there are enough or nobody is left to ask."""

    def __init__(self, uploads: Uploads, versions: Sequence[Version], copies: int, transfer: Transfer) -> None:
        self._uploads = uploads
        self._versions = versions
        self._copies = copies
        self._transfer = transfer
        self._files: dict[str, _Copies] = {}

    async def run(self) -> None:
        try:
            holders = await self._uploads.holders(self._versions)
            self._files = {v.id: _Copies(v, holders.get(v.id, [])) for v in self._versions}
            while targets := await self._targets():
                async with asyncio.TaskGroup() as group:
                    for url, batch in targets.items():
                        group.create_task(self._push(url, batch))
            self._tell()
        except PeerError as error:
            for version in self._versions:
                self._transfer.tell(Fault.of(error, version.name))

    async def _targets(self) -> dict[str, list[Target]]:
        """Return whom to push to now, and what."""
        lacking = [copies for copies in self._files.values() if len(copies.holders) < self._copies]
        if not lacking:
            return {}
        most = max(self._copies - len(copies.holders) + len(copies.tried) for copies in lacking) + _SPARE
        targets: dict[str, list[Target]] = {}
        chosen: dict[str, int] = {}
        for target in await self._uploads.place([copies.version for copies in lacking], most):
            copies = self._files[target.id]
            wanted = self._copies - len(copies.holders) - chosen.get(target.id, 0)
            if wanted > 0 and target.url not in copies.tried and target.url not in copies.holders:
                chosen[target.id] = chosen.get(target.id, 0) + 1
                copies.tried.add(target.url)
                targets.setdefault(target.url, []).append(target)
        return targets

    async def _push(self, url: str, targets: Sequence[Target]) -> None:
        """Push some files to one peer; a refusal is noted, and the next peer is asked in the next round."""
        view = _View(url)

        def on_sent(size: int) -> None:
            view.bytes += size
            self._transfer.moved(size)

        with self._transfer.showing(lambda: (view.show(self._transfer.rate),)):
            try:
                small = [target for target in targets if self._files[target.id].version.size <= SMALL]
                if small:
                    offers = [Offer(self._files[target.id].version, target.ticket) for target in small]
                    await self._uploads.push_small(
                        url, offers, lambda o, e: self._settle(o.version.id, url, e), on_sent
                    )
                for target in targets:
                    version = self._files[target.id].version
                    if version.size > SMALL:
                        await self._uploads.push_large(target, version, self._transfer, on_sent)
                        self._settle(version.id, url, None)
            except PeerError as error:
                for target in targets:
                    if url not in self._files[target.id].holders:
                        self._settle(target.id, url, error)

    def _settle(self, id_: str, url: str, error: PeerError | None) -> None:
        copies = self._files[id_]
        if error is None:
            copies.holders.append(url)
        else:
            log.info("%s was not taken: %s", copies.version.name, error)
            copies.refusals.append(error.message if error.message.startswith(url) else f"{url}: {error.message}")

    def _tell(self) -> None:
        for version in self._versions:
            copies = self._files[version.id]
            why = "".join(f"; {refusal}" for refusal in dict.fromkeys(copies.refusals))
            if not copies.holders:
                message = (
                    f"no active peer to upload it to{why}: the file is shared from here; run it again when one is there"
                )
                self._transfer.tell(Fault.of(NoActivePeer(message, name=version.name)))
                continue
            if len(copies.holders) < self._copies:
                count = len(copies.holders)
                self._transfer.tell(Notice(f"{version.name}: {count} of {self._copies} copies{why}"))
            self._transfer.tell(Uploaded(version.name, version.id, version.size, tuple(copies.holders)))


@dataclass(slots=True)
class _View:
    """The receiver of a push, as people see it."""

    url: str
    bytes: int = 0

    def show(self, rate: float) -> SourceView:
        return SourceView(self.url, rate, self.bytes, "active", "")
