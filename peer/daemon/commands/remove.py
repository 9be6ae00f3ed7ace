"""This peer's own copies deleted and withdrawn, at the word of its own user."""

from __future__ import annotations

import asyncio
import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from common.control_messages import Fault, Phase, Removed
from daemon.errors import NoSuchFile, PeerError
from daemon.library.library import Library, LocalFile
from daemon.runtime.executors import Threads
from daemon.runtime.transfers import Transfer
from daemon.storage.names import fold, is_pattern
from daemon.storage.shared_folder import SharedFolder
from daemon.tracker_client.announcer import Announcer


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveHandler:
    """Deletes shared files."""

    folder: SharedFolder
    library: Library
    announcer: Announcer
    threads: Threads

    async def run(self, names: Sequence[str], transfer: Transfer) -> None:
        """Delete files by name, all below `folder/`, or all that match a pattern; tells the transfer of each that is
        gone, and why others are not. Cancelling stops between two files.
        """
        transfer.start_phase(Phase.MOVING)
        loop = asyncio.get_running_loop()

        def told(result: Removed | Fault) -> None:
            loop.call_soon_threadsafe(transfer.emit, result)

        def found(count: int) -> None:
            transfer.counters.files_total = count

        await self.threads.run_cancellable(self.threads.disk, lambda stop: self._remove(names, stop, found, told))
        await self.announcer.try_sync()

    def _remove(
        self,
        names: Sequence[str],
        stop: Callable[[], bool],
        found: Callable[[int], None],
        told: Callable[[Removed | Fault], None],
    ) -> None:
        meant = {name: self._match_names(name) for name in names}
        missing = [name for name, files in meant.items() if not files]
        # One that several arguments mean is deleted once.
        wanted = {file.name: file for files in meant.values() for file in files}
        found(len(missing) + len(wanted))
        for file in wanted.values():
            if stop():
                return
            try:
                self.folder.remove(file.name, file.fingerprint)
            except PeerError as error:
                told(Fault.of(error, file.name))
                continue
            self.library.remove([file])
            told(Removed(file.name, file.id, file.size))
        for name in missing:
            told(Fault.of(_missing(name)))

    def _match_names(self, name: str) -> list[LocalFile]:
        """Return what a download of `name` would mean, but never a file whose name differs in case only."""
        held = self.library.by_name(name)
        if held is not None and held.name == name:
            return [held]
        if name.endswith("/"):
            inside = [other for other in self.library.names() if other.startswith(name)]
        elif is_pattern(name):
            matches = _matcher(name)
            inside = [other for other in self.library.names() if matches(other)]
        else:
            return []
        found = [self.library.by_name(other) for other in sorted(inside)]
        return [held for held in found if held is not None]


def _matcher(pattern: str) -> Callable[[str], object]:
    """Judge of names as the tracker's for downloads: `*` and `?` over the whole name, in any case; `[` is itself."""
    wanted = re.compile(fnmatch.translate(fold(pattern).replace("[", "[[]")))
    return lambda name: wanted.match(fold(name))


def _missing(name: str) -> NoSuchFile:
    what = "that matches" if is_pattern(name) else "of that name"
    return NoSuchFile(f"this peer does not share a file {what}", name=name)
