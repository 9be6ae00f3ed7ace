"""The upload command: shares the files at the user's paths, then pushes copies to other peers."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from common.control_messages import Fault, Notice, Phase, Uploaded
from daemon.commands.collect_files import Collector, ImportItem, Rejected
from daemon.commands.import_files import Importer
from daemon.commands.replicate import Replicator, SharedFile
from daemon.errors import BadUsage, PeerError, TrackerUnreachable
from daemon.runtime.concurrency import Threads, paced
from daemon.runtime.transfers import Transfer
from daemon.storage.fingerprints import Fingerprint
from daemon.tracker_client.announcer import Announcer
from daemon.tracker_client.login import Account

_ANNOUNCED_LATER = "the files are shared, and announced once the tracker answers"

# Files with the indexes, from 0, of the command's arguments that mean them.
_Items = dict[ImportItem, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadHandler:
    """Runs upload commands."""

    account: Account
    announcer: Announcer
    collector: Collector
    importer: Importer
    replicator: Replicator
    threads: Threads

    async def run(self, paths: Sequence[str], copies: int, transfer: Transfer, *, link: bool = False) -> None:
        """Share files and push copies of them.

        Args:
            paths: Absolute paths of files and folders.
            copies: How many other peers should have each file complete; 0 only shares.
            transfer: Gets a result for each file, and a fault for each path or file that cannot be shared.
            link: Whether files from outside are hard-linked into the shared folder instead of copied.

        Raises:
            NotLoggedIn: This peer is logged out.
            BadUsage: There are no paths.
            TrackerUnreachable: The files are shared, but not announced and not pushed.
        """
        self.account.require_login()
        if not paths:
            raise BadUsage("an upload needs at least one path")
        shared = await self._share(await self._collect(paths, transfer), transfer, link)
        if not shared:
            return
        transfer.start_phase(Phase.PREPARING)
        await self._announce()
        if copies == 0:
            async for version, arguments in paced(shared):
                transfer.emit(Uploaded(version.name, version.id, version.size, (), arguments))
            return
        transfer.start_phase(Phase.MOVING, total=sum(file.version.size for file in shared) * copies)
        await self.replicator.replicate(shared, copies, transfer)

    async def fingerprints(self, paths: Sequence[str]) -> tuple[Fingerprint | None, ...]:
        """Return the fingerprint of each path; None for one that cannot be read.

        Two upload commands are the same only if these are.
        """
        return await self.threads.run(self.threads.disk, lambda: tuple(map(_fingerprint, paths)))

    async def _announce(self) -> None:
        try:
            await self.announcer.sync()
        except TrackerUnreachable as error:
            raise TrackerUnreachable(f"{error.message} ({_ANNOUNCED_LATER})") from error

    async def _collect(self, paths: Sequence[str], transfer: Transfer) -> _Items:
        """Return the files that the paths mean; notices and what cannot be shared go to the transfer."""
        positions: defaultdict[str, tuple[int, ...]] = defaultdict(tuple)
        for position, path in enumerate(paths):
            positions[path] += (position,)
        items: _Items = {}
        by_name: dict[str, ImportItem] = {}
        for path, arguments in positions.items():
            async for found in paced(await self.threads.run(self.threads.disk, self.collector.collect, path)):
                if isinstance(found, Notice):
                    transfer.emit(found)
                elif isinstance(found, Rejected):
                    transfer.counters.files_total += 1
                    transfer.emit(Fault.of(found.error, found.name, arguments))
                elif by_name.setdefault(found.name, found).path == found.path:
                    first = by_name[found.name]
                    items[first] = tuple(sorted({*items.get(first, ()), *arguments}))
                else:
                    transfer.counters.files_total += 1
                    fault = BadUsage(f"{found.name}: two files of one upload cannot have the same name")
                    transfer.emit(Fault.of(fault, found.name, arguments))
        return items

    async def _share(self, items: _Items, transfer: Transfer, link: bool) -> list[SharedFile]:
        """Import files into the shared folder and the library; failures go to the transfer."""
        transfer.counters.files_total += len(items)
        # What is outside the shared folder is copied, then hashed.
        copied = [] if link else [item for item in items if not item.inside]
        total = sum(item.size for item in [*items, *copied])
        transfer.start_phase(Phase.COPYING if copied else Phase.HASHING, total=total)
        loop = asyncio.get_running_loop()

        def counter(phase: Phase) -> Callable[[str, int], None]:
            def on_bytes(name: str, count: int) -> None:
                loop.call_soon_threadsafe(_count, transfer, phase, name, count)

            return on_bytes

        outcomes = await self.threads.run_cancellable(
            self.threads.disk,
            lambda stop: list(
                self.importer.share(
                    list(items),
                    link=link,
                    stop=stop,
                    on_copied=counter(Phase.COPYING),
                    on_hashed=counter(Phase.HASHING),
                )
            ),
        )
        shared: list[SharedFile] = []
        async for imported in paced(outcomes):
            if isinstance(imported, Notice):
                transfer.emit(imported)
                continue
            item, outcome = imported
            if isinstance(outcome, PeerError):
                transfer.emit(Fault.of(outcome, item.name, items[item]))
            else:
                shared.append(SharedFile(outcome.version, items[item]))
        return shared


def _count(transfer: Transfer, phase: Phase, name: str, count: int) -> None:
    transfer.counters.phase, transfer.counters.name = phase, name
    transfer.add_bytes(count)


def _fingerprint(path: str) -> Fingerprint | None:
    try:
        return Fingerprint.from_stat(os.stat(path))
    except (OSError, ValueError):
        # The command reports what is wrong with the path.
        return None
