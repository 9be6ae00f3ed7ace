"""What the arguments of a download mean: names, ids, folders, patterns.

Asks the tracker and the library, changes nothing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from common.status_messages import ListedFile
from daemon.errors import AmbiguousName, NoSuchFile, PeerError
from daemon.library.library import Library, LocalFile
from daemon.models import RemoteFile, Version
from daemon.storage.names import check_name, is_pattern
from daemon.tracker_client.client import TrackerClient

_ID = re.compile(r"[0-9a-f]{64}")
# No name that anybody would give: an id in part, as a table shows it, or in the other case.
_LIKE_AN_ID = re.compile(r"[0-9a-fA-F]{12,}")

# A version to fetch, or why an argument gives none.
Resolved = RemoteFile | tuple[str, PeerError]

# Names of an order that nobody has and that the tracker is asked about once more.
_FOLDERS_ASKED = 10


@dataclass(slots=True)
class _Answers:
    """What the tracker has answered about one order's arguments, and how often it was asked for folders."""

    by_name: defaultdict[str, list[RemoteFile]] = field(default_factory=lambda: defaultdict(list))
    by_id: defaultdict[str, list[RemoteFile]] = field(default_factory=lambda: defaultdict(list))
    folder_queries: int = 0


class Resolver:
    """Turns arguments into versions."""

    def __init__(self, tracker: TrackerClient, library: Library) -> None:
        self._tracker = tracker
        self._library = library

    async def resolve(self, arguments: Sequence[str]) -> list[Resolved]:
        """Return the versions that the arguments mean, each once, in order, and a fault for each that means none.

        Holders and tickets are given for what was named outright; what a folder or a pattern matched comes without,
        since a ticket would be old by the time the last of ten thousand is fetched.
        """
        names = [a for a in arguments if not _ID.fullmatch(a) and not a.endswith("/")]
        ids = [a for a in arguments if _ID.fullmatch(a)]
        answers = _Answers()
        for found in await self._tracker.query(names=[n for n in names if _is_name(n)]) if names else ():
            answers.by_name[found.version.name].append(found)
        for found in await self._tracker.query(ids=ids) if ids else ():
            answers.by_id[found.version.id].append(found)
        resolved: dict[tuple[str, str], Resolved] = {}
        for argument in dict.fromkeys(arguments):
            try:
                for version in await self._one(argument, answers):
                    key = (version.version.name, version.version.id) if isinstance(version, RemoteFile) else version
                    resolved[(str(key[0]), str(key[1]))] = version
            except PeerError as error:
                resolved[argument, ""] = (argument, error)
        return list(resolved.values())

    async def _one(self, argument: str, answers: _Answers) -> Iterable[Resolved]:
        if _ID.fullmatch(argument):
            versions = answers.by_id.get(argument) or self._held(self._library.by_id(argument))
            if not versions:
                raise NoSuchFile("nobody who is alive has a file of that id", name=argument)
            return versions[:1]
        if argument.endswith("/"):
            return await self._matching(argument, argument + "*", lambda name: name.startswith(argument))
        if found := answers.by_name.get(argument):
            # What only this peer has under the name is no choice: it lies here, and the other contents are refused.
            return [_only(argument, [version for version in found if version.holders] or found)]
        held = self._library.by_name(argument)
        if held is not None:
            return self._held([held])
        if is_pattern(argument):
            return await self._matching(argument, argument, lambda name: True)
        check_name(argument)
        if await self._is_folder(argument, answers):
            message = f"it is a folder: name it with a / at the end: {argument}/"
            raise NoSuchFile(message, name=argument)
        if _LIKE_AN_ID.fullmatch(argument):
            message = "nobody who is alive has a file of that name; an id has 64 digits: `files --json` tells it whole"
            raise NoSuchFile(message, name=argument)
        raise NoSuchFile("nobody who is alive has a file of that name: `files` lists what there is", name=argument)

    async def _is_folder(self, name: str, answers: _Answers) -> bool:
        """Tell whether the network lists anything below a name; False, too, if that was asked too often."""
        answers.folder_queries += 1
        if answers.folder_queries > _FOLDERS_ASKED:
            return False
        # It is for the sake of a better sentence: a tracker that does not answer now changes nothing.
        with suppress(PeerError):
            async for page in self._tracker.files(name + "/*"):
                if any(file.name.startswith(name + "/") for file in page):
                    return True
        return False

    async def _matching(self, argument: str, pattern: str, accept: Callable[[str], bool]) -> list[Resolved]:
        """Return what the network lists; a name with several versions is a fault of its own."""
        listed: defaultdict[str, list[ListedFile]] = defaultdict(list)
        async for page in self._tracker.files(pattern):
            for file in page:
                if accept(file.name):
                    listed[file.name].append(file)
        if not listed:
            raise NoSuchFile("nobody who is alive has a file that matches", name=argument)
        resolved: list[Resolved] = []
        for name, files in listed.items():
            held = self._library.by_name(name)
            own = held.id if held is not None else ""
            others = [file for file in files if file.id != own or file.holders + file.partial > 1] or files
            try:
                resolved.append(_only(name, [RemoteFile(Version(f.name, f.id, f.size), ()) for f in others]))
            except AmbiguousName as error:
                resolved.append((name, error))
        return resolved

    @staticmethod
    def _held(files: Iterable[LocalFile]) -> list[RemoteFile]:
        return [RemoteFile(Version(held.name, held.id, held.size), ()) for held in files]


def _only(name: str, versions: Sequence[RemoteFile]) -> RemoteFile:
    ids = tuple(dict.fromkeys(found.version.id for found in versions))
    if len(ids) > 1:
        raise AmbiguousName(
            f"{len(ids)} versions go by that name: name one by its id ({', '.join(ids)})", name=name, ids=ids
        )
    return versions[0]


def _is_name(argument: str) -> bool:
    try:
        check_name(argument)
    except PeerError:
        return False
    return True
