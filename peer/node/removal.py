"""This peer's own copies deleted and withdrawn, at the word of its own user."""

from __future__ import annotations

from collections.abc import Sequence

from node.announcer import Announcer
from node.errors import NoSuchFile, PeerError
from node.jobs import Fault
from node.library import Held, Library
from node.shared_folder import SharedFolder
from node.threads import Threads


class Removal:
    """Deletes shared files."""

    def __init__(self, *, folder: SharedFolder, library: Library, announcer: Announcer, threads: Threads) -> None:
        self._folder = folder
        self._library = library
        self._announcer = announcer
        self._threads = threads

    async def remove(self, names: Sequence[str]) -> tuple[list[Held], list[Fault]]:
        """Delete files by name, or all below `folder/`; return those that are gone, and why others are not."""
        removed, faults = await self._threads.run(self._threads.disk, self._remove, names)
        await self._announcer.try_sync()
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
                    self._folder.remove(file.name, file.stamp)
                    removed += self._library.remove([file])
                except PeerError as error:
                    faults.append(Fault.of(error, file.name))
        return removed, faults

    def _meant(self, name: str) -> list[Held]:
        if name.endswith("/"):
            inside = sorted(other for other in self._library.names() if other.startswith(name))
            found = [self._library.by_name(other) for other in inside]
        else:
            found = [self._library.by_name(name)]
        return [held for held in found if held is not None and (held.name == name or name.endswith("/"))]
