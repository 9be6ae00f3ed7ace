"""This peer's own copies deleted and withdrawn, at the word of its own user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from node.errors import NoSuchFile, PeerError
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
        """Delete files by name, or all below `folder/`; return those that are gone, and why others are not."""
        removed, faults = await self.threads.run(self.threads.disk, self._remove, names)
        await self.announcer.try_sync()
        return removed, faults

    def _remove(self, names: Sequence[str]) -> tuple[list[Held], list[Fault]]:
        removed: list[Held] = []
        faults: list[Fault] = []
        for name in dict.fromkeys(names):
            held = self._meant(name)
            if not held:
                faults.append(Fault.of(NoSuchFile("this peer does not share a file of that name", name=name)))
            for file in held:
                try:
                    self.folder.remove(file.name, file.stamp)
                    removed += self.library.remove([file])
                except PeerError as error:
                    faults.append(Fault.of(error, file.name))
        return removed, faults

    def _meant(self, name: str) -> list[Held]:
        if name.endswith("/"):
            inside = sorted(other for other in self.library.names() if other.startswith(name))
            found = [self.library.by_name(other) for other in inside]
        else:
            found = [self.library.by_name(name)]
        return [held for held in found if held is not None and (held.name == name or name.endswith("/"))]
