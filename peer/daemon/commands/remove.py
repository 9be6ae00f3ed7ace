"""The remove command: deletes this peer's own copies and withdraws them from the index."""

from __future__ import annotations

import asyncio
import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from common.control_messages import Fault, Phase, Removed
from common.printable import printable
from daemon.errors import NoSuchFile, PeerError
from daemon.library.library import Library, LocalFile
from daemon.runtime.batches import batched
from daemon.runtime.concurrency import Threads
from daemon.runtime.transfers import Transfer
from daemon.storage.fingerprints import Fingerprint
from daemon.storage.names import fold, is_pattern
from daemon.storage.removal import UnwantedFile
from daemon.storage.shared_folder import SharedFolder
from daemon.tracker_client.announcer import Announcer

# Files that are deleted and made durable together.
_BATCH_FILES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveHandler:
    """Runs remove commands."""

    folder: SharedFolder
    library: Library
    announcer: Announcer
    threads: Threads

    async def run(self, names: Sequence[str], transfer: Transfer) -> None:
        """Delete shared files. Cancelling stops between two files.

        Args:
            names: Names, folders ("name/") or patterns with `*` and `?`.
            transfer: Gets a result for each file, and a fault for each argument without a file.
        """
        transfer.start_phase(Phase.MOVING)
        loop = asyncio.get_running_loop()

        def on_results(results: Sequence[Removed | Fault]) -> None:
            loop.call_soon_threadsafe(transfer.emit, *results)

        def on_total(files: int) -> None:
            transfer.counters.files_total = files

        await self.threads.run_cancellable(
            self.threads.disk, lambda stop: self._remove(names, stop, on_total, on_results)
        )
        await self.announcer.try_sync()

    def _remove(
        self,
        names: Sequence[str],
        stop: Callable[[], bool],
        on_total: Callable[[int], None],
        on_results: Callable[[Sequence[Removed | Fault]], None],
    ) -> None:
        """Delete the files, each once. Blocking."""
        positions: dict[str, tuple[int, ...]] = {}
        for position, name in enumerate(names):
            positions[name] = (*positions.get(name, ()), position)
        unmatched: dict[str, tuple[int, ...]] = {}
        matched: dict[str, tuple[LocalFile, tuple[int, ...]]] = {}
        for name, arguments in positions.items():
            files = self._match_names(name)
            if not files:
                unmatched[name] = arguments
            for file in files:
                earlier = matched[file.name][1] if file.name in matched else ()
                matched[file.name] = file, tuple(sorted(earlier + arguments))
        on_total(len(unmatched) + len(matched))
        for batch in batched(matched.values(), _BATCH_FILES):
            outcomes = self.folder.remove([UnwantedFile(file.name, file.fingerprint) for file, _ in batch], stop=stop)
            try:
                self.library.remove(file for (file, _), error in zip(batch, outcomes, strict=False) if error is None)
            finally:
                on_results([_result(*item, error) for item, error in zip(batch, outcomes, strict=False)])
            if len(outcomes) < len(batch):
                return
        faults = []
        for name, arguments in unmatched.items():
            what = "no file that matches" if is_pattern(name) else "no file named"
            missing = NoSuchFile(f'this peer shares {what} "{printable(name)}"')
            faults.append(Fault.of(missing, name, arguments))
        on_results(faults)

    def _match_names(self, name: str) -> list[LocalFile]:
        """Return the shared files that an argument means, as for a download."""
        local = self.library.by_name(name)
        if local is not None and not self._is_another_file(name, local):
            return [local]
        folded = fold(name)
        if name.endswith("/"):
            found = [other for other in self.library.names() if fold(other).startswith(folded)]
        elif is_pattern(name):
            matches = _matcher(name)
            found = [other for other in self.library.names() if matches(other)]
        else:
            return []
        files = [self.library.by_name(other) for other in sorted(found)]
        return [file for file in files if file is not None]

    def _is_another_file(self, name: str, local: LocalFile) -> bool:
        """Return whether the name is exactly that of a file beside `local`, which is not shared because of it."""
        if name == local.name:
            return False
        (present,) = self.folder.fingerprints([name])
        # The file system may fold names, too; then it is the same file.
        return isinstance(present, Fingerprint) and not present.equals_but_ctime(local.fingerprint)


def _result(file: LocalFile, arguments: tuple[int, ...], error: PeerError | None) -> Removed | Fault:
    if error is not None:
        return Fault.of(error, file.name, arguments)
    return Removed(file.name, file.id, file.size, arguments)


def _matcher(pattern: str) -> Callable[[str], object]:
    """Return a function that matches names as the tracker does for downloads.

    `*` and `?` apply to the complete name, in any case. `[` is an ordinary character.
    """
    expression = re.compile(fnmatch.translate(fold(pattern).replace("[", "[[]")))
    return lambda name: expression.match(fold(name))
