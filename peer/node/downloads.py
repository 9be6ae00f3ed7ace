"""Downloads that this peer's own user orders: what is wanted, what lies here already, what is fetched, where to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from node.account import Account
from node.announcer import Announcer
from node.errors import BadUsage, PeerError, TargetExists
from node.events import Downloaded, Fault, Phase
from node.fetch import Brought, Fetcher, Sources
from node.jobs import Transfer
from node.library import Library
from node.limits import Locks
from node.local_copy import LocalCopier
from node.manifests import Manifests
from node.model import HeldVersion, Holder, Version
from node.names import check_name
from node.network import Network
from node.peer_client import Peers
from node.resolve import Resolver
from node.scanner import Scanner
from node.small_fetch import SmallFetcher
from node.small_store import SMALL
from node.threads import Threads

log = logging.getLogger(__name__)

# Files of several pieces that one order fetches at once: the next ones' beginnings overlap with this one's end.
_AT_ONCE = 3
# A push of the same file may go on for so many seconds before it must give way.
_PUSH_PATIENCE = 5.0
# Small files that are looked up, fetched and announced together: as many as come before their tickets expire.
_LOOK_UP = 4000
_LOOK_UP_BYTES = 128 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloads:
    """Carries out download orders."""

    account: Account
    announcer: Announcer
    network: Network
    library: Library
    scanner: Scanner
    peers: Peers
    manifests: Manifests
    fetcher: Fetcher
    small_fetcher: SmallFetcher
    copier: LocalCopier
    locks: Locks
    threads: Threads
    clock: Callable[[], float]
    shared_dir: Path
    # Ends a push of an id that is under way.
    give_way: Callable[[str], None]

    async def run(self, names: Sequence[str], output: str, transfer: Transfer) -> None:
        """Fetch what the arguments mean; tells the transfer a result for each file."""
        self.account.require()
        if not names:
            raise BadUsage("name at least one file")
        resolver = Resolver(self.network, self.library)
        resolved = await resolver.resolve(names)
        order = _Order(self, transfer, output, several=len(resolved) > 1 or any(n.endswith("/") for n in names))
        transfer.counters.files_total = len(resolved)
        await order.look_here([item for item in resolved if not isinstance(item, tuple)])
        wanted: list[HeldVersion] = []
        for item in resolved:
            if isinstance(item, tuple):
                transfer.tell(Fault.of(item[1], item[0]))
            elif await order.is_wanted(item):
                wanted.append(item)
        transfer.enter(Phase.MOVING, total=sum(item.version.size for item in wanted))
        await order.fetch(wanted)

    async def look_up(self, ids: Sequence[str]) -> list[HeldVersion]:
        """Return versions of ids with holders and fresh tickets."""
        return await self.network.query(ids=ids)


class _Order:
    """One download order."""

    def __init__(self, peer: Downloads, transfer: Transfer, output: str, *, several: bool) -> None:
        self._peer = peer
        self._transfer = transfer
        self._began = peer.clock()
        self._rename = output if output and "/" not in output else ""
        self._outside = Path(output) if "/" in output else None
        if self._outside is not None and not self._outside.is_absolute():
            raise BadUsage("a path for a copy outside the shared folder is an absolute one")
        if several and self._rename:
            raise BadUsage("another name is for one file: name a folder to copy several to")
        if self._rename:
            check_name(self._rename)
        self._into_folder = self._outside is not None and (several or output.endswith("/") or self._outside.is_dir())

    def _name(self, item: HeldVersion) -> str:
        """Return the name that a version gets here."""
        return self._rename or item.version.name

    async def look_here(self, items: Sequence[HeldVersion]) -> None:
        """Make the library true of what is asked for: no scan may have seen yet what lies here, or is gone."""
        peer = self._peer
        names = {self._name(item) for item in items}
        names.update(held.name for item in items for held in peer.library.by_id(item.version.id))
        if names:
            await peer.threads.run_stoppable(
                peer.threads.disk, lambda stop: peer.scanner.take(sorted(names), stop=stop)
            )

    async def is_wanted(self, item: HeldVersion) -> bool:
        """Tell whether a version must be fetched; what lies here is done with, what cannot be is told."""
        name, id_ = self._name(item), item.version.id
        try:
            outside = self._target(name)
            if outside is not None:
                await self._peer.threads.run(self._peer.threads.disk, self._peer.copier.check_target, outside)
            held = self._peer.library.by_name(name)
            if held is not None and held.id == id_ and held.name == name:
                await self._finish(item, held.name, Brought(0.0, (), 0), present=True)
                return False
            if held is not None:
                raise TargetExists(
                    f"{held.name} lies in the shared folder with other contents: choose another name with --output",
                    name=name,
                )
            if self._peer.library.by_id(id_):
                await self._copy_own(item, name)
                return False
        except PeerError as error:
            self._transfer.tell(Fault.of(error, item.version.name))
            return False
        return True

    async def fetch(self, wanted: Sequence[HeldVersion]) -> None:
        """Fetch small files together, the others a few at a time."""
        small = [item for item in wanted if item.version.size <= SMALL]
        large = [item for item in wanted if item.version.size > SMALL]
        turns = asyncio.Semaphore(_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            if small:
                group.create_task(self._fetch_small(small))
            for item in large:
                await turns.acquire()
                group.create_task(self._fetch_large(item)).add_done_callback(lambda _: turns.release())

    # ---------------------------------------------------------------------------------------------------- small files

    async def _fetch_small(self, files: list[HeldVersion]) -> None:
        for batch in _batches(files):
            try:
                await self._fetch_batch(batch)
            except PeerError as error:
                for item in batch:
                    self._transfer.tell(Fault.of(error, item.version.name))
            await self._peer.announcer.try_sync()

    async def _fetch_batch(self, batch: list[HeldVersion]) -> None:
        found = {file.version.id: file.holders for file in await self._peer.look_up([i.version.id for i in batch])}
        wanted = [
            HeldVersion(_renamed(item, self._name(item)), found.get(item.version.id, item.holders)) for item in batch
        ]
        arrived: list[tuple[HeldVersion, tuple[str, ...]]] = []

        def outcome(item: HeldVersion, holders: tuple[str, ...], fault: PeerError | None) -> None:
            if fault is not None:
                self._transfer.tell(Fault.of(fault, item.version.name))
            else:
                arrived.append((item, holders))

        await self._peer.small_fetcher.bring(
            wanted, self._transfer, outcome, self._peer.look_up, self._peer.network.report
        )
        seconds = self._peer.clock() - self._began
        for item, holders in arrived:
            await self._finish_safely(item, item.version.name, Brought(seconds, holders, 0))

    # ---------------------------------------------------------------------------------------------------- large files

    async def _fetch_large(self, item: HeldVersion) -> None:
        name, id_ = self._name(item), item.version.id
        try:
            async with self._in_turn(id_):
                held = self._peer.library.by_name(name)
                if held is not None and held.id == id_:
                    await self._finish(item, name, Brought(0.0, (), 0), present=True)
                    return
                if self._peer.library.by_id(id_):
                    # Fetched under another name while this one waited.
                    await self._copy_own(item, name)
                    return
                self._transfer.counters.name = name
                manifest = await self._peer.manifests.find(item, self._wait)
                sources = Sources(
                    dial=lambda holder, pieces: self._peer.peers.download(holder.url, holder.ticket, pieces),
                    find=lambda: self._find(id_),
                    known=item.holders,
                    on_liar=lambda holder, why: self._peer.network.report(id_, holder, why),
                )
                brought = await self._peer.fetcher.bring(manifest, name, self._transfer, sources)
            await self._peer.announcer.try_sync()
            await self._finish(item, name, brought)
        except PeerError as error:
            self._transfer.tell(Fault.of(error, item.version.name))

    @asynccontextmanager
    async def _in_turn(self, id_: str) -> AsyncIterator[None]:
        """Hold the id's lock; a pusher that has it and takes its time is not waited for."""
        patience = asyncio.get_running_loop().call_later(_PUSH_PATIENCE, self._peer.give_way, id_)
        try:
            async with self._peer.locks.of(id_):
                patience.cancel()
                yield
        finally:
            patience.cancel()

    async def _find(self, id_: str) -> tuple[Holder, ...]:
        return next((found.holders for found in await self._peer.look_up([id_])), ())

    def _wait(self) -> None:
        self._transfer.counters.phase = Phase.WAITING

    # -------------------------------------------------------------------------------------------------------- endings

    async def _copy_own(self, item: HeldVersion, name: str) -> None:
        """The contents lie here under another name: no need to fetch them."""
        self._transfer.counters.phase, self._transfer.counters.name = Phase.COPYING, name
        await self._peer.copier.copy_own(item.version.id, name)
        await self._peer.announcer.try_sync()
        await self._finish(item, name, Brought(self._peer.clock() - self._began, (), 0))

    async def _finish_safely(self, item: HeldVersion, name: str, brought: Brought) -> None:
        try:
            await self._finish(item, name, brought)
        except PeerError as error:
            self._transfer.tell(Fault.of(error, item.version.name))

    async def _finish(self, item: HeldVersion, name: str, brought: Brought, *, present: bool = False) -> None:
        """Make the copy outside, if one was ordered, and tell the result."""
        path = self._peer.shared_dir / name
        outside = self._target(name)
        if outside is not None:
            await self._peer.copier.copy_out(item.version.id, outside, make_folders=self._into_folder)
            path = outside
        version = item.version
        self._transfer.tell(
            Downloaded(
                name,
                version.id,
                version.size,
                str(path),
                brought.seconds,
                brought.holders,
                brought.resumed_bytes,
                present and outside is None,
            )
        )

    def _target(self, name: str) -> Path | None:
        """Return where a copy outside goes."""
        if self._outside is None or not self._into_folder:
            return self._outside
        return self._outside / name


def _renamed(item: HeldVersion, name: str) -> Version:
    return Version(name, item.version.id, item.version.size)


def _batches(files: Iterable[HeldVersion]) -> Iterator[list[HeldVersion]]:
    batch: list[HeldVersion] = []
    size = 0
    for file in files:
        if len(batch) == _LOOK_UP or (batch and size + file.version.size > _LOOK_UP_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.version.size
    if batch:
        yield batch
