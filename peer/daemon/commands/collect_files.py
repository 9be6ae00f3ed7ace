"""The first step of an upload: finds the files that the user's paths mean, and the names that they get.

Everything here blocks. Nothing here changes a file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from common.control_messages import Notice
from common.formatting import pluralise
from common.printable import printable
from common.state_files import is_state_dir
from daemon.errors import BadName, BadUsage, NoSuchFile, NotAllowed, PeerError, StorageFault
from daemon.storage.dirfd import DOT_FOLDER
from daemon.storage.disk import storage_faults
from daemon.storage.ignore_rules import IGNORE_FILE, ignored_error
from daemon.storage.names import check_name, fold
from daemon.storage.shared_folder import SharedFolder

_OTHER_STATE_DIR = "the state folder of a tracker or another pserver, which is never shared"
_HIDDEN = "begins with a dot: hidden folders are not shared"


class ImportItem(NamedTuple):
    """A file to share."""

    path: Path
    # The name that it gets.
    name: str
    size: int
    # Whether it is in the shared folder already.
    inside: bool


class Rejected(NamedTuple):
    """A file or path that cannot be shared."""

    # The path as the user gave it, or the name that the file would get.
    name: str
    error: PeerError


Collected = ImportItem | Rejected | Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class Collector:
    """Finds files for this peer's own user."""

    folder: SharedFolder
    # Contains the session and the cookie, so nothing in it is ever shared.
    state_dir: Path

    def collect(self, path: str) -> list[Collected]:
        """Find the files that a path means.

        A file means itself. A folder means every regular file in it, under names that begin with the folder's own. A
        link is followed if it is the path itself. Links inside a folder, and files that `.p2pignore` leaves out, are
        skipped and counted in a notice. A path that `.p2pignore` leaves out is rejected.

        Args:
            path: An absolute path.

        Returns:
            The files, what cannot be shared and why, and notices.
        """
        return list(self._collect(path))

    def _collect(self, path: str) -> Iterator[Collected]:
        path = self._stored_spelling(path)
        try:
            with storage_faults(f"opening {path}"):
                status = os.stat(path)
        except ValueError:
            yield Rejected(path, NoSuchFile("the path contains a NUL character", name=path))
            return
        except PeerError as error:
            missing = NoSuchFile(f"{printable(path)}: no such file", name=path)
            yield Rejected(path, error if os.path.exists(path) else missing)
            return
        real = Path(path).resolve()
        if real.is_relative_to(self.state_dir.resolve()):
            yield Rejected(
                path, NotAllowed(f"{printable(path)}: the pserver's state folder is never shared", name=path)
            )
        elif any(map(is_state_dir, (real, *real.parents))):
            yield Rejected(path, NotAllowed(f"{printable(path)}: part of {_OTHER_STATE_DIR}", name=path))
        elif stat.S_ISREG(status.st_mode):
            yield self._named(self._item(Path(path), Path(path).name, path))
        elif not stat.S_ISDIR(status.st_mode):
            yield Rejected(path, NoSuchFile(f"{printable(path)}: neither a file nor a folder", name=path))
        elif not real.name:
            yield Rejected(path, BadUsage(f"{path}: has no name of its own; upload the folders in it", name=path))
        elif real.name.startswith(".") and real != self.folder.root.resolve():
            yield Rejected(path, BadName(_HIDDEN, name=path))
        else:
            yield from list(self._walk(real)) or [Notice(f"{real.name}: contains no regular file")]

    def _stored_spelling(self, path: str) -> str:
        """Return the path as it is spelled in the shared folder, if nothing has it as the user spells it.

        Names that are equal after folding are one name. Paths outside the shared folder are not names.
        """
        missing: list[str] = []
        found = Path(path)
        while not os.path.lexists(found):
            missing.append(found.name)
            found = found.parent
        if not missing or not found.resolve().is_relative_to(self.folder.root.resolve()):
            return path
        for component in map(fold, reversed(missing)):
            try:
                equal = [name for name in os.listdir(found) if fold(name) == component]
            except OSError:
                return path
            if len(equal) != 1:
                return path
            found /= equal[0]
        return str(found)

    def _walk(self, base: Path) -> Iterator[Collected]:
        own_state_dir = self.state_dir.resolve()
        root = self.folder.root.resolve()
        rules = self.folder.ignore_rules
        unreadable: list[OSError] = []
        skipped = ignored = 0
        # What the names in the shared folder begin with.
        inside_root = base.is_relative_to(root)
        prefix = base.relative_to(root).as_posix() if inside_root else base.name
        if prefix != "." and (reason := rules.reason_for(prefix, is_folder=True)):
            yield Rejected(prefix, ignored_error(prefix, reason))
            return

        def name_of(path: Path) -> str:
            return f"{base.name}/{path.relative_to(base).as_posix()}"

        def is_ignored(path: Path, *, is_folder: bool = False) -> bool:
            name = os.path.normpath(f"{prefix}/{path.relative_to(base).as_posix()}")
            return bool(rules.reason_for(name, is_folder=is_folder))

        for folder, folders, files in os.walk(base, onerror=unreadable.append):
            if Path(folder) == own_state_dir:
                folders.clear()
                continue
            if is_state_dir(folder):
                folders.clear()
                yield Rejected(name_of(Path(folder)), NotAllowed(f"this is {_OTHER_STATE_DIR}"))
                continue
            hidden = sorted(name for name in folders if name.startswith("."))
            folders[:] = sorted(set(folders).difference(hidden))
            # In the shared folder, `.p2p` is the pserver's own.
            inside = Path(folder).is_relative_to(root)
            for name in hidden:
                if not (inside and name == DOT_FOLDER):
                    yield Rejected(name_of(Path(folder) / name), BadName(_HIDDEN))
            left_out = {name for name in folders if is_ignored(Path(folder) / name, is_folder=True)}
            folders[:] = [name for name in folders if name not in left_out]
            ignored += len(left_out)
            skipped += sum(os.path.islink(os.path.join(folder, name)) for name in folders)
            for leaf in sorted(files):
                path = Path(folder) / leaf
                try:
                    regular = stat.S_ISREG(path.lstat().st_mode)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    unreadable.append(error)
                    continue
                if is_ignored(path):
                    ignored += 1
                elif regular:
                    yield self._item(path, name_of(path), str(path))
                else:
                    skipped += 1
        if skipped:
            yield Notice(f"{base.name}: {_skipped(skipped)}")
        if ignored:
            yield Notice(f"{base.name}: {pluralise(ignored, 'name')} left out by {IGNORE_FILE}")
        for fault in unreadable:
            path = Path(fault.filename)
            yield Rejected(
                name_of(path), StorageFault(f"{printable(str(path))}: {fault.strerror}; the other files are shared")
            )

    def _named(self, found: ImportItem | Rejected) -> ImportItem | Rejected:
        """Return the file that a command names, unless `.p2pignore` leaves it out."""
        if isinstance(found, ImportItem) and (reason := self.folder.ignore_rules.reason_for(found.name)):
            return Rejected(found.name, ignored_error(found.name, reason))
        return found

    def _item(self, path: Path, name: str, shown: str) -> ImportItem | Rejected:
        try:
            name_inside = self.folder.name_of(path)
            size = path.stat().st_size
            if name_inside is not None:
                return ImportItem(path, name_inside, size, inside=True)
            return ImportItem(path, check_name(name), size, inside=False)
        except BadName as error:
            return Rejected(shown, BadName(f"{error.message}; rename it", name=error.name))
        except PeerError as error:
            return Rejected(shown, error)
        except OSError as error:
            return Rejected(shown, NoSuchFile(f"{printable(shown)}: {error.strerror}", name=shown))


def _skipped(count: int) -> str:
    return "1 link or special file was skipped" if count == 1 else f"{count:,} links or special files were skipped"
