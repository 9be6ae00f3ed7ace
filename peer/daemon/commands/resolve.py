"""What the arguments of a download mean: names, ids, folders, patterns.

Queries the tracker and the library. Never changes anything.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from common.control_messages import Hint
from common.printable import printable
from common.status_messages import ListedFile
from daemon.errors import AmbiguousName, NoSuchFile, PeerError
from daemon.library.library import Library, LocalFile
from daemon.models import Attributes, RemoteFile, Version
from daemon.runtime.concurrency import paced
from daemon.storage.names import check_name, fold, is_pattern
from daemon.tracker_client.client import TrackerClient

_ID = re.compile(r"[0-9a-f]{64}")
# Part of an id as tables show it, or an id in upper case: hardly ever a file's name.
_LIKE_AN_ID = re.compile(r"[0-9a-fA-F]{12,}")

# Of one command, this many unknown names are checked for being folders. Each check is a query.
_FOLDER_QUERIES_MAX = 10


class ResolvedFile(NamedTuple):
    """One file to download."""

    file: RemoteFile
    # Indexes, from 0, of the command's arguments that mean it.
    arguments: tuple[int, ...]


class Unresolved(NamedTuple):
    """A name or argument that means no file, or several."""

    error: PeerError
    # Indexes, from 0, of the command's arguments.
    arguments: tuple[int, ...]


@dataclass(slots=True)
class _Answers:
    """What the tracker has answered about the arguments of one command."""

    # By folded name.
    by_name: defaultdict[str, list[RemoteFile]] = field(default_factory=lambda: defaultdict(list))
    by_id: defaultdict[str, list[RemoteFile]] = field(default_factory=lambda: defaultdict(list))
    folder_queries: int = 0


class Resolver:
    """Turns arguments into files."""

    def __init__(self, tracker: TrackerClient, library: Library) -> None:
        self._tracker = tracker
        self._library = library

    async def resolve(self, arguments: Sequence[str], *, newest: bool = False) -> list[ResolvedFile | Unresolved]:
        """Find the files that the arguments mean.

        Args:
            arguments: Names, ids, folders ("name/") or patterns with `*` and `?`.
            newest: Whether a name with several versions means the one that was modified last.

        Returns:
            Each file once, in the order of the arguments, and each argument or name without exactly one version. Files
            that are named by name or id have their holders. Files of a folder or pattern have none, since their tickets
            would expire before the last of ten thousand files is requested.

        Raises:
            TrackerUnreachable, NotLoggedIn: The tracker cannot be queried.
        """
        answers = await self._query(arguments)
        choose = _newest_version if newest else _only_version
        positions: defaultdict[str, list[int]] = defaultdict(list)
        for position, argument in enumerate(arguments):
            positions[argument].append(position)
        # By folded name and id, or by name and "" for an error.
        merged: dict[tuple[str, str], tuple[RemoteFile | PeerError, list[int]]] = {}
        async for argument, indexes in paced(positions.items()):
            outcomes: Iterable[RemoteFile | PeerError]
            try:
                outcomes = await self._resolve_one(argument, answers, choose)
            except PeerError as error:
                error.name = error.name or argument
                outcomes = (error,)
            async for outcome in paced(outcomes):
                if isinstance(outcome, PeerError):
                    merged.setdefault((outcome.name, ""), (outcome, []))[1].extend(indexes)
                    continue
                key = (fold(outcome.version.name), outcome.version.id)
                earlier, earlier_indexes = merged.get(key, (outcome, []))
                # A name or id brings holders, a pattern does not.
                merged[key] = (outcome if outcome.holders else earlier), earlier_indexes + indexes
        resolved: list[ResolvedFile | Unresolved] = []
        async for outcome, indexes in paced(merged.values()):
            positions_of = tuple(sorted(indexes))
            if isinstance(outcome, PeerError):
                resolved.append(Unresolved(outcome, positions_of))
            else:
                resolved.append(ResolvedFile(outcome, positions_of))
        return resolved

    async def _query(self, arguments: Sequence[str]) -> _Answers:
        """Query the tracker for all names and ids at once."""
        answers = _Answers()
        ids = [argument for argument in arguments if _ID.fullmatch(argument)]
        names = [argument for argument in arguments if not _ID.fullmatch(argument) and _is_name(argument)]
        for found in await self._tracker.query(names=names):
            answers.by_name[fold(found.version.name)].append(found)
        for found in await self._tracker.query(ids=ids):
            answers.by_id[found.version.id].append(found)
        return answers

    async def _resolve_one(self, argument: str, answers: _Answers, choose: _Choose) -> Iterable[RemoteFile | PeerError]:
        if _ID.fullmatch(argument):
            versions = answers.by_id.get(argument) or _local_versions(self._library.by_id(argument))
            if not versions:
                raise NoSuchFile(f"no online peer has a file of the id {argument}", hint=Hint.LIST_FILES)
            return versions[:1]
        folded = fold(argument)
        if argument.endswith("/"):
            return await self._match(argument, argument + "*", lambda name: name.startswith(folded), choose)
        if found := answers.by_name.get(folded):
            return [choose(argument, found, [version for version in found if version.holders])]
        local = self._library.by_name(argument)
        if local is not None:
            return _local_versions([local])
        if is_pattern(argument):
            return await self._match(argument, argument, lambda name: True, choose)
        check_name(argument)
        if await self._is_folder(argument, answers):
            raise NoSuchFile(f'"{argument}" is a folder; add a slash: {argument}/')
        hint = Hint.SHOW_FULL_IDS if _LIKE_AN_ID.fullmatch(argument) else Hint.LIST_FILES
        raise NoSuchFile(f'no online peer has "{argument}"', hint=hint)

    async def _is_folder(self, name: str, answers: _Answers) -> bool:
        """Return whether the network has a file in a folder of this name; False after too many such queries."""
        answers.folder_queries += 1
        if answers.folder_queries > _FOLDER_QUERIES_MAX:
            return False
        # This only improves an error message, so a tracker that does not answer now changes nothing.
        with suppress(PeerError):
            async for page in self._tracker.files(name + "/*"):
                if any(fold(file.name).startswith(fold(name) + "/") for file in page):
                    return True
        return False

    async def _match(
        self, argument: str, pattern: str, accept: Callable[[str], bool], choose: _Choose
    ) -> Iterable[RemoteFile | PeerError]:
        """Return the files of the network that match; an error for each name that has several versions.

        Args:
            argument: The argument, for messages.
            pattern: The pattern for the tracker.
            accept: Returns whether a folded name matches.
        """
        # By folded name.
        listed: defaultdict[str, list[ListedFile]] = defaultdict(list)
        async for page in self._tracker.files(pattern):
            async for file in paced(page):
                folded = fold(file.name)
                if accept(folded):
                    listed[folded].append(file)
        if not listed:
            raise NoSuchFile(
                f'no file of an online peer matches "{printable(argument)}"', name=argument, hint=Hint.LIST_FILES
            )
        outcomes: list[RemoteFile | PeerError] = []
        async for files in paced(listed.values()):
            name = files[0].name
            local = self._library.by_name(name)
            own_id = local.id if local is not None else ""
            elsewhere = [file for file in files if file.id != own_id or file.holders + file.partial > 1]
            try:
                outcomes.append(choose(name, _listed_versions(files), _listed_versions(elsewhere)))
            except AmbiguousName as error:
                outcomes.append(error)
        return outcomes


def _local_versions(files: Iterable[LocalFile]) -> list[RemoteFile]:
    return [RemoteFile(file.version, ()) for file in files]


def _listed_versions(files: Iterable[ListedFile]) -> list[RemoteFile]:
    return [
        RemoteFile(Version(file.name, file.id, file.size, Attributes(file.modified, file.executable)), ())
        for file in files
    ]


# Chooses a version of a name: of all versions, and of those that other peers have.
_Choose = Callable[[str, Sequence[RemoteFile], Sequence[RemoteFile]], RemoteFile]


def _only_version(name: str, versions: Sequence[RemoteFile], elsewhere: Sequence[RemoteFile]) -> RemoteFile:
    """Return the only version of a name.

    A version that only this peer has is no choice: another one of this name cannot be stored beside it.

    Raises:
        AmbiguousName: There are several.
    """
    choices = elsewhere or versions
    ids = _ids(choices)
    if len(ids) > 1:
        message = f"{name} is ambiguous ({len(ids)} different files: {', '.join(ids)})"
        raise AmbiguousName(message, name=name, ids=ids, hint=Hint.CHOOSE_VERSION)
    return choices[0]


def _newest_version(name: str, versions: Sequence[RemoteFile], elsewhere: Sequence[RemoteFile]) -> RemoteFile:
    """Return the version of a name that was modified last, also if only this peer has it.

    Raises:
        AmbiguousName: No time is known, or several versions have the latest.
    """
    latest = max((_modified(found) for found in versions), default=-math.inf)
    choices = [found for found in versions if _modified(found) == latest]
    ids = _ids(choices)
    if len(ids) > 1:
        why = "have the same time of modification" if latest >= 0 else "have no known time of modification"
        message = f"{name} has no newest version: {len(ids)} different files {why} ({', '.join(ids)})"
        raise AmbiguousName(message, name=name, ids=ids, hint=Hint.CHOOSE_BY_ID)
    return choices[0]


def _modified(file: RemoteFile) -> float:
    """Return the time of modification; an unknown one is before all others."""
    modified = file.version.attributes.modified
    return -math.inf if modified is None else modified


def _ids(versions: Iterable[RemoteFile]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found.version.id for found in versions))


def _is_name(argument: str) -> bool:
    try:
        check_name(argument)
    except PeerError:
        return False
    return True
