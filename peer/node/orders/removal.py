"""This peer's own copies deleted and withdrawn, at the word of its own user."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from node.errors import NoSuchFile, PeerError
from node.files.names import fold, is_pattern
from node.files.shared_folder import SharedFolder
from node.ground.events import Fault
from node.ground.threads import Threads
from node.holdings.library import Held, Library
from node.membership.announcer import Announcer


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """Deletes shared files."""

    folder: SharedFolder
    library: Library
    announcer: Announcer
    threads: Threads

    async def remove(self, names: Sequence[str]) -> tuple[list[Held], list[Fault]]:
        """Delete files by name, all below `folder/`, or all that match a pattern; return those that are gone, and why
        others are not.
        """
        removed, faults = await self.threads.run(self.threads.disk, self._remove, names)
        await self.announcer.try_sync()
        return removed, faults

    def _remove(self, names: Sequence[str]) -> tuple[list[Held], list[Fault]]:
        meant = {name: self._meant(name) for name in names}
        removed: list[Held] = []
        faults = [Fault.of(_missing(name)) for name, files in meant.items() if not files]
        # One that several arguments mean is deleted once.
        for file in {file.name: file for files in meant.values() for file in files}.values():
            try:
                self.folder.remove(file.name, file.stamp)
                removed += self.library.remove([file])
            except PeerError as error:
                faults.append(Fault.of(error, file.name))
        return removed, faults

    def _meant(self, name: str) -> list[Held]:
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
