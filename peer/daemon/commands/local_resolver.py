"""What of a download order lies here: found, copied under another name or to outside, and told."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.control_messages import Downloaded, Phase
from daemon.commands.download_target import DownloadTarget
from daemon.commands.export import LocalCopier
from daemon.errors import PeerError, TargetExists
from daemon.library.library import Library
from daemon.library.scanner import Scanner
from daemon.models import RemoteFile
from daemon.runtime.executors import Threads
from daemon.transfer.file_download import DownloadStats

_PRESENT = DownloadStats(0.0, (), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalResolver:
    """Hands over what is here."""

    library: Library
    scanner: Scanner
    copier: LocalCopier
    announce: Callable[[], Awaitable[None]]
    threads: Threads
    shared_dir: Path

    async def refresh(self, order: DownloadTarget, items: Sequence[RemoteFile]) -> None:
        """Make the library true of what is asked for: no scan may have seen yet what lies here, or is gone."""
        names = {order.local_name(item) for item in items}
        names.update(held.name for item in items for held in self.library.by_id(item.version.id))
        if names:
            await self.threads.run_cancellable(
                self.threads.disk, lambda stop: self.scanner.index_files(sorted(names), stop=stop)
            )

    async def is_wanted(self, order: DownloadTarget, item: RemoteFile) -> bool:
        """Tell whether a version must be fetched; what lies here is done with, what cannot be is told."""
        name, id_ = order.local_name(item), item.version.id
        try:
            outside = order.copy_path_of(name)
            if outside is not None:
                await self.threads.run(self.threads.disk, self.copier.check_free, outside)
            held = self.library.by_name(name)
            # Found, too, under a name that differs in case only: one name at one peer.
            if held is not None and held.id != id_:
                first = "" if outside is None else ", and a download comes there first"
                raise TargetExists(
                    f"{held.name} lies in the shared folder with other contents{first}: rename or remove it, or "
                    "download this one with --output and another name (a word without /)",
                    name=name,
                )
            return not await self.use_local_copy(order, item)
        except PeerError as error:
            order.report_fault(item, error)
            return False

    async def use_local_copy(self, order: DownloadTarget, item: RemoteFile, *, queued: bool = False) -> bool:
        """Hand over a version that lies here under its name or another; False if it does not.

        `queued`: the order waited while another brought it, so that it is no file that lay here before.

        Raises:
            PeerError: if it cannot be copied to where it should.
        """
        name, id_ = order.local_name(item), item.version.id
        held = self.library.by_name(name)
        if held is not None and held.id == id_:
            if queued:
                await self.report_done(order, item, DownloadStats(order.elapsed, (), 0))
            else:
                await self.report_done(order, item, _PRESENT, here=held.name)
            return True
        if not self.library.by_id(id_):
            return False
        counters = order.transfer.counters
        counters.phase, counters.name = Phase.COPYING, name
        await self.copier.copy_within(id_, name)
        await self.announce()
        await self.report_done(order, item, DownloadStats(order.elapsed, (), 0))
        return True

    async def report_done(
        self, order: DownloadTarget, item: RemoteFile, brought: DownloadStats, *, here: str = ""
    ) -> None:
        """Make the copy outside, if one was ordered, and tell the result; `here` is the name of what lay here before.

        Raises:
            PeerError: if the copy cannot be made.
        """
        name, version = here or order.local_name(item), item.version
        outside = order.copy_path_of(name)
        if outside is not None:
            await self.copier.export(version.id, outside, make_folders=order.copy_into_folder)
        order.transfer.emit(
            Downloaded(
                name,
                version.id,
                version.size,
                str(outside or os.path.join(self.shared_dir, name)),
                brought.seconds,
                brought.holders,
                brought.resumed_bytes,
                bool(here) and outside is None,
            )
        )
