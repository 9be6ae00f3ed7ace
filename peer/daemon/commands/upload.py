"""Uploads that this peer's own user orders: what lies at the paths is shared, then spread."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from common.control_messages import Fault, Notice, Phase, Uploaded
from daemon.commands.import_files import Importer, ImportItem
from daemon.commands.replicate import Replicator
from daemon.errors import BadUsage, PeerError, TrackerUnreachable
from daemon.library.library import LocalFile
from daemon.models import Version
from daemon.runtime.executors import Threads
from daemon.runtime.transfers import Transfer
from daemon.tracker_client.announcer import Announcer
from daemon.tracker_client.login import Account

_SHARED_LATER = "what was uploaded lies in the shared folder, and is announced once the tracker answers"


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadHandler:
    """Carries out upload orders."""

    account: Account
    announcer: Announcer
    importer: Importer
    replicator: Replicator
    threads: Threads

    async def run(self, paths: Sequence[str], copies: int, transfer: Transfer) -> None:
        """Share what lies at the paths and push it; tells the transfer a result for each file."""
        self.account.require_login()
        if not paths:
            raise BadUsage("name at least one file")
        shared = await self._share(await self._collect(paths, transfer), transfer)
        if not shared:
            return
        transfer.start_phase(Phase.PREPARING)
        await self._announce()
        versions = [Version(held.name, held.id, held.size) for held in shared]
        if copies == 0:
            for version in versions:
                transfer.emit(Uploaded(version.name, version.id, version.size, ()))
            return
        transfer.start_phase(Phase.MOVING, total=sum(version.size for version in versions) * copies)
        await self.replicator.replicate(versions, copies, transfer)

    async def fingerprints(self, paths: Sequence[str]) -> tuple[tuple[int, int] | None, ...]:
        """Return size and time of change of what lies at each path, or None: to know an order of the same again."""
        return await self.threads.run(self.threads.disk, lambda: tuple(map(_stamp, paths)))

    async def _announce(self) -> None:
        try:
            await self.announcer.sync()
        except TrackerUnreachable as error:
            raise TrackerUnreachable(f"{error.message} ({_SHARED_LATER})") from error

    async def _collect(self, paths: Sequence[str], transfer: Transfer) -> list[ImportItem]:
        """Return the files that the paths mean, each name once; what cannot be shared is told."""
        items: dict[str, ImportItem] = {}
        for path in paths:
            for found in await self.threads.run(self.threads.disk, self.importer.collect, path):
                if isinstance(found, Notice):
                    transfer.emit(found)
                elif isinstance(found, ImportItem):
                    if found.name in items and items[found.name].path != found.path:
                        fault = BadUsage("two files of one order would have the same name", name=found.name)
                        transfer.emit(Fault.of(fault))
                    else:
                        items[found.name] = found
                else:
                    transfer.counters.files_total += 1
                    transfer.emit(Fault.of(found[1], found[0]))
        return list(items.values())

    async def _share(self, items: Sequence[ImportItem], transfer: Transfer) -> list[LocalFile]:
        """Bring files into the shared folder where they are not, and hold them; those that fail are told."""
        transfer.counters.files_total += len(items)
        outside = sum(not item.inside for item in items)
        transfer.start_phase(
            Phase.COPYING if outside else Phase.HASHING,
            total=sum(item.size * (1 + (not item.inside)) for item in items),
        )
        loop = asyncio.get_running_loop()

        def tell(phase: Phase) -> Callable[[str, int], None]:
            def told(name: str, size: int) -> None:
                loop.call_soon_threadsafe(self._note, transfer, phase, name, size)

            return told

        shared: list[LocalFile] = []
        outcomes = await self.threads.run_cancellable(
            self.threads.disk,
            lambda stop: list(
                self.importer.share(items, stop=stop, on_copied=tell(Phase.COPYING), on_hashed=tell(Phase.HASHING))
            ),
        )
        for name, outcome in outcomes:
            if isinstance(outcome, PeerError):
                transfer.emit(Fault.of(outcome, name))
            else:
                shared.append(outcome)
        return shared

    @staticmethod
    def _note(transfer: Transfer, phase: Phase, name: str, size: int) -> None:
        transfer.counters.phase, transfer.counters.name = phase, name
        transfer.add_bytes(size)


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        # What is wrong with it is told by the order.
        return None
    return status.st_size, status.st_mtime_ns
