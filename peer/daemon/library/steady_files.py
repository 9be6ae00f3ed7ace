"""Adds files that a command names to the library, unless another program still writes to them.

Such a file would be announced, and be gone at the next scan. So it is left to the scans, which share it when it stops
changing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from daemon.errors import BeingWritten, FileChanged, Interrupted, PeerError
from daemon.library.file_hasher import FileProgress
from daemon.library.library import LocalFile
from daemon.library.scanner import Scanner
from daemon.storage.fingerprints import Fingerprint
from daemon.storage.hashing import CancelCheck
from daemon.storage.shared_folder import SharedFolder

# A file that was changed within this many seconds, and that a program has open for writing, is being written to.
RECENT_SECONDS = 5.0
# A file that was changed within this many seconds is looked at again after them: a program may open it for each write.
SECOND_LOOK_SECONDS = 0.5
# Seconds between two questions whether to stop waiting.
_WAIT_STEP = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class SteadyFiles:
    """Files of one shared folder."""

    folder: SharedFolder
    scanner: Scanner
    # Time in Unix seconds, and a wait in seconds.
    clock: Callable[[], float] = time.time
    wait: Callable[[float], object] = time.sleep

    def index(
        self, names: Sequence[str], *, stop: CancelCheck, progress: FileProgress | None = None
    ) -> list[LocalFile | PeerError]:
        """Add files to the library, as Scanner.index_files does; BeingWritten for those that a program writes to.

        It takes SECOND_LOOK_SECONDS at most if a file was changed just now.

        Raises:
            Interrupted: if `stop` returned True.
            DiskFull, StorageFault: if the manifest cache cannot be written.
        """
        before = dict(zip(names, self.folder.fingerprints(names), strict=True))
        recent = [name for name, found in before.items() if self._age(found) < RECENT_SECONDS]
        written = set(filter(self._has_writer, recent))
        steady = [name for name in names if name not in written]
        indexed = self.scanner.index_files(steady, stop=stop, progress=progress)
        outcomes = dict(zip(steady, indexed, strict=True))
        self._wait_for([before[name] for name in steady], stop)
        for name, now in zip(steady, self.folder.fingerprints(steady), strict=True):
            outcome = outcomes[name]
            if isinstance(outcome, LocalFile):
                changed = isinstance(now, Fingerprint) and not now.equals_but_ctime(outcome.fingerprint)
            else:
                changed = isinstance(outcome, FileChanged) and _is_other(before[name], now)
            if changed:
                written.add(name)
        self.scanner.remove_stale(written)
        return [being_written(name) if name in written else outcomes[name] for name in names]

    def _age(self, found: Fingerprint | PeerError | None) -> float:
        """Return the seconds since a file was changed; a time in the future counts as long ago."""
        age = self.clock() - found.mtime_ns / 1e9 if isinstance(found, Fingerprint) else -1.0
        return age if age >= 0 else RECENT_SECONDS

    def _has_writer(self, name: str) -> bool:
        try:
            with self.folder.open(name) as file, file.handle as fd:
                return self.folder.disk.has_writer(fd)
        except PeerError:
            # It is reported by the one who reads the file.
            return False

    def _wait_for(self, found: Sequence[Fingerprint | PeerError | None], stop: CancelCheck) -> None:
        while (left := SECOND_LOOK_SECONDS - min(map(self._age, found), default=RECENT_SECONDS)) > 0:
            if stop():
                raise Interrupted("stopped while sharing files")
            self.wait(min(left, _WAIT_STEP))


def being_written(name: str) -> BeingWritten:
    """Return the error for a file of the shared folder that is not shared now."""
    return BeingWritten("it is being written to; it will be shared when it stops changing", name=name)


def _is_other(before: Fingerprint | PeerError | None, now: Fingerprint | PeerError | None) -> TypeGuard[Fingerprint]:
    return isinstance(before, Fingerprint) and isinstance(now, Fingerprint) and now != before
